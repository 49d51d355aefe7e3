import type { NativeCells } from './native.ts'
import type { OwnRegistry } from './own-families.ts'
import { GRPC, HISTOGRAMS, type SeriesTable, TCP } from './series.ts'

/** A trace that is an example of one bucket. */
export interface Exemplar {
  readonly traceId: string
  /** In the unit of the metric: ms. */
  readonly value: number
  /** Unix seconds. */
  readonly time: number
}

/** What expositions are written from. */
export interface Registry extends OwnRegistry {
  readonly table: SeriesTable
  readonly cells: NativeCells
  /** By series × buckets + bucket of the duration. */
  readonly exemplars: ReadonlyMap<number, Exemplar>
  /** Upper bounds of the classic buckets, without +Inf. */
  readonly bounds: readonly number[]
  /** The same of the phases, in seconds. */
  readonly phaseBounds: readonly number[]
}

interface Family {
  /** Name of the samples; in OpenMetrics, the family of a counter is named without `_total`. */
  readonly name: string
  readonly help: string
  readonly unit?: 'milliseconds' | 'bytes'
  /** Which series have it. */
  readonly of: 'requests' | 'grpc' | 'tcp'
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
    of: 'requests',
    value: (table, series) => table.counts[series]!,
  },
  {
    type: 'histogram',
    name: 'istio_request_duration_milliseconds',
    help: 'Duration of requests.',
    unit: 'milliseconds',
    of: 'requests',
    histogram: 0,
    scale: 1e6,
    native: true,
  },
  {
    type: 'histogram',
    name: 'istio_request_bytes',
    help: 'Bytes received from the client, on the wire.',
    unit: 'bytes',
    of: 'requests',
    histogram: 1,
    scale: 1,
    native: false,
  },
  {
    type: 'histogram',
    name: 'istio_response_bytes',
    help: 'Bytes sent to the client, on the wire.',
    unit: 'bytes',
    of: 'requests',
    histogram: 2,
    scale: 1,
    native: false,
  },
  {
    type: 'counter',
    name: 'istio_tcp_connections_opened_total',
    help: 'TCP connections opened, counted when they end.',
    of: 'tcp',
    value: (table, series) => table.counts[series]!,
  },
  {
    type: 'counter',
    name: 'istio_tcp_connections_closed_total',
    help: 'TCP connections that ended.',
    of: 'tcp',
    value: (table, series) => table.counts[series]!,
  },
  {
    type: 'counter',
    name: 'istio_tcp_sent_bytes_total',
    help: 'Bytes sent to the client of TCP connections that ended.',
    of: 'tcp',
    value: (table, series) => table.sums[series * HISTOGRAMS + 2]!,
  },
  {
    type: 'counter',
    name: 'istio_tcp_received_bytes_total',
    help: 'Bytes received from the client of TCP connections that ended.',
    of: 'tcp',
    value: (table, series) => table.sums[series * HISTOGRAMS + 1]!,
  },
  {
    type: 'counter',
    name: 'istio_request_messages_total',
    help: 'gRPC messages from clients, of requests that ended.',
    of: 'grpc',
    value: (table, series) => table.messages[2 * series]!,
  },
  {
    type: 'counter',
    name: 'istio_response_messages_total',
    help: 'gRPC messages to clients, of requests that ended.',
    of: 'grpc',
    value: (table, series) => table.messages[2 * series + 1]!,
  },
]

/** Series of each kind of family, those with the same identity next to each other. */
export function seriesByFamily(table: SeriesTable): Readonly<Record<Family['of'], Int32Array>> {
  const requests: number[] = []
  const grpc: number[] = []
  const tcp: number[] = []
  for (const series of seriesByWho(table)) {
    const protocol = table.protocolOf(series)
    if (protocol === TCP) tcp.push(series)
    else requests.push(series)
    if (protocol === GRPC && table.hasMessages(series)) grpc.push(series)
  }
  return { requests: Int32Array.from(requests), grpc: Int32Array.from(grpc), tcp: Int32Array.from(tcp) }
}

/** Sorted by counting: a comparison of 100 000 series would hold up everything else for a tenth of a second. */
function seriesByWho(table: SeriesTable): Int32Array {
  let least = 0
  let most = 0
  let used = 0
  for (let series = 0; series < table.end; series++) {
    if (!table.isUsed(series)) continue
    const who = table.whoOfSeries(series)
    if (who < least) least = who
    if (who > most) most = who
    used++
  }
  const next = new Int32Array(most - least + 2)
  for (let series = 0; series < table.end; series++) {
    if (table.isUsed(series)) next[table.whoOfSeries(series) - least + 1]!++
  }
  for (let k = 1; k < next.length; k++) next[k]! += next[k - 1]!
  const sorted = new Int32Array(used)
  for (let series = 0; series < table.end; series++) {
    if (table.isUsed(series)) sorted[next[table.whoOfSeries(series) - least]!++] = series
  }
  return sorted
}

/** Length of a part of an exposition after which other work gets its turn. About a millisecond of writing. */
export const CHUNK_BYTES = 256 * 1024
