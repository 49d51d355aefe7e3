import type { NativeCells } from './native.ts'
import { HISTOGRAMS, type SeriesTable, TCP } from './series.ts'

/** A trace that is an example of one bucket. */
export interface Exemplar {
  readonly traceId: string
  /** In the unit of the metric: ms. */
  readonly value: number
  /** Unix seconds. */
  readonly time: number
}

/** What expositions are written from. */
export interface Registry {
  readonly table: SeriesTable
  readonly cells: NativeCells
  /** By series × buckets + bucket of the duration. */
  readonly exemplars: ReadonlyMap<number, Exemplar>
  /** Upper bounds of the classic buckets, without +Inf. */
  readonly bounds: readonly number[]
}

interface Family {
  /** Name of the samples; in OpenMetrics, the family of a counter is named without `_total`. */
  readonly name: string
  readonly help: string
  readonly unit?: 'milliseconds' | 'bytes'
  readonly tcp: boolean
}
export interface CounterFamily extends Family {
  readonly type: 'counter'
  value(table: SeriesTable, series: number): number
}
export interface HistogramFamily extends Family {
  readonly type: 'histogram'
  /** Which histogram of the series. */
  readonly histogram: number
  /** Stored values per unit of the metric. */
  readonly scale: number
  /** Whether there are native buckets and exemplars. */
  readonly native: boolean
}

/** Istio's standard metrics. TCP figures are known when a connection ends: opened and closed are counted together then. */
export const FAMILIES: readonly (CounterFamily | HistogramFamily)[] = [
  {
    type: 'counter',
    name: 'istio_requests_total',
    help: 'Requests that ended.',
    tcp: false,
    value: (table, series) => table.counts[series]!,
  },
  {
    type: 'histogram',
    name: 'istio_request_duration_milliseconds',
    help: 'Duration of requests.',
    unit: 'milliseconds',
    tcp: false,
    histogram: 0,
    scale: 1e6,
    native: true,
  },
  {
    type: 'histogram',
    name: 'istio_request_bytes',
    help: 'Bytes received from the client, on the wire.',
    unit: 'bytes',
    tcp: false,
    histogram: 1,
    scale: 1,
    native: false,
  },
  {
    type: 'histogram',
    name: 'istio_response_bytes',
    help: 'Bytes sent to the client, on the wire.',
    unit: 'bytes',
    tcp: false,
    histogram: 2,
    scale: 1,
    native: false,
  },
  {
    type: 'counter',
    name: 'istio_tcp_connections_opened_total',
    help: 'TCP connections opened, counted when they end.',
    tcp: true,
    value: (table, series) => table.counts[series]!,
  },
  {
    type: 'counter',
    name: 'istio_tcp_connections_closed_total',
    help: 'TCP connections that ended.',
    tcp: true,
    value: (table, series) => table.counts[series]!,
  },
  {
    type: 'counter',
    name: 'istio_tcp_sent_bytes_total',
    help: 'Bytes sent to the client of TCP connections that ended.',
    tcp: true,
    value: (table, series) => table.sums[series * HISTOGRAMS + 2]!,
  },
  {
    type: 'counter',
    name: 'istio_tcp_received_bytes_total',
    help: 'Bytes received from the client of TCP connections that ended.',
    tcp: true,
    value: (table, series) => table.sums[series * HISTOGRAMS + 1]!,
  },
]

/** Series of requests and of TCP connections, those with the same identity next to each other. */
export function seriesByFamily(table: SeriesTable): { requests: Int32Array; tcp: Int32Array } {
  const requests: number[] = []
  const tcp: number[] = []
  for (let series = 0; series < table.end; series++) {
    if (table.isUsed(series)) (table.protocolOf(series) === TCP ? tcp : requests).push(series)
  }
  const byWho = (a: number, b: number): number => table.whoOfSeries(a) - table.whoOfSeries(b) || a - b
  return { requests: Int32Array.from(requests.sort(byWho)), tcp: Int32Array.from(tcp.sort(byWho)) }
}

/** Length of a part of an exposition after which other work gets its turn. About a millisecond of writing. */
export const CHUNK_BYTES = 256 * 1024
