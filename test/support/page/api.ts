import type { LogEntry } from '../../../src/demo/als-encode.ts'
import { imitate } from '../../../src/demo/imitation.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { PHASES, phasesInto } from '../../../src/model/phases.ts'
import { CLASSES, OUTCOMES } from '../../../src/model/schema.ts'
import type { PhaseFigure, StatusReport } from '../../../src/query/schemas.ts'

/**
 * The API as the page sees it, answered from made requests in memory, with exact percentiles. For tests of the page
 * alone: states that a real process is hard to bring into, and figures that are the same in every run. Its answers are
 * held against the schemas of the real API by `test/web/fixture.test.ts`.
 */
export interface FixtureOptions {
  readonly nowMs: number
  /** Requests in the last 15 minutes; 0 for a process that nothing has reached yet. */
  readonly visits: number
  readonly seed?: number
  /** Spreads the requests of each service over this many of it. */
  readonly copies?: number
}

export interface Made {
  readonly endMs: number
  readonly ms: number
  readonly source: string
  readonly service: string
  readonly entry: LogEntry
  readonly class: (typeof CLASSES)[number]
  readonly outcome: (typeof OUTCOMES)[number]
  readonly phasesNs: readonly number[]
}

export type Answer = (resource: string, parameters: URLSearchParams) => object

const WINDOW_MS = 15 * 60_000

export function createFixtureApi(options: FixtureOptions): { readonly answer: Answer; readonly rows: readonly Made[] } {
  const { nowMs } = options
  const rows = makeRows(options)
  const envelope = {
    as_of: new Date(nowMs).toISOString(),
    through: rows.length === 0 ? null : new Date(nowMs - 2_000).toISOString(),
    precision_ns: rows.length === 0 ? null : 1,
    coverage: { served: null, stored: null, lost: null, filtered: null, sampled: null, known: false },
  }
  const answer: Answer = (resource, parameters) => {
    if (resource === 'status') return { ...envelope, ...status(rows, nowMs) }
    const chosen = rows.filter((row) => parameters.getAll('where').every((filter) => passes(row, filter)))
    const measured = {
      ...envelope,
      from: new Date(nowMs - WINDOW_MS).toISOString(),
      to: new Date(nowMs).toISOString(),
      view: 'auto',
      unit: 'ms',
      source: 'requests',
      method: 'exact',
    }
    const qs = (parameters.get('q') ?? '0.5,0.9,0.99').split(',')
    switch (resource) {
      case 'services':
        return { ...measured, ...services(chosen, parameters) }
      case 'latency':
        return { ...measured, ...latency(chosen, parameters.get('step'), qs, nowMs) }
      case 'phases': {
        const sets = parameters.has('by') ? groups(chosen) : [{ labels: {}, rows: chosen }]
        const slowest = parameters.get('slowest')
        return {
          ...measured,
          slowest: slowest === null ? null : Number(slowest),
          series: sets.map((set) => phaseSeries(set, slowest === null ? 1 : Number(slowest), qs)),
        }
      }
      case 'requests': {
        const bySlowness = parameters.get('order') === 'duration'
        const ordered = [...chosen].sort((a, b) => (bySlowness ? b.ms - a.ms : b.endMs - a.endMs))
        const { view, from, to } = measured
        return {
          ...envelope,
          view,
          from,
          to,
          order: bySlowness ? 'duration' : 'time',
          rows: ordered.slice(0, Number(parameters.get('limit') ?? 100)).map(requestRow),
          next_cursor: null,
        }
      }
      default:
        throw new Error(`no fixture for ${resource}`)
    }
  }
  return { answer, rows }
}

function makeRows({ nowMs, visits, seed = 1, copies = 1 }: FixtureOptions): Made[] {
  const random = seededRandom(seed)
  return Array.from({ length: visits }, (_, i) => {
    const elapsed = (i * WINDOW_MS) / visits
    const { gateway, checkout } = imitate(random, nowMs - WINDOW_MS + elapsed, elapsed)
    return checkout === null ? [made(gateway, 'gateway')] : [made(gateway, 'gateway'), made(checkout, 'checkout')]
  })
    .flat()
    .map((row, i) => (copies === 1 ? row : { ...row, service: `${i % copies}.${row.service}` }))
}

function made(entry: LogEntry, source: string): Made {
  const ns = (ms: number | null) => (ms === null ? -1 : Math.round(ms * 1e6))
  const phases = new Float64Array(7)
  phasesInto(
    phases,
    0,
    ns(entry.rxEnd),
    ns(entry.upTxBegin),
    ns(entry.upTxEnd),
    ns(entry.upRxBegin),
    ns(entry.upRxEnd),
    ns(entry.downTxBegin),
    ns(entry.downTxEnd),
    ns(entry.duration),
    false,
  )
  const left = entry.flag === 'DC'
  return {
    endMs: entry.startMs + entry.duration,
    ms: ns(entry.duration) / 1e6,
    source,
    service: entry.authority,
    entry,
    class: left ? 'aborted' : (entry.code ?? 0) >= 500 ? 'server_error' : 'success',
    outcome: left ? 'client' : entry.details === 'via_upstream' ? 'upstream' : 'proxy',
    phasesNs: [...phases],
  }
}

interface Group {
  readonly labels: Record<string, string>
  readonly rows: readonly Made[]
}

function groups(rows: readonly Made[]): Group[] {
  return [...Map.groupBy(rows, (row) => row.service)].map(([service, each]) => ({
    labels: { destination_service: service },
    rows: each,
  }))
}

function services(rows: readonly Made[], parameters: URLSearchParams) {
  const all = groups(rows).map(serviceRow)
  const by = parameters.get('sort') ?? 'n'
  const key = (row: (typeof all)[number]) =>
    by === 'p50' || by === 'p90' || by === 'p99' ? row[by].value : by === 'error_ratio' ? row.error_ratio : row.n
  all.sort((a, b) => key(b) - key(a))
  return { rows_total: all.length, services: all.slice(0, Number(parameters.get('limit') ?? 1_000)) }
}

function serviceRow({ labels, rows }: Group) {
  const share = (name: string) => rows.filter((row) => row.class === name).length / rows.length
  const at = (q: number) =>
    bounded(
      rank(
        rows.map((row) => row.ms),
        q,
      ),
    )
  const counts = (names: readonly string[], of: (row: Made) => string) =>
    Object.fromEntries(names.map((name) => [name, rows.filter((row) => of(row) === name).length]))
  return {
    labels,
    n: rows.length,
    rate: rows.length / (WINDOW_MS / 1000),
    error_ratio: share('server_error'),
    aborted_ratio: share('aborted'),
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    classes: counts(CLASSES, (row) => row.class),
    outcomes: counts(OUTCOMES, (row) => row.outcome),
  }
}

function latency(rows: readonly Made[], step: string | null, qs: readonly string[], nowMs: number) {
  const stepMs =
    step === null
      ? null
      : Number.parseInt(step, 10) * { s: 1_000, m: 60_000, h: 3_600_000 }[step.at(-1) as 's' | 'm' | 'h']
  const slot = (row: Made) => (stepMs === null ? nowMs - WINDOW_MS : Math.floor(row.endMs / stepMs) * stepMs)
  const points = [...Map.groupBy(rows, slot)]
    .sort(([a], [b]) => a - b)
    .map(([time, each]) => {
      const values = each.map((row) => row.ms).sort((a, b) => a - b)
      return {
        time: new Date(time).toISOString(),
        n: values.length,
        min: values[0]!,
        max: values.at(-1)!,
        mean: mean(values),
        quantiles: quantilesOf(values, qs),
      }
    })
  return { step, phase: 'total', series: points.length === 0 ? [] : [{ labels: {}, points }] }
}

function phaseSeries({ labels, rows }: Group, slowest: number, qs: readonly string[]) {
  const kept = [...rows].sort((a, b) => b.ms - a.ms).slice(0, Math.ceil(rows.length * slowest))
  const whole = mean(kept.map((row) => row.ms))
  const figure = (values: readonly number[]): PhaseFigure => ({
    mean: values.length === 0 ? null : mean(values),
    share: values.length === 0 || whole === 0 ? null : mean(values) / whole,
    quantiles: quantilesOf(values, qs),
  })
  return {
    labels,
    n: kept.length,
    without_phases: 0,
    total: figure(kept.map((row) => row.ms)),
    ...Object.fromEntries(PHASES.map((phase, i) => [phase, figure(kept.map((row) => row.phasesNs[i]! / 1e6))])),
  }
}

function requestRow(row: Made) {
  const { entry } = row
  return {
    end_time: new Date(row.endMs).toISOString().replace('Z', '000000Z'),
    reporter: row.source === 'gateway' ? 'gateway' : 'source',
    source_workload: row.source === 'gateway' ? '' : row.source,
    destination_service: row.service,
    kind: 'http',
    method: entry.method,
    path: entry.path,
    response_code: entry.code,
    grpc_status: null,
    response_flags: entry.flag ?? '',
    response_code_details: entry.details,
    class: row.class,
    outcome: row.outcome,
    attempts: entry.attempts,
    duration_ns: Math.round(row.ms * 1e6),
    stream_id: entry.requestId,
    ...Object.fromEntries(PHASES.map((phase, i) => [`phase_${phase}_ns`, row.phasesNs[i]])),
  }
}

function status(rows: readonly Made[], nowMs: number): StatusReport {
  const started = new Date(nowMs - 20 * 60_000).toISOString()
  const some = rows.length > 0
  const last = some ? new Date(nowMs - 1_000).toISOString() : null
  const step = (
    name: string,
    title: string,
    done: boolean,
    seen: string | null = null,
    help: string | null = null,
  ) => ({
    step: name,
    title,
    done,
    at: done ? started : null,
    seen: done ? null : seen,
    help: done ? null : help,
  })
  return {
    version: '0.1.0',
    started,
    config: { taken: '2026-11-21T12:00:00.000Z', reloads_taken: 0, reloads_refused: 0, last_reload: null },
    listeners: [
      { name: 'http', address: '127.0.0.1:8080', state: 'listening', error: null },
      { name: 'grpc', address: '127.0.0.1:9001', state: 'listening', error: null },
    ],
    receivers: [{ name: 'als', kind: 'requests', last_row: last, rows: rows.length, rejected: 0, last_error: null }],
    nodes: { connected: some ? 2 : 0, seen: some ? 2 : 0, list: [] },
    store: {
      kind: 'embedded',
      ready: true,
      ping_ms: 4,
      waiting_rows: 0,
      waiting_segments: 0,
      restarts: 0,
      error: null,
    },
    adapters: [],
    disk: {
      journal_bytes: 1_000_000,
      journal_bytes_max: 10_737_418_240,
      store_bytes: 2_100_000,
      store_bytes_max: 53_687_091_200,
      free_bytes: 80_000_000_000,
      full: false,
      days_left: null,
    },
    first_run: [
      step('listening', 'Listening for proxies', true),
      step('store', 'The store answers', true),
      step('connected', 'A proxy opened a stream', some, 'No connection yet.', 'Point an Envoy at 127.0.0.1:9001.'),
      step('identified', 'It said who it is', some),
      step('first_row', 'The first request arrived', some),
      step('first_minute', 'One minute is complete', some),
      step('stats', 'Envoy sends its counters', false, null, 'Without them loss is not known.'),
    ],
  }
}

/** Filters the tests use: `COLUMN=VALUE` and `response_code>=N`. */
function passes(row: Made, filter: string): boolean {
  const [, column, operator, value = ''] = /^(\w+)(=|>=)(.*)$/.exec(filter) ?? []
  if (column === 'destination_service' && operator === '=') return row.service === value
  if (column === 'method' && operator === '=') return row.entry.method === value
  if (column === 'response_code' && operator === '>=') return (row.entry.code ?? 0) >= Number(value)
  throw new UnknownColumn(column ?? filter)
}

export class UnknownColumn extends Error {}

function bounded(value: number) {
  return { value, low: value, high: value }
}

function quantilesOf(values: readonly number[], qs: readonly string[]) {
  return values.length === 0 ? {} : Object.fromEntries(qs.map((q) => [q, bounded(rank(values, Number(q)))]))
}

/** Nearest rank. */
function rank(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]!
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / (values.length || 1)
}
