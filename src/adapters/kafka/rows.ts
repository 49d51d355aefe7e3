import type { OutRecord } from '../../kafka/producer.ts'
import { SEGMENT_SCHEMA } from '../../kafka/segment-records.ts'
import type { NativeBlockColumns } from '../../model/native-read.ts'
import type { RowTable } from '../../model/schema.ts'
import { createRowRequests, type RowRequests, type RowSignal } from '../../otlp/row-requests.ts'
import { isRowTable } from '../../pipeline/journal-format.ts'
import type { RowFilter } from '../../pipeline/row-filter.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { readSegment } from '../../pipeline/segment-reader.ts'
import { type KeyName, rowKeys } from './by-key.ts'
import { rowJson } from './row-json.ts'

/**
 * Rows for programs that are not ours, in batches for one produce request each. Rows of one key are on one partition, in the
 * order of the segment.
 *
 *   json   a record is a row; its segment and its place in there are in the headers, so that a reader can tell what it has
 *          already: an edge that was killed in the middle sends the segment again
 *   otlp   a record is an export request of many rows of one partition, as OpenTelemetry's Kafka receiver reads them
 */
export interface RowRecordsOptions {
  /** Partitions of a topic. */
  readonly partitions: (topic: string) => Promise<number>
  readonly topicPrefix: string
  readonly key: KeyName
  readonly filter: RowFilter
  readonly edge: string
  readonly node: string
  /** Bytes of one partition in one produce request. */
  readonly batchBytesMax: number
  /** Told once for each segment: rows that are left out, because the user wants it so. */
  readonly onDropped: (rows: number) => void
}

/** A produce request takes no more than this, whatever the number of partitions. */
const REQUEST_BYTES_MAX = 8 << 20
const REQUEST_RECORDS_MAX = 20_000

export interface JsonRecordsOptions extends RowRecordsOptions {
  readonly tables: readonly RowTable[]
  readonly columns: readonly string[]
}

export async function* jsonRecords(
  segment: Segment,
  options: JsonRecordsOptions,
): AsyncGenerator<readonly OutRecord[]> {
  const { topicPrefix, key, filter, columns, batchBytesMax, edge, node } = options
  const batch = new Batch(batchBytesMax)
  let kept = 0
  for (const table of options.tables) {
    const topic = `${topicPrefix}${table}`
    let at = 0
    for await (const block of readSegment(segment, table)) {
      const keys = rowKeys(block, key, await options.partitions(topic))
      const selected = filter.select(block)
      const json = rowJson(block, columns)
      for (let row = 0; row < block.rows; row++) {
        if (selected !== null && selected[row] === 0) continue
        kept++
        const headers = {
          'content-type': 'application/json',
          'sidecast-schema': String(SEGMENT_SCHEMA),
          'sidecast-edge': edge,
          'sidecast-node': node,
          'sidecast-segment': segment.id,
          'sidecast-row': `${table}/${at + row}`,
        }
        const record = { topic, ...keys(row), value: Buffer.from(json(row)), headers }
        if (batch.isFullFor(record)) yield batch.take()
        batch.add(record)
      }
      at += block.rows
    }
  }
  options.onDropped(rowsOf(segment) - kept)
  if (batch.size > 0) yield batch.take()
}

export interface OtlpRecordsOptions extends RowRecordsOptions {
  readonly signals: readonly RowSignal[]
  readonly version: string
}

/** Topics as OpenTelemetry's Kafka exporter names them. */
const OTLP_TOPICS = { traces: 'otlp_spans', logs: 'otlp_logs' } as const

export async function* otlpRecords(
  segment: Segment,
  options: OtlpRecordsOptions,
): AsyncGenerator<readonly OutRecord[]> {
  const { topicPrefix, key, filter, batchBytesMax, edge, node, version } = options
  // One row more than asked for is in a request, and headers come to it.
  const bytesMax = Math.floor(batchBytesMax / 2)
  const batch = new Batch(batchBytesMax)
  let kept = 0
  for (const signal of options.signals) {
    const topic = `${topicPrefix}${OTLP_TOPICS[signal]}`
    const open = new Map<number, RowRequests>()
    const recordOf = (partition: number, bytes: Buffer): OutRecord => ({
      topic,
      partition,
      key: null,
      value: bytes,
      headers: {
        'content-type': 'application/x-protobuf',
        'sidecast-edge': edge,
        'sidecast-node': node,
        'sidecast-segment': segment.id,
      },
    })
    for await (const block of readSegment(segment, 'requests')) {
      const keys = rowKeys(block, key, await options.partitions(topic))
      for (const [partition, keep] of byPartition(block, filter, keys)) {
        let requests = open.get(partition)
        if (requests === undefined) {
          requests = createRowRequests({ signal, bytesMax, version })
          open.set(partition, requests)
        }
        if (signal === options.signals[0]) for (const one of keep) kept += one
        for (const { bytes } of requests.add(block, keep)) {
          const record = recordOf(partition, bytes)
          if (batch.isFullFor(record)) yield batch.take()
          batch.add(record)
        }
      }
    }
    for (const [partition, requests] of open) {
      const rest = requests.finish()
      if (rest === null) continue
      const record = recordOf(partition, rest.bytes)
      if (batch.isFullFor(record)) yield batch.take()
      batch.add(record)
    }
  }
  options.onDropped(rowsOf(segment) - kept)
  if (batch.size > 0) yield batch.take()
}

/** For each partition a mask over the rows of a block. A request that its proxy told in a better way as well is left out. */
function byPartition(
  block: NativeBlockColumns,
  filter: RowFilter,
  keys: ReturnType<typeof rowKeys>,
): Map<number, Uint8Array> {
  const selected = filter.select(block)
  const secondary = block.has('secondary') ? block.numbers('secondary') : null
  const masks = new Map<number, Uint8Array>()
  for (let row = 0; row < block.rows; row++) {
    if ((selected !== null && selected[row] === 0) || (secondary !== null && secondary[row] !== 0)) continue
    const { partition } = keys(row)
    let mask = masks.get(partition)
    if (mask === undefined) {
      mask = new Uint8Array(block.rows)
      masks.set(partition, mask)
    }
    mask[row] = 1
  }
  return masks
}

/** Records of one produce request, bounded for each partition and in all. */
class Batch {
  #records: OutRecord[] = []
  #bytes = 0
  readonly #byPartition = new Map<string, number>()
  readonly #bytesMax: number

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get size(): number {
    return this.#records.length
  }

  isFullFor(record: OutRecord): boolean {
    if (this.size === 0) return false
    const bytes = sizeOf(record)
    const there = this.#byPartition.get(placeOf(record)) ?? 0
    return there + bytes > this.#bytesMax || this.#bytes + bytes > REQUEST_BYTES_MAX || this.size >= REQUEST_RECORDS_MAX
  }

  add(record: OutRecord): void {
    const bytes = sizeOf(record)
    const place = placeOf(record)
    this.#records.push(record)
    this.#bytes += bytes
    this.#byPartition.set(place, (this.#byPartition.get(place) ?? 0) + bytes)
  }

  take(): readonly OutRecord[] {
    const taken = this.#records
    this.#records = []
    this.#bytes = 0
    this.#byPartition.clear()
    return taken
  }
}

/** Names and texts of headers are about this long. */
const HEADERS_BYTES = 200

const sizeOf = ({ key, value }: OutRecord): number => value.length + (key?.length ?? 0) + HEADERS_BYTES
const placeOf = ({ topic, partition }: OutRecord): string => `${topic}/${partition}`

const rowsOf = ({ tables }: Segment): number =>
  tables.reduce((sum, { table, rows }) => sum + (isRowTable(table) ? rows : 0), 0)
