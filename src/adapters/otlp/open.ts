import { SidecastError } from '../../errors.ts'
import { clientTls } from '../../lib/tls.ts'
import { parseBytes, parseDuration } from '../../lib/units.ts'
import { parseEndpoint } from '../../otlp/endpoint.ts'
import type { RowSignal } from '../../otlp/row-requests.ts'
import { type TailRules, tailRulesOf } from '../../otlp/tail-rules.ts'
import type { Adapter, AdapterShared } from '../../pipeline/adapter.ts'
import { createDelivery, type Delivery } from '../../pipeline/delivery.ts'
import { createIntervalDelivery } from '../../pipeline/interval-delivery.ts'
import { createRollupAggregate } from '../../pipeline/rollup-aggregate.ts'
import { requireRowFilter } from '../../pipeline/row-filter.ts'
import type { SegmentSink, Stage } from '../../pipeline/sink.ts'
import { createOtlpClient } from './client.ts'
import { type OtlpConfig, otlpFaults } from './faults.ts'
import { createMetricsSink } from './metrics-sink.ts'
import { createRowsSink } from './rows-sink.ts'
import { createSelfTraces, type SelfTraces } from './self-traces.ts'

/** `adapters.otlp`; null without an endpoint. A sink, a cursor and a channel for each signal: none waits for another. */
export async function openOtlp(config: OtlpConfig, shared: AdapterShared): Promise<Adapter | null> {
  if (config.endpoint === '') return null
  const [fault] = otlpFaults(config, '')
  if (fault !== undefined) throw new SidecastError('SC1205', fault.message, { help: fault.help })
  const endpoint = parseEndpoint(config.endpoint)!
  const { clock, log, journal, host, version } = shared
  const filter = requireRowFilter('adapters.otlp.where', config.where, clock)
  const requestBytesMax = parseBytes(config.requestMax)!
  const clientOptions = {
    endpoint,
    headers: config.headers,
    gzip: config.compression === 'gzip',
    timeoutMs: parseDuration(config.timeout)!,
    userAgent: `sidecast/${version}`,
    tls: clientTls(config.tls, 'adapters.otlp.tls'),
  }
  const stages: Stage[] = []
  const deliveries: Delivery[] = []
  const counts: (() => Record<string, number>)[] = []

  let selfTraces: SelfTraces | null = null
  if (config.selfTraces.enabled) {
    selfTraces = createSelfTraces({ ...clientOptions, host, version })
    stages.push(selfTraces)
    const { counters } = selfTraces
    counts.push(() => prefixed('self_spans', counters))
  }

  const addRows = (signal: RowSignal, rules: TailRules): void => {
    const client = createOtlpClient(clientOptions)
    const sink = createRowsSink({
      signal,
      name: `otlp-${signal}`,
      client,
      filter,
      rules,
      requestBytesMax,
      version,
      log,
    })
    const told = selfTraces === null || deliveries.length > 0 ? sink : tellingOf(sink, selfTraces)
    const delivery = createDelivery({ sink: told, journal, clock, log, freshFirst: config.freshFirst })
    stages.push(closing(client), sink, delivery)
    deliveries.push(delivery)
    counts.push(() => prefixed(signal, sink.counters))
  }
  if (config.traces.enabled) addRows('traces', tailRulesOf(config.traces))
  if (config.logs.enabled) addRows('logs', tailRulesOf(config.logs))
  if (config.metrics.enabled) {
    const { phases, bucketsMax, keysMax, interval } = config.metrics
    const client = createOtlpClient(clientOptions)
    const sink = createMetricsSink({ name: 'otlp-metrics', client, phases, bucketsMax, requestBytesMax, version, log })
    const delivery = createIntervalDelivery({
      sink,
      create: () => createRollupAggregate({ keysMax }),
      journal,
      clock,
      log,
      intervalMs: parseDuration(interval)!,
    })
    stages.push(closing(client), sink, delivery)
    deliveries.push(delivery)
    counts.push(() => prefixed('metrics', sink.counters))
  }
  return {
    name: 'otlp',
    endpoint: `${endpoint.secure ? 'https' : 'http'}://${endpoint.target}`,
    stages,
    deliveries,
    counters: () => Object.assign({}, ...counts.map((count) => count())),
  }
}

/** Tells of each segment before it is sent. */
function tellingOf(sink: SegmentSink, selfTraces: SelfTraces): SegmentSink {
  return {
    name: sink.name,
    start: () => sink.start(),
    stop: (deadline) => sink.stop(deadline),
    send(segment, signal) {
      selfTraces.segment(segment)
      return sink.send(segment, signal)
    },
  }
}

/** The channel goes last: after the delivery that used it. */
function closing(client: { close(): void }): Stage {
  return {
    name: 'otlp channel',
    async start() {},
    async stop() {
      client.close()
    },
  }
}

/** `traces_items_accepted_total`. */
function prefixed(prefix: string, counters: object): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counters).map(([name, value]) => [
      `${prefix}_${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}_total`,
      value as number,
    ]),
  )
}
