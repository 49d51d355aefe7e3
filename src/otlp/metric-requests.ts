import { BackWriter } from '../lib/back-writer.ts'
import { ZERO_BUCKET } from '../model/buckets.ts'
import { PHASES } from '../model/phases.ts'
import type { RollupKey } from '../model/schema.ts'
import { flagName, type RollupAggregate, type RollupGroup, type RollupHistogram } from '../pipeline/rollup-aggregate.ts'
import { attributes, EXPONENTIAL_POINT_ATTRIBUTE, NUMBER_POINT_ATTRIBUTE, RESOURCE_ATTRIBUTE } from './attributes.ts'
import { sideOf } from './resource.ts'
import { type ExportRequest, scopeField } from './row-requests.ts'
import { SCHEMA_URL } from './semantic.ts'

/**
 * Export requests (`ExportMetricsServiceRequest`) of what the requests of an interval add up to: deltas, because a
 * restart of ours then loses nothing and a target adds them up as it likes.
 *
 *   group ─► resource: the workload whose proxy said so ─► metric ─► data point
 *
 * A request is put together until it is full, with the points of one resource and metric together.
 */
export interface MetricRequestsOptions {
  readonly aggregate: RollupAggregate
  /** Unix ms: `start_time` and `time` of the points. */
  readonly fromMs: number
  readonly toMs: number
  /** Whether the phases have a histogram each. */
  readonly phases: boolean
  /** Buckets of a histogram from its lowest to its highest; wider ones are told at a lower scale. */
  readonly bucketsMax: number
  readonly bytesMax: number
  readonly version: string
}

const RESOURCE = 0x0a
const SCOPED = 0x12
const METRIC = 0x12
const NAME = 0x0a
const DESCRIPTION = 0x12
const UNIT = 0x1a
const SUM = 0x3a
const EXPONENTIAL = 0x52
const DELTA = 1
const SCHEMA = 0x1a
/** Our buckets: 64 for each doubling. */
const SCALE = 6
const NS = 1e9

interface Metric {
  readonly name: string
  readonly description: string
  readonly unit: string
  readonly kind: 'histogram' | 'sum'
}

const METRICS = {
  server: {
    name: 'http.server.request.duration',
    description: 'Duration of requests that the workload got, as its proxy saw them',
    unit: 's',
    kind: 'histogram',
  },
  client: {
    name: 'http.client.request.duration',
    description: 'Duration of requests that the workload made, as its proxy saw them',
    unit: 's',
    kind: 'histogram',
  },
  connection: {
    name: 'sidecast.connection.duration',
    description: 'Duration of connections, and of requests whose method is not known',
    unit: 's',
    kind: 'histogram',
  },
  phase: {
    name: 'sidecast.phase.duration',
    description: 'Where the time of requests went',
    unit: 's',
    kind: 'histogram',
  },
  attempts: {
    name: 'sidecast.upstream.attempts',
    description: 'Attempts at the upstream',
    unit: '{attempt}',
    kind: 'sum',
  },
  received: {
    name: 'sidecast.request.bytes',
    description: 'Bytes on the wire from clients',
    unit: 'By',
    kind: 'sum',
  },
  sent: {
    name: 'sidecast.response.bytes',
    description: 'Bytes on the wire to clients',
    unit: 'By',
    kind: 'sum',
  },
  flags: {
    name: 'sidecast.response_flags',
    description: 'Requests with a response flag of Envoy',
    unit: '{request}',
    kind: 'sum',
  },
} as const satisfies Readonly<Record<string, Metric>>
type MetricName = keyof typeof METRICS

export function* metricRequests(options: MetricRequestsOptions): Generator<ExportRequest> {
  const { aggregate, bytesMax, version } = options
  const points = new PointWriter(options)
  const parts = new Parts(version)
  for (const group of aggregate.groups()) {
    const value = (key: RollupKey): string => group.values[aggregate.keys.indexOf(key)] ?? ''
    for (const [metric, bytes] of pointsOf(points, group, value, options.phases)) {
      parts.add(resourceOf(value), metric, bytes)
      if (parts.bytes >= bytesMax) yield parts.take()
    }
  }
  if (parts.bytes > 0) yield parts.take()
}

type Value = (key: RollupKey) => string

function* pointsOf(
  points: PointWriter,
  group: RollupGroup,
  value: Value,
  phases: boolean,
): Generator<readonly [MetricName, Buffer]> {
  const labels = labelsOf(group, value)
  const method = value('method')
  const whole = method === '' ? 'connection' : value('reporter') === 'source' ? 'client' : 'server'
  yield [whole, points.histogram(group.histogram('total'), labels)]
  if (phases && group.phasesN > 0) {
    for (const phase of PHASES) {
      yield ['phase', points.histogram(group.histogram(phase), { ...labels, 'sidecast.phase': phase })]
    }
  }
  if (group.attempts > 0) yield ['attempts', points.sum(group.attempts, labels)]
  if (group.requestBytes > 0) yield ['received', points.sum(group.requestBytes, labels)]
  if (group.responseBytes > 0) yield ['sent', points.sum(group.responseBytes, labels)]
  for (const [bit, count] of group.flags) {
    yield ['flags', points.sum(count, { ...labels, 'envoy.response_flag': flagName(bit) })]
  }
}

function labelsOf(group: RollupGroup, value: Value): Record<string, string | boolean | undefined> {
  const kind = value('class')
  return {
    'http.request.method': value('method'),
    'error.type': kind === 'server_error' ? kind : undefined,
    'envoy.route': value('route'),
    'sidecast.class': kind,
    'sidecast.outcome': value('outcome'),
    'sidecast.reporter': value('reporter'),
    'sidecast.source.workload': value('source_workload'),
    'sidecast.source.namespace': value('source_namespace'),
    'sidecast.destination.service': value('destination_service'),
    'sidecast.destination.namespace': value('destination_namespace'),
    'sidecast.destination.workload': value('destination_workload'),
    'sidecast.destination.version': value('destination_version'),
    // As the SDKs mark what their own limit put together.
    'otel.metric.overflow': group.overflow ? true : undefined,
  }
}

/** Texts of the resource's attributes, as a key too. */
function resourceOf(value: Value): string {
  const side = sideOf({
    reporter: value('reporter'),
    nodeCluster: '',
    sourceWorkload: value('source_workload'),
    sourceNamespace: value('source_namespace'),
    sourceService: '',
    sourceVersion: '',
    destinationWorkload: value('destination_workload'),
    destinationNamespace: value('destination_namespace'),
    destinationService: value('destination_service'),
    destinationVersion: value('destination_version'),
  })
  return JSON.stringify({
    'service.name': side.name || 'unknown_service:envoy',
    'service.namespace': side.namespace,
    'service.version': side.version,
    'sidecast.mesh': value('mesh'),
  })
}

class PointWriter {
  readonly #options: MetricRequestsOptions
  readonly #writer = new BackWriter(16_384)

  constructor(options: MetricRequestsOptions) {
    this.#options = options
  }

  /** An `ExponentialHistogramDataPoint` in seconds, without tag and length. */
  histogram(
    { n, sum, min, max, buckets, counts }: RollupHistogram,
    labels: Readonly<Record<string, string | boolean | undefined>>,
  ): Buffer {
    const writer = this.#writer
    writer.cut()
    const zeros = buckets.length > 0 && buckets[0] === ZERO_BUCKET ? counts[0]! : 0
    const dense = denseOf(zeros > 0 ? buckets.subarray(1) : buckets, zeros > 0 ? counts.subarray(1) : counts, {
      bucketsMax: this.#options.bucketsMax,
    })
    writer.double(max / NS)
    writer.byte(0x69)
    writer.double(min / NS)
    writer.byte(0x61)
    if (dense.counts.length > 0) {
      const from = writer.length
      for (let k = dense.counts.length - 1; k >= 0; k--) writer.varint(dense.counts[k]!)
      writer.end(0x12, from)
      if (dense.offset !== 0) {
        writer.zigzag(dense.offset)
        writer.byte(0x08)
      }
      writer.end(0x42, from)
    }
    if (zeros > 0) {
      writer.count64(zeros)
      writer.byte(0x39)
    }
    if (dense.scale !== 0) {
      writer.zigzag(dense.scale)
      writer.byte(0x30)
    }
    writer.double(sum / NS)
    writer.byte(0x29)
    writer.count64(n)
    writer.byte(0x21)
    this.#times()
    writer.raw(attributes(EXPONENTIAL_POINT_ATTRIBUTE, labels))
    return writer.take()
  }

  /** A `NumberDataPoint`, without tag and length. */
  sum(value: number, labels: Readonly<Record<string, string | boolean | undefined>>): Buffer {
    const writer = this.#writer
    writer.cut()
    writer.raw(attributes(NUMBER_POINT_ATTRIBUTE, labels))
    writer.count64(value)
    writer.byte(0x31)
    this.#times()
    return writer.take()
  }

  #times(): void {
    const { fromMs, toMs } = this.#options
    const writer = this.#writer
    for (const [tag, ms] of [
      [0x19, toMs],
      [0x11, fromMs],
    ] as const) {
      const ns = BigInt(ms) * 1_000_000n
      writer.fixed64(Number(ns & 0xffff_ffffn), Number(ns >> 32n))
      writer.byte(tag)
    }
  }
}

interface Dense {
  readonly scale: number
  readonly offset: number
  readonly counts: readonly number[]
}

/**
 * Counts from the lowest to the highest bucket. Ours with index i is (2^((i−1)/64), 2^(i/64)], OTLP's (2^(i/64),
 * 2^((i+1)/64)]: its index is one less. A scale lower by one puts buckets 2k and 2k + 1 together, exactly.
 */
export function denseOf(
  buckets: ArrayLike<number>,
  counts: ArrayLike<number>,
  { bucketsMax }: { readonly bucketsMax: number },
): Dense {
  const { length } = buckets
  if (length === 0) return { scale: SCALE, offset: 0, counts: [] }
  const first = buckets[0]! - 1
  const last = buckets[length - 1]! - 1
  let shift = 0
  while ((last >> shift) - (first >> shift) >= Math.max(bucketsMax, 1)) shift++
  const offset = first >> shift
  const dense = new Array<number>((last >> shift) - offset + 1).fill(0)
  for (let k = 0; k < length; k++) dense[((buckets[k]! - 1) >> shift) - offset]! += counts[k]!
  return { scale: SCALE - shift, offset, counts: dense }
}

/** Points by resource and metric. */
class Parts {
  bytes = 0
  #points = 0
  readonly #scope: Uint8Array
  readonly #resources = new Map<string, Map<MetricName, Buffer[]>>()

  constructor(version: string) {
    this.#scope = scopeField(version)
  }

  add(resource: string, metric: MetricName, point: Buffer): void {
    let metrics = this.#resources.get(resource)
    if (metrics === undefined) {
      metrics = new Map()
      this.#resources.set(resource, metrics)
      this.bytes += resource.length + 64
    }
    const points = metrics.get(metric)
    if (points === undefined) {
      metrics.set(metric, [point])
      this.bytes += 128
    } else points.push(point)
    this.bytes += point.length + 4
    this.#points++
  }

  take(): ExportRequest {
    const writer = new BackWriter(this.bytes + 4096)
    for (const [resource, metrics] of this.#resources) {
      const group = writer.length
      writer.text(SCHEMA, SCHEMA_URL)
      const scoped = writer.length
      for (const [metric, points] of metrics) writeMetric(writer, METRICS[metric], points)
      writer.raw(this.#scope)
      writer.end(SCOPED, scoped)
      const from = writer.length
      writer.raw(attributes(RESOURCE_ATTRIBUTE, JSON.parse(resource) as Record<string, string>))
      writer.end(RESOURCE, from)
      writer.end(0x0a, group)
    }
    const request = { bytes: writer.take(), items: this.#points }
    this.#resources.clear()
    this.bytes = 0
    this.#points = 0
    return request
  }
}

function writeMetric(writer: BackWriter, metric: Metric, points: readonly Buffer[]): void {
  const from = writer.length
  if (metric.kind === 'sum') {
    // is_monotonic
    writer.byte(1)
    writer.byte(0x18)
  }
  writer.byte(DELTA)
  writer.byte(0x10)
  for (const point of points) {
    const at = writer.length
    writer.raw(point)
    writer.end(0x0a, at)
  }
  writer.end(metric.kind === 'sum' ? SUM : EXPONENTIAL, from)
  writer.text(UNIT, metric.unit)
  writer.text(DESCRIPTION, metric.description)
  writer.text(NAME, metric.name)
  writer.end(METRIC, from)
}
