import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { type ClickHouse, createClickHouse } from '../../src/adapters/clickhouse/client.ts'
import type { Retention } from '../../src/adapters/clickhouse/ddl.ts'
import { migrate } from '../../src/adapters/clickhouse/migrations.ts'
import {
  type ClickHouseSink,
  type ClickHouseSinkOptions,
  createClickHouseSink,
} from '../../src/adapters/clickhouse/sink.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { Segment } from '../../src/pipeline/segment.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import type { TestStore } from './store.ts'

const DAY_MS = 86_400_000
export const RETENTION: Retention = {
  rowsMs: 7 * DAY_MS,
  minutesMs: 90 * DAY_MS,
  hoursMs: 1095 * DAY_MS,
  metricsMs: 30 * DAY_MS,
}
export const never = new AbortController().signal

export interface TestDatabase {
  readonly clickhouse: ClickHouse
  /** Another sink on the same database, as after a restart of the process. */
  sink(options?: Partial<ClickHouseSinkOptions>): Promise<ClickHouseSink>
  rows<Row>(sql: string, params?: Readonly<Record<string, unknown>>): Promise<Row[]>
}

let databases = 0

/** A migrated database of its own in a running store, reached by `url` when the requests go through something else. */
export async function createTestDatabase(
  test: TestStore,
  options: {
    readonly retention?: Retention
    readonly url?: () => string
    /** Called with what has to be done in the end; by default the end of the test. */
    readonly onEnd?: (work: () => Promise<void>) => void
  } = {},
): Promise<TestDatabase> {
  const { retention = RETENTION, onEnd = onTestFinished } = options
  const clickhouse = createClickHouse({
    url: options.url ?? (() => test.store.url),
    database: `test_${process.pid}_${++databases}`,
    ...test.store.credentials.writer,
    log: silentLog,
  })
  onEnd(() => clickhouse.close())
  await migrate({ clickhouse, retention, log: silentLog, signal: never })
  return {
    clickhouse,
    async sink(more = {}) {
      const sink = createClickHouseSink({
        clickhouse,
        log: silentLog,
        clock: systemClock,
        readsFiles: true,
        retention,
        kept: () => [],
        keysMax: 10_000,
        ...more,
      })
      await sink.start()
      onEnd(() => sink.stop(AbortSignal.timeout(5000)))
      return sink
    },
    async rows(sql, params = {}) {
      return (await clickhouse.query<never>({ sql, params }, { signal: never })).rows
    },
  }
}

export interface Totals {
  readonly rows: number
  readonly ids: number
  readonly duration: string
  readonly minutes: string
  readonly hours: string
}

const HISTOGRAM = (table: string, time: string) => `
  SELECT groupArray((${time}, b, c)) FROM (
    SELECT ${time}, b, sum(c) AS c FROM ${table} ARRAY JOIN \`totalMap.bucket\` AS b, \`totalMap.count\` AS c
    GROUP BY ${time}, b HAVING c != 0 ORDER BY ${time}, b)`

/** What has to agree between rows, minutes and hours: counts, sums, and every bucket of total and of one phase. */
export async function disagreements(database: TestDatabase): Promise<string[]> {
  const [all] = await database.rows<Record<string, string>>(`
    SELECT
      (SELECT (count(), uniqExact(segment, request_id), sum(duration_ns), sum(attempts), countIf(phases_known), min(duration_ns), max(duration_ns), sum(bitCount(response_flags)), sum(phase_upstream_wait_ns)) FROM requests) AS rows,
      (SELECT ${SUMS} FROM latency_1m) AS minutes,
      (SELECT ${SUMS} FROM latency_1h) AS hours,
      (${HISTOGRAM('(SELECT toStartOfHour(minute) AS hour, * FROM latency_1m)', 'hour')}) = (${HISTOGRAM('latency_1h', 'hour')}) AS same,
      (SELECT sum(c) FROM latency_1m ARRAY JOIN \`totalMap.count\` AS c) AS buckets,
      (SELECT sum(c) FROM latency_1m ARRAY JOIN \`upstream_waitMap.count\` AS c) AS phaseBuckets`)
  const found: string[] = []
  const rows = JSON.stringify(all!.rows)
  const [n, ids, , , phased] = all!.rows as unknown as number[]
  if (n !== ids) found.push(`${n} rows with ${ids} ids`)
  if (JSON.stringify(all!.minutes) !== rows.replace(`${n},${ids}`, `${n},${n}`))
    found.push(`rows ${rows}, minutes ${JSON.stringify(all!.minutes)}`)
  if (JSON.stringify(all!.hours) !== JSON.stringify(all!.minutes))
    found.push(`minutes ${JSON.stringify(all!.minutes)}, hours ${JSON.stringify(all!.hours)}`)
  if (Number(all!.same) !== 1) found.push('histograms of minutes and hours differ')
  if (Number(all!.buckets) !== n) found.push(`${n} rows, ${all!.buckets} in buckets`)
  if (Number(all!.phaseBuckets) !== phased) found.push(`${phased} rows with phases, ${all!.phaseBuckets} in buckets`)
  return found
}

const SUMS = `(sum(n), sum(n), sum(total_sum), sum(attempts), sum(phases_n), min(total_min), max(total_max),
  sumArray(\`flagsMap.count\`), sum(upstream_wait_sum))`

/** Rows stored of each segment. */
export async function storedBySegment(database: TestDatabase, table = 'requests'): Promise<Map<string, number>> {
  const rows = await database.rows<{ segment: string; n: number }>(
    `SELECT segment, count() AS n FROM ${table} GROUP BY segment`,
  )
  return new Map(rows.map(({ segment, n }) => [segment, Number(n)]))
}

export function rowsOf(segment: Segment, table = 'requests'): number {
  return segment.tables.find((one) => one.table === table)?.rows ?? 0
}

export interface CuttingProxy {
  readonly url: string
  /**
   * The next request whose statement contains `text`: `before` never reaches the store, `after` is carried out there and
   * its answer is lost.
   */
  cut(text: string, when: 'before' | 'after'): void
  readonly cuts: number
}

/** A connection that breaks when it is told to. */
export async function startCuttingProxy(target: () => string): Promise<CuttingProxy> {
  let next: { text: string; when: 'before' | 'after' } | undefined
  let cuts = 0
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      const body = Buffer.concat(chunks)
      const statement = `${new URL(incoming.url ?? '/', 'http://x').searchParams.get('query') ?? ''} ${body.toString('latin1')}`
      const cutting = next !== undefined && statement.includes(next.text) ? next : undefined
      if (cutting !== undefined) {
        next = undefined
        cuts++
        if (cutting.when === 'before') return incoming.socket.destroy()
      }
      const { hostname, port } = new URL(target())
      const headers = { ...incoming.headers, 'content-length': String(body.length) }
      delete (headers as Record<string, unknown>)['transfer-encoding']
      const forward = request({ hostname, port, path: incoming.url, method: incoming.method, headers }, (answer) => {
        if (cutting !== undefined) {
          answer.resume()
          answer.on('end', () => incoming.socket.destroy())
          return
        }
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(outgoing)
      })
      forward.on('error', () => incoming.socket.destroy())
      forward.end(body)
      return undefined
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut(text, when) {
      next = { text, when }
    },
    get cuts() {
      return cuts
    },
  }
}
