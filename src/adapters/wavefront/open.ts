import { readFileSync } from 'node:fs'
import { Agent as HttpAgent } from 'node:http'
import type { Config } from '../../config.ts'
import { SidecastError } from '../../errors.ts'
import { type ClientTls, clientTls } from '../../lib/tls.ts'
import { parseAddress, parseDuration } from '../../lib/units.ts'
import { PUBLIC_ROW_COLUMNS } from '../../model/schema.ts'
import { tailRulesOf } from '../../otlp/tail-rules.ts'
import type { Adapter, AdapterShared } from '../../pipeline/adapter.ts'
import { createDelivery } from '../../pipeline/delivery.ts'
import { createIntervalDelivery } from '../../pipeline/interval-delivery.ts'
import { requireRowFilter } from '../../pipeline/row-filter.ts'
import type { SegmentSink } from '../../pipeline/sink.ts'
import { createWavefrontAggregate } from './aggregate.ts'
import { createCounters } from './counters.ts'
import { createHeartbeat } from './heartbeat.ts'
import { createMetricsSink } from './metrics-sink.ts'
import { fitOptions } from './names.ts'
import { createTracesSink, type TracesSinkOptions } from './traces-sink.ts'
import type { Transport } from './transport.ts'
import { createHttpTransport } from './transport-http.ts'
import { createTcpTransport } from './transport-tcp.ts'

export type WavefrontConfig = Config['adapters']['wavefront']

const OPTION = 'adapters.wavefront'
const CONNECTIONS_MAX = 4
/** An interval is held in memory, and read again after a restart. */
const DURATIONS = [
  ['interval', 100, 3_600_000],
  ['timeout', 100, 600_000],
] as const
/** Columns of requests that have few enough values for tags. */
const TAG_COLUMNS: ReadonlySet<string> = new Set(
  PUBLIC_ROW_COLUMNS.filter(({ type }) => type === 'LowCardinality(String)').map(({ name }) => name),
)

/** Null where neither a proxy nor a URL is configured. */
export async function openWavefront(config: WavefrontConfig, shared: AdapterShared): Promise<Adapter | null> {
  if (config.proxy === '' && config.url === '') return null
  if (config.proxy !== '' && config.url !== '') {
    throw fault('proxy and url are both set', 'keep one: a proxy, or the service itself')
  }
  const { journal, clock, log } = shared
  const where = requireRowFilter(`${OPTION}.where`, config.where, clock)
  for (const [name, shortestMs, longestMs] of DURATIONS) {
    const ms = parseDuration(config[name])!
    if (ms >= shortestMs && ms <= longestMs) continue
    throw fault(`${name} is ${config[name]}`, `from ${shortestMs} ms to ${longestMs / 1000} s`)
  }
  for (const tag of config.tags) {
    if (!TAG_COLUMNS.has(tag)) throw fault(`tags: ${tag} cannot be a tag`, `one of ${[...TAG_COLUMNS].join(', ')}`)
  }
  const names = fitOptions({ ...config, source: config.source || shared.host })
  const transport = transportOf(config, shared)
  const counters = createCounters()
  const heartbeat = createHeartbeat({ names, transport, counters, clock })
  const sink = createMetricsSink({
    ...names,
    transport,
    counters,
    points: config.points,
    distributions: config.distributions,
    clock,
    log,
    onServices: (services) => heartbeat.seen(services),
  })
  const delivery = createIntervalDelivery({
    sink,
    create: () => createWavefrontAggregate({ names, where, red: config.red, seriesMax: config.seriesMax }),
    journal,
    clock,
    log,
    intervalMs: parseDuration(config.interval)!,
  })
  const traces = tracesOf(config, { names, where, transport, counters, log })
  const spans = traces && createDelivery({ sink: traces, journal, clock, log, freshFirst: config.freshFirst })
  return {
    name: sink.name,
    endpoint: transport.endpoint,
    stages: [heartbeat, sink, delivery, ...(traces === null || spans === null ? [] : [traces, spans])],
    deliveries: spans === null ? [delivery] : [delivery, spans],
    counters: () => ({ ...counters.flat(), ...rowCounters(sink.rows) }),
  }
}

/** Null where spans are off, or the proxy has no port for them. */
function tracesOf(
  { proxy, tracePort, traces }: WavefrontConfig,
  options: Omit<TracesSinkOptions, 'rules' | 'logs' | 'received'>,
): SegmentSink | null {
  if (!traces.enabled || (proxy !== '' && tracePort === 0)) return null
  return createTracesSink({ ...options, rules: tailRulesOf(traces), logs: traces.logs, received: traces.received })
}

function rowCounters(rows: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(rows).map(([name, count]) => [`rows_${name}_total`, count]))
}

function transportOf(config: WavefrontConfig, { clock, version }: AdapterShared): Transport {
  const timeoutMs = parseDuration(config.timeout)!
  const tls = clientTls(config.tls, `${OPTION}.tls`)
  const common = { timeoutMs, userAgent: `sidecast/${version}`, now: () => clock.now(), token: tokenOf(config) }
  if (config.url !== '') {
    const url = urlOf(config.url)
    return createHttpTransport({ ...common, url, traceUrl: url, agent: agentOf(url, tls) })
  }
  const address = parseAddress(config.proxy)
  if (address === null) throw fault(`proxy is no HOST:PORT: ${config.proxy}`, 'for example wavefront-proxy:2878')
  const { host, port } = address
  if (config.transport === 'tcp') {
    const options = config.tls.enabled ? () => tls.options() : null
    return createTcpTransport({ host, port, tracePort: config.tracePort, timeoutMs, tls: options })
  }
  const name = host.includes(':') ? `[${host}]` : host
  const at = (to: number): URL => new URL(`${config.tls.enabled ? 'https' : 'http'}://${name}:${to}/report`)
  const url = at(port)
  return createHttpTransport({ ...common, url, traceUrl: at(config.tracePort || port), agent: agentOf(url, tls) })
}

function agentOf(url: URL, tls: ClientTls): HttpAgent {
  const options = { keepAlive: true, maxSockets: CONNECTIONS_MAX }
  return url.protocol === 'https:' ? tls.agent(options) : new HttpAgent(options)
}

function urlOf(text: string): URL {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw fault(
      'url is no http:// or https:// URL',
      'set it to where lines are reported, for example https://metrics/report',
    )
  }
  if (url.username !== '' || url.password !== '') {
    throw fault('url has a user or a password in it', `set ${OPTION}.token or .tokenFile instead`)
  }
  return url
}

/** A file is read for each request, so that a new token counts at once; one that cannot be read is no reason to stop. */
function tokenOf({ token, tokenFile }: WavefrontConfig): () => string {
  if (tokenFile === '') return () => token
  let last = token
  return () => {
    try {
      last = readFileSync(tokenFile, 'utf8').trim()
    } catch {
      // The last one that could be read goes on being sent; a target that no longer takes it answers 401.
    }
    return last
  }
}

function fault(what: string, help: string): SidecastError {
  return new SidecastError('SC1205', `${OPTION}: ${what}`, { help })
}
