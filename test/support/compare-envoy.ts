import { setTimeout as sleep } from 'node:timers/promises'
import { PHASES } from '../../src/model/phases.ts'
import { OUTCOMES, ROW_TABLES, type RowTable } from '../../src/model/schema.ts'
import { type AccessLogLine, isRequest, settledAccessLog } from './envoy/access-log.ts'
import { drive } from './envoy/drive.ts'
import { startRig } from './envoy/rig.ts'
import type { Sidecast } from './sidecast.ts'

/**
 * Drives a real Envoy through all faults of the rig and holds what Sidecast stored and answers against Envoy's own JSON
 * access log, line for line. Returns figures, and one text per difference: an empty list is the proof.
 */
export interface EnvoyComparison {
  readonly lines: number
  readonly rows: number
  readonly attempts: number
  readonly progress: number
  readonly connections: number
  readonly differences: readonly string[]
  readonly byScenario: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly histogramWorstError: number
}

export type Row = Readonly<Record<string, unknown>>
interface Requests {
  readonly rows: Row[]
  readonly next_cursor: string | null
}
interface LedgerRow {
  readonly received: number
  readonly decoded: number
  readonly rejected: number
  readonly unexplained: number
}
export interface Latency {
  readonly method: string
  readonly series: readonly {
    readonly labels: Readonly<Record<string, string>>
    readonly points: readonly {
      readonly n: number
      readonly min: number
      readonly max: number
      readonly quantiles: Readonly<Record<string, { value: number; low: number; high: number }>>
    }[]
  }[]
}

const QUANTILES = [0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1]

export async function compareWithEnvoy(
  sidecast: Sidecast,
  options: { count: number; seed: number },
): Promise<EnvoyComparison> {
  const rig = await startRig({ als: sidecast.grpcPort })
  const differences: string[] = []
  const differ = (text: string) => {
    if (differences.length < 50) differences.push(text)
  }
  try {
    await drive({ rig, n: options.count, seed: options.seed })
    const all = await settledAccessLog(rig, { quietMs: 1500, timeoutMs: 120_000 })
    const lines = all.filter(isRequest)
    await rowsArrived(sidecast, lines.length)
    const rows = await allRows(sidecast)
    compareCounts(lines, rows, differ)
    compareRows(lines, rows, differ)
    checkPhases(rows, differ)
    const histogramWorstError = await compareLatency(sidecast, rows, differ)
    const ledger = await sidecast.get<{ rows: LedgerRow[] }>('/api/v1/ledger')
    for (const node of ledger.rows) {
      if (node.received !== node.decoded + node.rejected) differ(`ledger: ${JSON.stringify(node)}`)
      if (node.rejected !== 0) differ(`ledger: ${node.rejected} entries of a real Envoy rejected`)
      if (node.unexplained !== 0) differ(`ledger: ${node.unexplained} entries unexplained`)
    }
    const tables = await tableCounts(sidecast)
    const inLog = (type: RegExp) => all.filter((line) => type.test(line.access_log_type)).length
    if (tables.requests !== lines.length) differ(`requests: ${tables.requests} rows for ${lines.length} lines`)
    const attempts = inLog(/^UpstreamEnd$/)
    if (attempts > 0 && tables.attempts !== attempts) differ(`attempts: ${tables.attempts} rows for ${attempts} lines`)
    if (tables.connections === 0) differ('connections: no listener entry arrived')
    return {
      lines: lines.length,
      rows: rows.length,
      attempts: tables.attempts,
      progress: tables.progress,
      connections: tables.connections,
      differences,
      byScenario: phasesByScenario(lines, rows),
      histogramWorstError,
    }
  } finally {
    await rig.stop()
  }
}

/** Until the store has as many requests as Envoy logged, and no more come. */
async function rowsArrived(sidecast: Sidecast, expected: number): Promise<void> {
  const deadline = performance.now() + 60_000
  let counted = -1
  while (performance.now() < deadline) {
    const now = await storedRequests(sidecast)
    if (now >= expected && now === counted) return
    counted = now
    await sleep(1000)
  }
}

/** Requests of the last two hours, whoever reported them, by whichever way. */
export async function storedRequests(sidecast: Sidecast): Promise<number> {
  const { series } = await sidecast.get<Latency>(
    '/api/v1/latency?from=-2h&to=now&view=all&where=source!=none&method=exact&q=0.5',
  )
  return series[0]?.points[0]?.n ?? 0
}

/** Rows decoded by table, as Sidecast's own metrics count them. */
async function tableCounts(sidecast: Sidecast): Promise<Record<RowTable, number>> {
  const page = await (await fetch(`http://${sidecast.http}/metrics`)).text()
  const count = (table: RowTable) =>
    Number(new RegExp(`^sidecast_als_entries_total\\{table="${table}"\\} (\\d+)$`, 'm').exec(page)?.[1] ?? Number.NaN)
  return Object.fromEntries(ROW_TABLES.map((table) => [table, count(table)])) as Record<RowTable, number>
}

/** Every row of the last two hours, whoever reported it, by whichever way. */
export async function allRows(sidecast: Sidecast): Promise<Row[]> {
  const rows: Row[] = []
  let cursor: string | null = null
  do {
    const page: Requests = await sidecast.get<Requests>(
      `/api/v1/requests?from=-2h&to=now&view=all&where=source!=none&limit=10000${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
    )
    rows.push(...page.rows)
    cursor = page.next_cursor
  } while (cursor !== null)
  return rows
}

const text = (value: unknown): string => (value === null || value === undefined || value === '-' ? '' : String(value))
const flagsOf = (value: unknown): string => text(value).split(',').filter(Boolean).sort().join(',')
/** ALS has no name for a method that is not in its enumeration. */
const KNOWN_METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'])
const methodOf = (value: unknown): string => (KNOWN_METHODS.has(text(value)) ? text(value) : '')
/** Kinds of answer for which ALS leaves the cluster out although the log file has its name. */
const clusterOf = (line: AccessLogLine, row: Row): string =>
  text(row.upstream_cluster) === '' ? '' : text(line.upstream_cluster)

function compareCounts(lines: readonly AccessLogLine[], rows: readonly Row[], differ: (text: string) => void): void {
  const dimensions: Record<string, [(line: AccessLogLine) => string, (row: Row) => string]> = {
    method: [(line) => methodOf(line.method), (row) => text(row.method)],
    code: [(line) => text(line.response_code === 0 ? '' : line.response_code), (row) => text(row.response_code)],
    flags: [(line) => flagsOf(line.response_flags), (row) => flagsOf(row.response_flags)],
    details: [(line) => text(line.response_code_details), (row) => text(row.response_code_details)],
  }
  for (const [name, [ofLine, ofRow]] of Object.entries(dimensions)) {
    const expected = tally(lines.map(ofLine))
    const found = tally(rows.map(ofRow))
    for (const value of new Set([...expected.keys(), ...found.keys()])) {
      if (expected.get(value) !== found.get(value)) {
        differ(`${name} ${JSON.stringify(value)}: ${found.get(value) ?? 0} rows, ${expected.get(value) ?? 0} lines`)
      }
    }
  }
}

function tally(values: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return counts
}

/** Joins by stream id where there is one, else by client address and start time, and compares line for line. */
function compareRows(lines: readonly AccessLogLine[], rows: readonly Row[], differ: (text: string) => void): void {
  const byStream = new Map<string, Row[]>()
  const byStart = new Map<string, Row[]>()
  const add = (map: Map<string, Row[]>, key: string, row: Row) => map.set(key, [...(map.get(key) ?? []), row])
  const startKey = (client: string, start: string) => `${client} ${start}`
  for (const row of rows) {
    if (text(row.stream_id) !== '') add(byStream, text(row.stream_id), row)
    add(byStart, startKey(text(row.downstream_remote), text(row.time).slice(0, 26)), row)
  }
  for (const line of lines) {
    const id = text(line.stream_id)
    const candidates =
      (id === '' ? undefined : byStream.get(id)) ??
      byStart.get(startKey(text(line.downstream), line.start_time.replace('Z', '')))
    const row = candidates?.find((one) => text(one.time).slice(0, 26) === line.start_time.replace('Z', ''))
    if (row === undefined) {
      differ(`no row for ${line.scenario} ${id} ${line.start_time} (${candidates?.length ?? 0} candidates)`)
      continue
    }
    const what = `${line.scenario} ${id}`
    const same = (name: string, found: string, expected: string) => {
      if (found !== expected)
        differ(`${what}: ${name} is ${JSON.stringify(found)}, the log says ${JSON.stringify(expected)}`)
    }
    same('method', text(row.method), methodOf(line.method))
    same('code', text(row.response_code), line.response_code === 0 ? '' : String(line.response_code))
    same('flags', flagsOf(row.response_flags), flagsOf(line.response_flags))
    same('details', text(row.response_code_details), text(line.response_code_details))
    same('cluster', text(row.upstream_cluster), clusterOf(line, row))
    same('route', text(row.route), text(line.route_name))
    same('host', text(row.upstream_host), text(line.upstream_host))
    same('attempts', text(row.attempts), text(line.attempts || 0))
    if (line.duration !== null) {
      same('duration', String(Math.floor(Number(row.duration_ns) / 1e6)), String(line.duration))
    }
    const points: [string, number | null][] = [
      ['t_rx_end', line.t_rx_end_us],
      ['t_up_tx_begin', line.t_us_tx_beg_us],
      ['t_up_tx_end', line.t_us_tx_end_us],
      ['t_up_rx_begin', line.t_us_rx_beg_us],
      ['t_up_rx_end', line.t_us_rx_end_us],
      ['t_down_tx_begin', line.t_ds_tx_beg_us],
      ['t_down_tx_end', line.t_ds_tx_end_us],
    ]
    for (const [name, us] of points) {
      const ns = row[name]
      if (typeof us === 'number' && ns !== null && ns !== undefined)
        same(name, String(Math.floor(Number(ns) / 1000)), String(us))
    }
    if (line.response_code === 0 && text(row.class) === 'success') differ(`${what}: no code, yet a success`)
    if (!(OUTCOMES as readonly string[]).includes(text(row.outcome))) differ(`${what}: outcome ${row.outcome}`)
  }
}

function checkPhases(rows: readonly Row[], differ: (text: string) => void): void {
  for (const row of rows) {
    const values = PHASES.map((phase) => row[`phase_${phase}_ns`])
    if (row.phases_known !== true) {
      if (values.some((value) => value !== null)) differ(`${text(row.stream_id)}: phases although nothing is known`)
      continue
    }
    if (values.some((value) => typeof value !== 'number' || value < 0)) {
      differ(`${text(row.stream_id)}: phases ${JSON.stringify(values)}`)
    } else if ((values as number[]).reduce((sum, ns) => sum + ns, 0) !== row.duration_ns) {
      differ(`${text(row.stream_id)}: phases ${JSON.stringify(values)} do not add up to ${row.duration_ns}`)
    }
  }
}

/** The phase that holds most of the time, by scenario: what the design promises for the faults. */
function phasesByScenario(
  lines: readonly AccessLogLine[],
  rows: readonly Row[],
): Record<string, Record<string, number>> {
  const scenarioOf = new Map(lines.map((line) => [text(line.stream_id), text(line.scenario)]))
  const result: Record<string, Record<string, number>> = {}
  for (const row of rows) {
    const scenario = scenarioOf.get(text(row.stream_id))
    if (scenario === undefined || scenario === '' || row.phases_known !== true) continue
    let longest = ''
    let most = -1
    for (const phase of PHASES) {
      const ns = Number(row[`phase_${phase}_ns`])
      if (ns > most) {
        most = ns
        longest = phase
      }
    }
    const counts = result[scenario] ?? {}
    counts[longest] = (counts[longest] ?? 0) + 1
    result[scenario] = counts
  }
  return result
}

/** `exact` equals nearest rank on the very rows; `histogram` is within 0.55 % with the truth inside its bounds. */
async function compareLatency(
  sidecast: Sidecast,
  rows: readonly Row[],
  differ: (text: string) => void,
): Promise<number> {
  let worst = 0
  const q = QUANTILES.join(',')
  for (const by of ['', 'destination_service', 'route,class']) {
    const keys = by === '' ? [] : by.split(',')
    const groups = new Map<string, number[]>()
    for (const row of rows) {
      const key = keys.map((name) => text(row[name])).join('\u0000')
      groups.set(key, [...(groups.get(key) ?? []), Number(row.duration_ns)])
    }
    for (const values of groups.values()) values.sort((a, b) => a - b)
    for (const method of ['exact', 'histogram'] as const) {
      const answer = await sidecast.get<Latency>(
        `/api/v1/latency?from=-2h&to=now&view=all&unit=ns&method=${method}&q=${q}${by === '' ? '' : `&by=${by}`}`,
      )
      if (answer.series.length !== groups.size)
        differ(`latency ${method} by ${by}: ${answer.series.length} series, ${groups.size} groups`)
      for (const series of answer.series) {
        const key = keys.map((name) => series.labels[name] ?? '').join('\u0000')
        const values = groups.get(key)
        const point = series.points[0]
        if (values === undefined || point === undefined || point.n !== values.length) {
          differ(`latency ${method} ${JSON.stringify(series.labels)}: n is ${point?.n}, ${values?.length} rows`)
          continue
        }
        for (const quantile of QUANTILES) {
          const truth = values[Math.max(1, Math.ceil(quantile * values.length)) - 1]!
          const found = point.quantiles[String(quantile)]
          if (found === undefined) {
            differ(`latency ${method} ${JSON.stringify(series.labels)}: no q=${quantile}`)
          } else if (method === 'exact') {
            if (found.value !== truth || found.low !== truth || found.high !== truth) {
              differ(
                `latency exact ${JSON.stringify(series.labels)} q=${quantile}: ${JSON.stringify(found)}, truth ${truth}`,
              )
            }
          } else {
            const error = truth === 0 ? Math.abs(found.value) : Math.abs(found.value - truth) / truth
            worst = Math.max(worst, error)
            if (error > 0.0055 || found.low > truth || found.high < truth) {
              differ(
                `latency histogram ${JSON.stringify(series.labels)} q=${quantile}: ${JSON.stringify(found)}, truth ${truth}`,
              )
            }
          }
        }
      }
    }
  }
  return worst
}
