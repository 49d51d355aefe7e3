import type { Batch, Identity, NativeBlock, Party } from '../model/batch.ts'
import { type Dictionary, type NativeBlockColumns, readBlock } from '../model/native-read.ts'
import { POINTS } from '../model/phases.ts'
import { CLASSES, OUTCOMES } from '../model/schema.ts'
import { createRollup } from './rollup.ts'
import type { SegmentTable } from './segment.ts'
import { readTable } from './segment-reader.ts'

/**
 * Blocks of `latency_1m` for a segment that has none, from its rows of `requests`, by the code that makes them at the
 * seal. One block a batch of rows: memory stays that of a block.
 */
export async function* rollupsOfRows(requests: SegmentTable, signal?: AbortSignal): AsyncGenerator<NativeBlockColumns> {
  // Bounded by what reads them: nothing goes to the overflow key that would not have gone there anyway.
  const rollup = createRollup({ keysPerMinuteMax: 1 << 20, logMax: LOG_MAX })
  let ids = 0
  for await (const block of readTable(requests, signal === undefined ? {} : { signal })) {
    const batch = batchOf(block, ids)
    ids += batch.identities.length
    rollup.add(batch)
    const sealed = rollup.seal()
    if (sealed === null) continue
    const bytes = Buffer.concat(sealed.buffers)
    for (let at = 0; at < bytes.length; ) {
      const { block: made, end } = readBlock('latency_1m', bytes, at)
      yield made
      at = end
    }
  }
}

/** The same as the one block that would have been made at the seal; null when no row counts. */
export async function rollupBlockOfRows(
  requests: SegmentTable,
  options: { readonly keysPerMinuteMax: number },
): Promise<NativeBlock | null> {
  const rollup = createRollup({ ...options, logMax: LOG_MAX })
  let ids = 0
  for await (const block of readTable(requests)) {
    const batch = batchOf(block, ids)
    ids += batch.identities.length
    rollup.add(batch)
  }
  return rollup.seal()
}

/** Observations of 16 384 rows; 1 MB. */
const LOG_MAX = 1 << 17

const PARTY_FIELDS = ['workload', 'namespace', 'service', 'version', 'principal'] as const

/** A block of requests as the batch that it once was, as far as rollups look at it. Ids of identities begin at `firstId`. */
export function batchOf(block: NativeBlockColumns, firstId = 0): Batch {
  const { rows } = block
  const { identities, identity } = identitiesOf(block, firstId)
  const time = block.bigints('end_time')
  const endSeconds = new Uint32Array(rows)
  const endNanos = new Uint32Array(rows)
  for (let row = 0; row < rows; row++) {
    endSeconds[row] = Number(time[row]! / 1_000_000_000n)
    endNanos[row] = Number(time[row]! % 1_000_000_000n)
  }
  const flags = block.bigints('response_flags')
  return {
    table: 'requests',
    rows,
    streams: [],
    identities,
    stream: new Uint16Array(rows),
    identity,
    endSeconds,
    endNanos,
    duration: Float64Array.from(block.numbers('duration_ns')),
    points: POINTS.map((point) => withoutNulls(block, point)),
    code: Int32Array.from(withoutNulls(block, 'response_code')),
    grpcStatus: Int16Array.from(withoutNulls(block, 'grpc_status')),
    flags: Uint32Array.from(flags, (value) => Number(value & 0xffff_ffffn)),
    responseClass: indexed(block.dictionary('class'), CLASSES),
    outcome: indexed(block.dictionary('outcome'), OUTCOMES),
    attempts: Uint32Array.from(block.numbers('attempts')),
    downstreamReceived: Float64Array.from(block.numbers('downstream_wire_received')),
    downstreamSent: Float64Array.from(block.numbers('downstream_wire_sent')),
    kind: new Uint8Array(rows),
    mutualTls: new Uint8Array(rows),
    secondary: block.has('secondary') ? Uint8Array.from(block.numbers('secondary')) : null,
    column: (name) => {
      const { codes, texts } = block.dictionary(name)
      return {
        codes: Uint16Array.from(codes),
        dictionary: { count: texts.length, text: (code) => texts[code]! },
      }
    },
    traceId: () => '',
    grpcMessages: () => null,
    encode() {
      throw new Error('a batch that was read back is not encoded again')
    },
  }
}

/** −1 for NULL. */
function withoutNulls(block: NativeBlockColumns, name: string): Float64Array {
  const values = Float64Array.from(block.numbers(name))
  const nulls = block.nulls(name)
  if (nulls !== null) for (let row = 0; row < values.length; row++) if (nulls[row] === 1) values[row] = -1
  return values
}

/** Indexes into `names`; 0, which is `unknown`, for what is not among them. */
function indexed({ codes, texts }: Dictionary, names: readonly string[]): Uint8Array {
  const index = texts.map((text) => Math.max(0, names.indexOf(text)))
  return Uint8Array.from(codes, (code) => index[code]!)
}

/** One identity for each combination of the texts that name who talked to whom. */
function identitiesOf(block: NativeBlockColumns, firstId: number): { identities: Identity[]; identity: Uint16Array } {
  const mesh = block.dictionary('mesh')
  const reporter = block.dictionary('reporter')
  const [source, destination] = (['source', 'destination'] as const).map((side) =>
    PARTY_FIELDS.map((field) => block.dictionary(`${side}_${field}`)),
  ) as [Dictionary[], Dictionary[]]
  const all = [mesh, reporter, ...source, ...destination]
  const identities: Identity[] = []
  const identity = new Uint16Array(block.rows)
  const known = new Map<string, number>()
  for (let row = 0; row < block.rows; row++) {
    const key = all.map(({ codes }) => codes[row]!).join(' ')
    let index = known.get(key)
    if (index === undefined) {
      const party = (columns: readonly Dictionary[]): Party => {
        const [workload, namespace, service, version, principal] = columns.map(
          ({ codes, texts }) => texts[codes[row]!]!,
        )
        return {
          workload: workload!,
          namespace: namespace!,
          service: service!,
          version: version!,
          principal: principal!,
          app: '',
          cluster: '',
        }
      }
      index =
        identities.push({
          id: firstId + identities.length,
          mesh: mesh.texts[mesh.codes[row]!]!,
          reporter: (reporter.texts[reporter.codes[row]!] || 'unknown') as Identity['reporter'],
          source: party(source),
          destination: party(destination),
          destinationHost: '',
        }) - 1
      known.set(key, index)
    }
    identity[row] = index
  }
  return { identities, identity }
}
