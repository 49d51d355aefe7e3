import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createStatements } from '../../src/adapters/clickhouse/ddl.ts'
import { correctMinutesSql } from '../../src/adapters/clickhouse/rollup-sql.ts'
import { encodeMessage, type LogEntry } from '../../src/demo/als-encode.ts'
import { normal, seededRandom } from '../../src/lib/random.ts'
import type { NativeBlock } from '../../src/model/batch.ts'
import { ROLLUP_COLUMNS } from '../../src/model/rollup-columns.ts'
import { STORED_ROW_COLUMNS } from '../../src/model/schema.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import { createDecoding, framed } from '../support/als-decoding.ts'
import { startTestStore } from '../support/store.ts'

const SEED = 77
const FOREVER = 2 ** 41

const fixture = (name: string): Buffer => readFileSync(new URL(`../fixtures/als/${name}`, import.meta.url))

/** Requests with any of their time points missing and in any order, of every magnitude of duration. */
function randomEntries(n: number): LogEntry[] {
  const random = seededRandom(SEED)
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
  return Array.from({ length: n }, (): LogEntry => {
    const duration = random() < 0.03 ? 0 : Math.round(Math.exp(1 + 3 * normal(random)) * 1e6) / 1e6
    const point = (): number | null => (random() < 0.2 ? null : Math.round(random() * 1.1 * duration * 1e6) / 1e6)
    return {
      startMs: 1_767_225_600_000 + Math.floor(random() * 240_000),
      rxEnd: point(),
      upTxBegin: point(),
      upTxEnd: point(),
      upRxBegin: point(),
      upRxEnd: point(),
      downTxBegin: point(),
      downTxEnd: point(),
      duration,
      cluster: pick(['', 'cart', 'outbound|80||pay.shop.svc.cluster.local']),
      upstreamPort: 80,
      route: pick(['', 'default', '/ä']),
      method: pick(['GET', 'POST']),
      authority: pick(['shop', 'pay']),
      path: '/',
      requestId: '',
      requestBytes: Math.floor(random() * 1e6),
      responseBytes: Math.floor(random() * 1e9),
      code: pick([200, 404, 503, null]),
      details: 'via_upstream',
      flag: pick([null, null, 'UT', 'DC', 'URX']),
      attempts: Math.floor(random() * 3),
    }
  })
}

test(`the rollup of recorded and random requests is what the engine makes of their rows (SEED=${SEED})`, async () => {
  const decoding = createDecoding({ rowsMax: 16_384 })
  const entries = randomEntries(6000)
  decoding.feed(...framed(fixture('als-http.bin')), ...framed(fixture('als-tcp.bin')))
  for (let k = 0; k < entries.length; k += 500) decoding.feed(encodeMessage(entries.slice(k, k + 500)))
  const batch = decoding.builders.requests.seal()
  expect(batch.rows).toBe(97 + 6000)
  const rollup = createRollup({ logMax: 10_000 })
  rollup.add(batch)

  const engine = await startTestStore()
  const run = (query: string, params = {}) => engine.writer.command({ query, query_params: params })
  const count = async (): Promise<unknown> =>
    (
      await (
        await engine.writer.query({
          query: 'SELECT count() AS rows, sum(n) AS n FROM latency_1m',
          format: 'JSONEachRow',
        })
      ).json()
    )[0]
  const load = async (table: string, block: NativeBlock, columns: readonly { name: string; type: string }[]) => {
    const path = join(engine.dir, `${table}.native`)
    await writeFile(path, Buffer.concat(block.buffers))
    const names = columns.map(({ name }) => `\`${name}\``).join(', ')
    const structure = columns
      .map(({ name, type }) => `\`${name}\` ${type}`)
      .join(', ')
      .replaceAll("'", "\\'")
    await run(`INSERT INTO ${table} (${names}) SELECT ${names} FROM file('${path}', 'Native', '${structure}')`)
  }
  for (const query of createStatements('default', {
    rowsMs: FOREVER,
    minutesMs: FOREVER,
    hoursMs: FOREVER,
    metricsMs: FOREVER,
  })) {
    if (query.startsWith('CREATE TABLE')) await run(query.replace(/\nPARTITION BY .*/, ''))
  }
  await load('requests', batch.encode('segment'), STORED_ROW_COLUMNS)
  const block = rollup.seal()!
  await load(
    'latency_1m',
    block,
    ROLLUP_COLUMNS.map(({ name, nativeType }) => ({ name, type: nativeType })),
  )
  const before = await count()
  expect(before).toEqual({ rows: block.rows, n: batch.rows })

  // The correction adds what the rollup lacks of its rows, every sum and every bucket: nothing.
  const minutes = await (
    await engine.writer.query({
      query:
        'SELECT DISTINCT toUInt32(toStartOfMinute(toDateTime(end_time))) AS minute, toString(toDate(end_time)) AS day FROM requests',
      format: 'JSONEachRow',
    })
  ).json<{ minute: number; day: string }>()
  const params = { minutes: minutes.map(({ minute }) => minute), days: [...new Set(minutes.map(({ day }) => day))] }
  await run(correctMinutesSql('default', 1_000_000), params)
  expect(await count()).toEqual(before)

  // It would have found one observation too many in one bucket.
  const [key] = await (
    await engine.writer.query({ query: 'SELECT * FROM latency_1m WHERE phases_n > 0 LIMIT 1', format: 'JSONEachRow' })
  ).json<Record<string, unknown>>()
  const wrong = { ...key, n: 0, 'upstream_waitMap.bucket': [5], 'upstream_waitMap.count': [1] }
  for (const name of Object.keys(wrong)) {
    if (/_sum$|_n$|^attempts|_bytes$/.test(name)) Object.assign(wrong, { [name]: 0 })
    if (/Map\./.test(name) && !name.startsWith('upstream_wait')) Object.assign(wrong, { [name]: [] })
  }
  await engine.writer.insert({ table: 'latency_1m', values: [wrong], format: 'JSONEachRow' })
  await run(correctMinutesSql('default', 1_000_000), params)
  expect(await count()).toEqual({ rows: block.rows + 2, n: batch.rows })
})
