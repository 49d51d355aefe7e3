import { createTableBuilder } from '../model/table-builder.ts'
import type { SideSource } from './lane.ts'

/** Where receivers of traces put spans: rows of `spans`, beside requests in the same journal segments. */
export interface SpanStore extends SideSource {
  /** False when there is no room: the journal takes nothing. Nothing was kept then. */
  add(span: Span): boolean
  /** Resolves when everything added is fsynced. Rejects with SC4104 when the journal has no room. */
  synced(): Promise<void>
  readonly counters: { readonly spans: number; readonly refused: number }
}

export interface Span {
  /** 16 bytes, big-endian as on the wire. */
  readonly traceId: Uint8Array
  /** 8 bytes. */
  readonly spanId: Uint8Array
  /** 8 bytes; zeros or empty for a root. */
  readonly parentSpanId: Uint8Array
  readonly name: string
  readonly kind: '' | 'internal' | 'server' | 'client' | 'producer' | 'consumer'
  readonly service: string
  readonly nodeId: string
  readonly scope: string
  /** Unix time in ns. */
  readonly startNs: bigint
  readonly endNs: bigint
  readonly status: '' | 'ok' | 'error'
  readonly statusMessage: string
  /** Keys are distinct; what is no text is JSON. */
  readonly attributes: Iterable<readonly [key: string, value: string]>
  readonly resource: Iterable<readonly [key: string, value: string]>
  /** Events and links as JSON text; '' when there are none. */
  readonly events: string
}

export interface SpanStoreOptions {
  /** The lane's: hands the builder on; false when the journal has no room. */
  readonly flush: () => boolean
  readonly synced: () => Promise<void>
  readonly clock: { now(): number }
  /** Of a block. */
  readonly rowsMax?: number
  readonly bytesMax?: number
}

const ROWS_MAX = 16_384
const BYTES_MAX = 8 * 1024 ** 2
const NS_PER_DAY = 86_400_000_000_000n
/** As for requests: 32 bits of seconds, 2106. */
const NS_MAX = 2n ** 32n * 1_000_000_000n - 1n
const LOW = 0xffff_ffffn

export function createSpanStore(options: SpanStoreOptions): SpanStore {
  const { flush, synced, clock, rowsMax = ROWS_MAX, bytesMax = BYTES_MAX } = options
  const counters = { spans: 0, refused: 0 }
  const builder = createTableBuilder('spans')
  const end = builder.wide('end_time')
  const duration = builder.wide('duration_ns')
  const received = builder.wide('received')
  const trace = builder.wide('trace_uuid')
  const span = builder.wide('span_number')
  const parent = builder.wide('parent_number')
  const name = builder.text('name')
  const kind = builder.text('kind')
  const service = builder.text('service')
  const node = builder.text('node_id')
  const scope = builder.text('scope')
  const status = builder.text('status')
  const message = builder.text('status_message')
  const attributes = builder.textMap('attributes')
  const resource = builder.textMap('resource')
  const events = builder.long('events')

  function add(one: Span): boolean {
    if ((builder.rows >= rowsMax || builder.bytes >= bytesMax) && !flush()) {
      counters.refused++
      return false
    }
    const row = builder.rows
    const endNs = one.endNs > NS_MAX ? NS_MAX : one.endNs
    const tookNs = endNs > one.startNs ? endNs - one.startNs : 0n
    end.setPair(row, Number(endNs & LOW), Number(endNs >> 32n))
    duration.setPair(row, Number(tookNs & LOW), Number(tookNs >> 32n))
    received.setNumber(row, clock.now())
    trace.setWords(row, word(one.traceId, 4), word(one.traceId, 0), word(one.traceId, 12), word(one.traceId, 8))
    span.setPair(row, word(one.spanId, 4), word(one.spanId, 0))
    parent.setPair(row, word(one.parentSpanId, 4), word(one.parentSpanId, 0))
    name.set(row, one.name)
    kind.set(row, one.kind)
    service.set(row, one.service)
    node.set(row, one.nodeId)
    scope.set(row, one.scope)
    status.set(row, one.status)
    message.set(row, one.statusMessage)
    attributes.set(row, one.attributes)
    resource.set(row, one.resource)
    events.set(row, one.events)
    builder.day = Number(endNs / NS_PER_DAY)
    builder.next()
    counters.spans++
    return true
  }

  return { builders: [builder], gather: () => true, add, synced, counters }
}

/** Four bytes from `at`, big-endian; 0 for what is not there. */
function word(bytes: Uint8Array, at: number): number {
  if (bytes.length < at + 4) return 0
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
}
