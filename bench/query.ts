import { readFileSync } from 'node:fs'
import { systemClock } from '../src/lib/clock.ts'
import { bucketSql } from '../src/model/histogram-sql.ts'
import { readOpenSlo } from '../src/query/slo/openslo.ts'
import { createQueryDatabase, createTestServer } from '../test/support/query.ts'
import { startTestStore } from '../test/support/store.ts'

/**
 * How long the API takes to answer from many requests. Rows and rollups are generated inside the engine: the newest
 * requests as rows, all of them as rollups, over 30 days with 200 keys (50 services, 2 routes, 2 classes).
 *
 *     node bench/query.ts [--rows 10000000] [--rollup 100000000] [--repeat 10]
 *
 * Prints one JSON object: for each question the median and slowest time of an answer in ms, with everything (parsing,
 * statements, JSON), the CPU that the engine spent on an answer, also in ms, and the rows that it read. `fromHours`: the
 * same, as long as no rollup of days is made.
 */
const argument = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const rows = argument('rows', 10_000_000)
const rollup = argument('rollup', 100_000_000)
const repeat = argument('repeat', 10)
const DAYS = 30
const END = Date.parse('2026-01-31T00:00:00Z') / 1000
const START = END - DAYS * 86_400
const SLICE = 250_000

const store = await startTestStore({ keep: true })
try {
  const db = await createQueryDatabase(store, 'bench')
  const began = performance.now()
  // Log-normal durations around 10 ms, from two independent uniform hashes.
  const uniform = (salt: number) => `((cityHash64(number, ${salt}) % 1000000007 + 1) / 1000000008)`
  const duration = `toUInt64(1e7 * exp(1.2 * sqrt(-2 * log(${uniform(1)})) * cos(6.283185307179586 * ${uniform(2)})))`
  const service = "concat('service-', toString(cityHash64(number, 3) % 50))"
  const route = "concat('route-', toString(cityHash64(number, 4) % 2))"
  const rowClass = "if(cityHash64(number, 5) % 100 = 0, 'server_error', 'success')"
  for (let from = 0; from < rows; from += SLICE) {
    // The rows of the last day.
    await db.execute(`INSERT INTO bench.requests (end_time, duration_ns, t_rx_end, t_up_tx_begin, t_up_tx_end, t_up_rx_begin, t_up_rx_end, t_down_tx_begin, t_down_tx_end, destination_service, route, class, outcome, reporter, method, path, request_uuid, precision_ns)
      SELECT fromUnixTimestamp64Nano(toInt64(${END - 86_400}000000000 + number * ${Math.floor(86_400e9 / rows)}), 'UTC'), ${duration} AS d, intDiv(d, 100), intDiv(d, 50), intDiv(d, 40), intDiv(d, 2), intDiv(d * 3, 4), intDiv(d * 2, 3), d,
        ${service}, ${route}, ${rowClass}, 'upstream', 'destination', 'GET', concat('/items/', toString(number % 100000)), toUUID(concat(lower(leftPad(hex(number), 8, '0')), '-1111-4222-8333-', lower(leftPad(hex(cityHash64(number) % 281474976710656), 12, '0')))), 1
      FROM numbers(${from}, ${Math.min(SLICE, rows - from)})`)
  }
  for (let from = 0; from < rollup; from += SLICE) {
    await db.execute(`INSERT INTO bench.latency_1m (minute, destination_service, route, class, outcome, reporter, method, n, total_sum, total_min, total_max, \`totalMap.bucket\`, \`totalMap.count\`)
      SELECT minute, service, route, class, 'upstream', 'destination', 'GET', sum(c) AS n, sum(s), min(lo), max(hi), groupArray(b), groupArray(c) FROM (
        SELECT minute, service, route, class, ${bucketSql('d')} AS b, count() AS c, sum(d) AS s, min(d) AS lo, max(d) AS hi FROM (
          SELECT toDateTime(${START} + intDiv(number * ${DAYS * 86_400}, ${rollup}), 'UTC') AS at, toStartOfMinute(at) AS minute, ${service} AS service, ${route} AS route, ${rowClass} AS class, ${duration} AS d
          FROM numbers(${from}, ${Math.min(SLICE, rollup - from)}))
        GROUP BY minute, service, route, class, b)
      GROUP BY minute, service, route, class`)
  }
  const secondsSince = (start: number) => Number(((performance.now() - start) / 1000).toFixed(1))
  const loadSeconds = secondsSince(began)
  const slos = objectives()
  const server = createTestServer(db.reader, {
    slos: { slos: () => slos },
    clock: { ...systemClock, now: () => END * 1000 },
    limits: { timeoutMs: 120_000 },
  })
  await server.app.ready()
  const page = await server.app.inject('/api/v1/requests?from=-1h&limit=1&columns=request_id')
  const newest = String(page.json().rows[0].request_id)
  const questions: Readonly<Record<string, string>> = {
    'p50 to p99.9 by service, 30 days, rollups': 'latency?from=-30d&by=destination_service&method=histogram',
    'p50 to p99.9, 30 days, rollups': 'latency?from=-30d&method=histogram',
    'one service, 30 days in hours, rollups':
      'latency?from=-30d&step=1h&where=destination_service=service-7&method=histogram',
    'services, 30 days, rollups': 'services?from=-30d&method=histogram',
    'odd ends, 30 days, rollups and rows':
      'latency?from=2026-01-01T00:17:31Z&to=2026-01-30T23:42:07Z&by=destination_service&method=histogram',
    'p50 to p99.9, last day, exact': 'latency?from=-1d&method=exact',
    'by service, last day, exact': 'latency?from=-1d&by=destination_service&method=exact',
    'p99 of a phase, last day, exact': 'latency?from=-1d&phase=upstream_wait&q=0.99&method=exact',
    'p99 with all doubts, last day, exact': 'latency?from=-1d&q=0.99&bounds=measure,loss,few&method=exact',
    'phases of the slowest 1 %, last hour': 'phases?from=-1h&slowest=0.01',
    'newest 100 requests': 'requests?from=-1d&limit=100',
    'slowest 100 requests of the last day': 'requests?from=-1d&limit=100&order=duration',
    'one request by its id': `requests?from=-1d&where=request_id=${newest}`,
    'an objective of availability, 30 days, rollups': 'slos/available',
    'an objective at a threshold inside of a bucket, 30 days, rows of one': 'slos/quick',
    'twenty objectives': 'slos',
  }
  const answersTo = async (names: readonly string[]) => {
    const answers: Record<string, unknown> = {}
    for (const name of names) {
      const times: number[] = []
      let timing = ''
      let cpuMs = 0
      for (let k = 0; k <= repeat; k++) {
        // The first one warms the engine's caches.
        if (k === 1) cpuMs = cpuMsOf(store.store.pid!)
        const start = performance.now()
        const answer = await server.app.inject(`/api/v1/${questions[name]}`)
        if (answer.statusCode !== 200) throw new Error(`${questions[name]}: ${answer.body}`)
        if (k > 0) times.push(performance.now() - start)
        timing = String(answer.headers['server-timing'])
      }
      cpuMs = cpuMsOf(store.store.pid!) - cpuMs
      times.sort((a, b) => a - b)
      answers[name] = {
        medianMs: Math.round(times[times.length >> 1]!),
        slowestMs: Math.round(times.at(-1)!),
        engineCpuMs: Math.round(cpuMs / repeat),
        rowsRead: Number(/(\d+) rows read/.exec(timing)?.[1]),
      }
    }
    return answers
  }
  const fromHours = await answersTo(Object.keys(questions).filter((name) => name.includes('30 days')))
  const making = performance.now()
  const days = await db.days({ ...systemClock, now: () => (END + 3600) * 1000 }).settle(AbortSignal.timeout(3_600_000))
  const daysMade = { days, seconds: secondsSince(making) }
  const answers = await answersTo(Object.keys(questions))
  await server.stop(AbortSignal.timeout(1000))
  console.log(
    JSON.stringify(
      { bench: 'query', node: process.version, rows, rollup, repeat, loadSeconds, daysMade, fromHours, answers },
      null,
      1,
    ),
  )
} finally {
  await store.stop()
}

/** CPU of a process since it started, with all its threads; the kernel counts in hundredths of a second. */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

/** Twenty objectives over 30 days: all of the mesh, and services. */
function objectives() {
  const part = (where: string[]) => ({ metricSource: { type: 'sidecast', spec: { where } } })
  const one = (name: string, total: string[], good: string[]) =>
    JSON.stringify({
      apiVersion: 'openslo/v1',
      kind: 'SLO',
      metadata: { name },
      spec: {
        indicator: { spec: { ratioMetric: { total: part(total), good: part(good) } } },
        timeWindow: [{ duration: '30d', isRolling: true }],
        objectives: [{ target: 0.99 }],
      },
    })
  const texts = [one('available', [], ['class!=server_error']), one('quick', [], ['duration_ns<=123.456ms'])]
  for (let k = 0; k < 18; k++) texts.push(one(`s${k}`, [`destination_service=service-${k}`], ['duration_ns<=200ms']))
  const { slos, findings } = readOpenSlo([{ name: 'bench.yaml', text: texts.join('\n---\n') }])
  if (findings.length > 0) throw new Error(JSON.stringify(findings[0]))
  return slos
}
