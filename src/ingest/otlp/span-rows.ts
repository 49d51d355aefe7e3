import { createTableBuilder } from '../../model/table-builder.ts'
import type { SideSource } from '../../pipeline/lane.ts'

/** Rows of the table `spans`, until the lane takes them to the journal. */
export interface SpanRows extends SideSource {
  add(span: SpanRow): void
  /** About what waits here. */
  readonly bytes: number
}

/** One span. 64-bit numbers are two words of 32 bits, the lower one first; bytes are big-endian, as on the wire. */
export interface SpanRow {
  /** ns since the epoch. */
  endLow: number
  endHigh: number
  durationNs: number
  receivedMs: number
  /** 16 bytes at `traceAt`, 8 bytes at `spanAt` and `parentAt`; −1 when missing. */
  view: DataView
  traceAt: number
  spanAt: number
  parentAt: number
  name: string
  kind: string
  service: string
  nodeId: string
  scope: string
  status: string
  statusMessage: string
  attributes: ReadonlyMap<string, string>
  resource: ReadonlyMap<string, string>
  events: string
}

export function createSpanRows(): SpanRows {
  const builder = createTableBuilder('spans')
  const endTime = builder.wide('end_time')
  const duration = builder.wide('duration_ns')
  const received = builder.wide('received')
  const trace = builder.wide('trace_uuid')
  const span = builder.wide('span_number')
  const parent = builder.wide('parent_number')
  const texts = {
    name: builder.text('name'),
    kind: builder.text('kind'),
    service: builder.text('service'),
    nodeId: builder.text('node_id'),
    scope: builder.text('scope'),
    status: builder.text('status'),
    statusMessage: builder.text('status_message'),
  }
  const attributes = builder.textMap('attributes')
  const resource = builder.textMap('resource')
  const events = builder.long('events')
  return {
    builders: [builder],
    gather: () => true,
    get bytes() {
      return builder.bytes
    },
    add(given) {
      const { rows: row } = builder
      const { view, traceAt, spanAt, parentAt } = given
      endTime.setPair(row, given.endLow, given.endHigh)
      duration.setNumber(row, given.durationNs)
      received.setNumber(row, given.receivedMs)
      if (traceAt >= 0) {
        const word = (k: number): number => view.getUint32(traceAt + 4 * k, false)
        trace.setWords(row, word(1), word(0), word(3), word(2))
      }
      if (spanAt >= 0) span.setPair(row, view.getUint32(spanAt + 4), view.getUint32(spanAt))
      if (parentAt >= 0) parent.setPair(row, view.getUint32(parentAt + 4), view.getUint32(parentAt))
      for (const [field, column] of Object.entries(texts)) column.set(row, given[field as keyof typeof texts])
      attributes.set(row, given.attributes)
      resource.set(row, given.resource)
      events.set(row, given.events)
      builder.day = Math.floor((given.endHigh * 2 ** 32 + given.endLow) / 86_400e9)
      builder.node = given.nodeId
      builder.next()
    },
  }
}
