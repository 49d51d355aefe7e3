import type { NativeBlockColumns } from '../../model/native-read.ts'
import type { Aggregate } from '../../pipeline/interval-delivery.ts'
import type { RowFilter } from '../../pipeline/row-filter.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { readSegment } from '../../pipeline/segment-reader.ts'
import { createMeasures, type Measures } from './measures.ts'
import {
  createMeshSeries,
  createRedSeries,
  MESH_COLUMNS,
  type MeshSeries,
  type NameOptions,
  RED_COLUMNS,
  type RedSeries,
} from './names.ts'
import { createRowSeries, type RowSeries } from './row-series.ts'

/**
 * What the requests and connections of an interval add up to, from the rows of its segments: rollups have neither codes nor
 * sizes nor TCP, which the metrics of the former Mixer adapter need.
 *
 *   row ─► series of the mesh ─┬─ HTTP: duration, request size, response size
 *      │                       └─ TCP:  bytes sent, bytes received
 *      └─► series of spans ────── duration in µs
 *
 * Everything is kept by the minute that a row ended in, so that distributions have the time that counts.
 */
export interface WavefrontAggregate extends Aggregate {
  readonly mesh: Part<MeshSeries>
  /** Null when metrics derived from spans are off. */
  readonly red: Part<RedSeries> | null
  readonly counters: AggregateCounters
  /** Of the latest segment. */
  readonly sealedMs: number
}

export interface Part<S> {
  readonly series: RowSeries<S>
  readonly measures: Measures
}

export interface AggregateCounters {
  read: number
  /** Rows that the filter leaves out. */
  filtered: number
  /** Rows that their proxy logged in a better way as well. */
  secondary: number
  /** Rows that there is no metric for: datagrams. */
  skipped: number
  /** Rows whose series the bounds did not let in. */
  overflow: number
}

export const DURATION = 0
export const REQUEST_SIZE = 1
export const RESPONSE_SIZE = 2
export const TCP_SENT = 3
export const TCP_RECEIVED = 4
const MESH_METRICS = 5
/** The one metric of series of spans, in µs. */
export const SPAN_DURATION = 0

export interface AggregateOptions {
  readonly names: NameOptions
  readonly red: boolean
  /** Series of each of the two parts, the overflow series among them. */
  readonly seriesMax: number
  readonly where: RowFilter
  /** Buckets in use; 8 bytes each, twice. */
  readonly cellsMax?: number
}

const CELLS_MAX = 1 << 20
/** Texts of the columns that overflow series keep: kind, and class of spans. */
const KEPT_TCP = ['tcp', '']
const KEPT_HTTP = ['http', 'success']
const KEPT_ERROR = ['http', 'server_error']
const NS_PER_MINUTE = 60_000_000_000
/** Of a minute: 600 ns. */
const EDGE = 1e-8
const MS_PER_MINUTE = 60_000
/** Minutes since 1970 fit 26 bits until 2097. */
const MINUTE_MAX = 2 ** 26 - 1

/** Minute since 1970 that a row ended in. Doubles are off by 128 ns at most, so what is near a minute's edge is read exactly. */
function minutesOf(block: NativeBlockColumns): (row: number) => number {
  const ends = block.numbers('end_time')
  const exact = block.bigints('end_time')
  return (row) => {
    const minute = ends[row]! / NS_PER_MINUTE
    const whole = Math.floor(minute)
    const near = minute - whole < EDGE || minute - whole > 1 - EDGE
    return Math.min(near ? Number(exact[row]! / BigInt(NS_PER_MINUTE)) : whole, MINUTE_MAX)
  }
}

export function createWavefrontAggregate(options: AggregateOptions): WavefrontAggregate {
  const { names, seriesMax, where, cellsMax = CELLS_MAX } = options
  const mesh: Part<MeshSeries> = {
    series: createRowSeries({
      columns: [...MESH_COLUMNS, ...names.tags],
      describe: createMeshSeries(names),
      kept: 1,
      seriesMax,
    }),
    measures: createMeasures({ metrics: MESH_METRICS }),
  }
  const red: Part<RedSeries> | null = options.red
    ? {
        series: createRowSeries({ columns: RED_COLUMNS, describe: createRedSeries(names), kept: 2, seriesMax }),
        measures: createMeasures({ metrics: 1 }),
      }
    : null
  const counters: AggregateCounters = { read: 0, filtered: 0, secondary: 0, skipped: 0, overflow: 0 }
  let sealedMs = 0
  let full = false

  /** The group of a row, or that of its overflow series at the time of arrival, when there is no room. */
  function groupOf<S>({ series, measures }: Part<S>, number: number, minute: number, kept: readonly string[]): number {
    const group = measures.groupOf(number, minute)
    if (group !== null) return group
    const spare = measures.groupOf(series.overflow(kept), Math.floor(sealedMs / MS_PER_MINUTE), true)
    if (spare === null) throw new Error('an interval of thousands of minutes')
    return spare
  }

  /** 1 for rows that count; null when all do. */
  function select(block: NativeBlockColumns): Uint8Array | null {
    const selected = where.all ? null : where.select(block)
    if (!block.has('secondary')) return selected
    const secondary = block.numbers('secondary')
    return Uint8Array.from({ length: block.rows }, (_, row) => {
      if (secondary[row] === 0) return selected === null ? 1 : selected[row]!
      counters.secondary++
      return 0
    })
  }

  function addBlock(block: NativeBlockColumns): void {
    const { secondary } = counters
    const keep = select(block)
    const repeated = counters.secondary - secondary
    const meshOf = mesh.series.resolve(block, keep)
    const redOf = red === null ? null : red.series.resolve(block, keep)
    const minuteOf = minutesOf(block)
    const duration = block.numbers('duration_ns')
    const requestHeaders = block.numbers('request_headers_bytes')
    const requestBody = block.numbers('request_body_bytes')
    const responseHeaders = block.numbers('response_headers_bytes')
    const responseBody = block.numbers('response_body_bytes')
    const wireReceived = block.numbers('downstream_wire_received')
    const wireSent = block.numbers('downstream_wire_sent')
    let left = 0
    for (let row = 0; row < block.rows; row++) {
      if (keep !== null && keep[row] === 0) {
        left++
        continue
      }
      const number = meshOf[row]!
      if (number < 0) {
        counters.skipped++
        continue
      }
      if (mesh.series.isOverflow(number)) counters.overflow++
      const minute = minuteOf(row)
      const { tcp } = mesh.series.list[number]!
      const group = groupOf(mesh, number, minute, tcp ? KEPT_TCP : KEPT_HTTP)
      const received = requestHeaders[row]! + requestBody[row]! || wireReceived[row]!
      const sent = responseHeaders[row]! + responseBody[row]! || wireSent[row]!
      if (tcp) {
        mesh.measures.observe(group, TCP_SENT, sent)
        mesh.measures.observe(group, TCP_RECEIVED, received)
        continue
      }
      mesh.measures.observe(group, DURATION, duration[row]!)
      mesh.measures.observe(group, REQUEST_SIZE, received)
      mesh.measures.observe(group, RESPONSE_SIZE, sent)
      const span = redOf === null ? -1 : redOf[row]!
      if (red === null || span < 0) continue
      const kept = red.series.list[span]!.error ? KEPT_ERROR : KEPT_HTTP
      red.measures.observe(groupOf(red, span, minute, kept), SPAN_DURATION, Math.floor(duration[row]! / 1000))
    }
    counters.read += block.rows
    counters.filtered += left - repeated
  }

  return {
    mesh,
    red,
    counters,
    get sealedMs() {
      return sealedMs
    },
    get full() {
      return full
    },
    async add(segment: Segment, signal: AbortSignal) {
      sealedMs = Math.max(sealedMs, segment.sealedMs)
      for await (const block of readSegment(segment, 'requests', { signal })) addBlock(block)
      full = mesh.measures.cells() + (red?.measures.cells() ?? 0) >= cellsMax
    },
  }
}
