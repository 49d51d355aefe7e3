import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { allRows, type Latency, type Row, storedRequests } from './compare-envoy.ts'
import { type EverythingEnvoy, everythingDirectory, startEverything } from './envoy/everything.ts'
import { type Sidecast, startSidecast } from './sidecast.ts'

/**
 * Holds what one Envoy told by every way against each other: rows of the same request from ALS, OTLP, JSON and text, field by
 * field up to the precision of each; and counters from StatsD, MetricsService, OTLP and scraping against Envoy's admin page.
 * Returns figures and one text per difference: an empty list is the proof.
 */
export interface WaysComparison {
  /** Rows of each way, by log name or kind of file. */
  readonly rows: Readonly<Record<string, number>>
  /** Fields of how many rows were compared. */
  readonly compared: number
  /** Requests in an answer that names no source: each once for a node, whatever ways it logs by. */
  readonly once: number
  /** Counters of the admin page that each job was held against. */
  readonly counters: Readonly<Record<string, number>>
  /** Of DogStatsD over UDP; with any, its counters may be less than Envoy's. */
  readonly kernelDrops: number
  readonly spans: number
  readonly differences: readonly string[]
}

/** How a way is recognised, and what of a request it has. */
interface Way {
  readonly name: string
  readonly is: (row: Row) => boolean
  /** Durations are rounded down to this. */
  readonly durationNs: number
  /** Times are rounded down to this. */
  readonly timeNs: number
  /** The path is REQ(X-ENVOY-ORIGINAL-PATH?:PATH). */
  readonly pathBeforeRewrite?: true
  readonly fields: readonly string[]
}

const EVERYWHERE = ['method', 'path', 'authority', 'response_code', 'response_flags', 'user_agent', 'upstream_host']
const WAYS: readonly Way[] = [
  { name: 'als', is: (row) => row.source === 'als', durationNs: 1, timeNs: 1, fields: [] },
  {
    name: 'otlp-grpc',
    is: (row) => row.source === 'otlp' && (row.log_name === 'otlp-grpc' || row.node_id === 'otlp-grpc'),
    durationNs: 1e6,
    timeNs: 1e6,
    fields: [...EVERYWHERE, 'response_code_details', 'route'],
  },
  {
    name: 'otlp-http',
    is: (row) => row.source === 'otlp' && !(row.log_name === 'otlp-grpc' || row.node_id === 'otlp-grpc'),
    durationNs: 1e6,
    timeNs: 1e6,
    fields: [...EVERYWHERE, 'response_code_details', 'route'],
  },
  {
    name: 'json',
    is: (row) => row.source === 'json',
    durationNs: 1e6,
    timeNs: 1000,
    pathBeforeRewrite: true,
    fields: [...EVERYWHERE, 'response_code_details', 'route', 'attempts', 'protocol', 'downstream_remote'],
  },
  {
    name: 'text',
    is: (row) => row.source === 'text',
    durationNs: 1e6,
    timeNs: 1e6,
    pathBeforeRewrite: true,
    fields: EVERYWHERE,
  },
]

export async function compareWays({ count, seed }: { count: number; seed: number }): Promise<WaysComparison> {
  const dir = await everythingDirectory()
  const targets = join(dir, 'targets.json')
  await writeFile(targets, '[]')
  const sidecast = await startSidecast({
    set: [
      `ingest.files=[{ paths: ["${dir}/access-json.log"], preset: envoy-json, node: everything-1 }, { paths: ["${dir}/access-text.log"], preset: envoy-text, node: everything-1 }]`,
      'ingest.statsd.udp="[::1]:0"',
      `ingest.scrape=[{ files: ["${targets}"], path: /stats/prometheus, interval: 1s }]`,
    ],
  })
  try {
    const ports = {
      grpc: sidecast.grpcPort,
      otlpHttp: portOf(sidecast.otlpHttp),
      statsd: portOf(sidecast.statsdTcp),
      dogstatsd: portOf(sidecast.statsdUdp),
    }
    const envoy = await startEverything({ dir, ports })
    try {
      await writeFile(targets, JSON.stringify([{ targets: [`127.0.0.1:${envoy.adminPort}`] }]))
      await envoy.drive(count, seed)
      return await compare(sidecast, envoy, count)
    } finally {
      await envoy.stop()
    }
  } finally {
    await sidecast.close()
  }
}

const portOf = (address: string): number => Number(address.split(':').at(-1))

async function compare(sidecast: Sidecast, envoy: EverythingEnvoy, count: number): Promise<WaysComparison> {
  const differences: string[] = []
  const differ = (text: string) => {
    if (differences.length < 50) differences.push(text)
  }
  const rows = await arrived(sidecast, count)
  const byWay = new Map(WAYS.map((way) => [way.name, rows.filter((row) => row.kind === 'http' && way.is(row))]))
  for (const [name, of] of byWay) if (of.length !== count) differ(`${name}: ${of.length} rows for ${count} requests`)
  const truth = new Map(byWay.get('als')!.map((row) => [String(row.request_id), row]))
  let compared = 0
  for (const way of WAYS.slice(1)) {
    for (const row of byWay.get(way.name)!) {
      const als = truth.get(String(row.request_id))
      if (als === undefined) {
        differ(`${way.name}: no ALS row for ${row.request_id}`)
        continue
      }
      compared++
      compareRow(way, row, als, differ)
    }
  }
  const once = await compareOnce(sidecast, rows, differ)
  const counters = await compareCounters(sidecast, envoy, differ)
  const spans = await compareSpans(sidecast, [...truth.values()], differ)
  return {
    rows: Object.fromEntries([...byWay].map(([name, of]) => [name, of.length])),
    compared,
    once,
    counters,
    kernelDrops: await kernelDrops(sidecast),
    spans,
    differences,
  }
}

async function arrived(sidecast: Sidecast, count: number): Promise<Row[]> {
  for (let k = 0; k < 400 && (await storedRequests(sidecast)) < WAYS.length * count; k++) await sleep(500)
  // Nothing may come after what was expected.
  await sleep(2000)
  return await allRows(sidecast)
}

const SOURCES = ['als', 'otlp', 'json', 'text', 'kafka']

/**
 * Of a node that logs by several ways one counts, the best. What another brought before the first row of the best one came
 * had to count, since nothing better was known.
 */
async function compareOnce(sidecast: Sidecast, rows: readonly Row[], differ: (text: string) => void): Promise<number> {
  let counting = 0
  for (const [node, of] of Map.groupBy(rows, (row) => `${row.node_id} ${row.kind === 'http' ? 'http' : 'l4'}`)) {
    const best = SOURCES.find((source) => of.some((row) => row.source === source))!
    const from = Math.min(...of.filter((row) => row.source === best).map((row) => Date.parse(String(row.received))))
    for (const row of of) {
      if (row.secondary !== true) counting++
      if (
        row.source === best ? row.secondary === true : row.secondary !== true && Date.parse(String(row.received)) > from
      )
        differ(`${node}: a row by ${row.source} is ${row.secondary ? '' : 'not '}secondary, the best source is ${best}`)
    }
  }
  for (const method of ['exact', 'histogram']) {
    const answer = await sidecast.get<Latency>(`/api/v1/latency?from=-2h&to=now&view=all&method=${method}&q=0.5`)
    const n = answer.series[0]?.points[0]?.n ?? 0
    if (n !== counting) differ(`an answer by ${method} counts ${n} requests, not ${counting}`)
  }
  return counting
}

const shown = (value: unknown): string => (value === null || value === undefined || value === '-' ? '' : String(value))
const flags = (value: unknown): string => shown(value).split(',').filter(Boolean).sort().join(',')

/** Envoy's log formats have the path before a rewrite, where there was one. */
const pathOf = (way: Way, als: Row): string =>
  way.pathBeforeRewrite ? shown(als.original_path) || shown(als.path) : shown(als.path)

function compareRow(way: Way, row: Row, als: Row, differ: (text: string) => void): void {
  const what = `${way.name} ${row.request_id}`
  for (const field of way.fields) {
    const [found, expected] =
      field === 'response_flags'
        ? [flags(row[field]), flags(als[field])]
        : [shown(row[field]), field === 'path' ? pathOf(way, als) : shown(als[field])]
    if (found !== expected)
      differ(`${what}: ${field} is ${JSON.stringify(found)}, ALS says ${JSON.stringify(expected)}`)
  }
  const duration = Number(row.duration_ns)
  const low = Math.floor(Number(als.duration_ns) / way.durationNs) * way.durationNs
  if (duration !== low && !(way.name === 'json' && Math.abs(duration - Number(als.duration_ns)) < 1e6)) {
    differ(`${what}: duration is ${duration}, ALS says ${als.duration_ns}`)
  }
  const apart = Math.abs(Date.parse(String(row.time)) - Date.parse(String(als.time)))
  if (apart > Math.max(1, way.timeNs / 1e6)) differ(`${what}: it started at ${row.time}, ALS says ${als.time}`)
}

/** Datagrams that the kernel dropped before Sidecast could read them, as Sidecast counts them: what they said is gone. */
async function kernelDrops(sidecast: Sidecast): Promise<number> {
  const page = await (await fetch(`http://${sidecast.http}/metrics`)).text()
  const found = /^sidecast_statsd_udp_dropped_by_kernel_total (\d+)$/m.exec(page)
  if (found === null) throw new Error('no count of what the kernel dropped')
  return Number(found[1])
}

/** The ways of stats, as labels of their series. DogStatsD has the job of StatsD, and comes from another address. */
const STATS = {
  statsd: 'job="envoy-statsd",instance="127.0.0.1"',
  dogstatsd: 'job="envoy-statsd",instance="::1"',
  'metrics-service': 'job="envoy-metrics-service"',
  otlp: 'job="envoy-otlp"',
  scrape: 'job="envoy-scrape"',
} as const

/** Counters that move because they are looked at, or by the sinks themselves after the last flush. */
const MOVING =
  /envoy_server_|envoy_main_thread|envoy_worker|envoy_cluster_manager|envoy_http_downstream_.*admin|_sidecast|sidecast|envoy_access_logs|envoy_filesystem|envoy_tracing|envoy_http1_|envoy_http2_|envoy_listener_admin|envoy_runtime|async-client/

interface EnvoyCounter {
  readonly name: string
  readonly labels: string
  readonly value: number
}

/** Every counter of the admin page that requests drove, with every job's value of it once nothing moves any more. */
async function compareCounters(
  sidecast: Sidecast,
  envoy: EverythingEnvoy,
  differ: (text: string) => void,
): Promise<Record<string, number>> {
  // Flushes and a scrape may be under way, and idle connections to upstreams still be closed.
  for (let k = 0; k < 100; k++) {
    const { differences } = await storedCounters(sidecast, await countersOf(envoy))
    if (differences.length === 0) break
    await sleep(200)
  }
  // Two more of each change nothing, while Envoy's own do not change.
  for (let k = 0; ; k++) {
    const expected = await countersOf(envoy)
    await sleep(2500)
    const { found, differences } = await storedCounters(sidecast, expected)
    if (k < 10 && !isDeepStrictEqual(expected, await countersOf(envoy))) continue
    differences.forEach(differ)
    return found
  }
}

async function countersOf(envoy: EverythingEnvoy): Promise<EnvoyCounter[]> {
  const page = await envoy.admin('/stats/prometheus?usedonly')
  const names = new Set([...page.matchAll(/^# TYPE (\S+) counter$/gm)].map((match) => match[1]!))
  return [...page.matchAll(/^(envoy_[a-zA-Z0-9_]+)(\{[^}]*\})? (\d+)$/gm)]
    .filter(([line, name]) => names.has(name!) && !MOVING.test(line))
    .map(([, name, labels, value]) => ({ name: name!, labels: labels ?? '{}', value: Number(value) }))
}

async function storedCounters(
  sidecast: Sidecast,
  expected: readonly EnvoyCounter[],
): Promise<{ readonly found: Record<string, number>; readonly differences: readonly string[] }> {
  const found: Record<string, number> = {}
  const differences: string[] = []
  const dropped = await kernelDrops(sidecast)
  for (const [way, of] of Object.entries(STATS)) {
    found[way] = 0
    for (const { name, labels, value } of expected) {
      const selector = `${name}{${of}${labels === '{}' ? '' : `,${labels.slice(1, -1)}`}}`
      const answer = await sidecast.get<{ data: { result: { value: [number, string] }[] } }>(
        `/prometheus/api/v1/query?query=${encodeURIComponent(`sum(${selector})`)}`,
      )
      const stored = Number(answer.data.result[0]?.value[1] ?? Number.NaN)
      if (way === 'dogstatsd' && dropped > 0 && stored < value) continue
      if (stored !== value) differences.push(`${selector} is ${stored}, Envoy says ${value}`)
      else found[way]!++
    }
  }
  return { found, differences }
}

/** A sample of requests whose trace leads to their spans. Returns how many spans were found. */
async function compareSpans(sidecast: Sidecast, rows: readonly Row[], differ: (text: string) => void): Promise<number> {
  let spans = 0
  const traced = rows.map((row) => shown(row.trace_id)).filter((id) => id !== '')
  for (const id of traced.slice(0, 50)) {
    const answer = await sidecast.get<{ spans: { trace_id: string }[]; requests: unknown[] }>(`/api/v1/traces/${id}`)
    if (answer.spans.length === 0) differ(`trace ${id} has no span`)
    spans += answer.spans.length
  }
  return spans
}
