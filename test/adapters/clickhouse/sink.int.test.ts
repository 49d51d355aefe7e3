import { afterAll, beforeAll, expect, it } from 'vitest'
import { createClickHouse } from '../../../src/adapters/clickhouse/client.ts'
import { migrate } from '../../../src/adapters/clickhouse/migrations.ts'
import { type ClickHouseSinkOptions, createClickHouseSink } from '../../../src/adapters/clickhouse/sink.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createSegmentMaker, type SegmentMaker } from '../../support/segments.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

const DAY_MS = 86_400_000
const RETENTION = { rowsMs: 7 * DAY_MS, minutesMs: 90 * DAY_MS, hoursMs: 1095 * DAY_MS }
const signal = new AbortController().signal

let test: TestStore
let maker: SegmentMaker
let databases = 0

beforeAll(async () => {
  test = await startTestStore({ keep: true })
  maker = await createSegmentMaker(test.writer, test.dir)
})
afterAll(async () => {
  await test?.stop()
})

async function fresh(options: Partial<ClickHouseSinkOptions> = {}) {
  const database = `sink_${++databases}`
  const clickhouse = createClickHouse({
    url: () => test.store.url,
    database,
    ...test.store.credentials.writer,
    log: silentLog,
  })
  await migrate({ clickhouse, retention: options.retention ?? RETENTION, log: silentLog, signal })
  const sink = createClickHouseSink({
    clickhouse,
    log: silentLog,
    clock: systemClock,
    readsFiles: true,
    retention: RETENTION,
    kept: () => [],
    keysMax: 1000,
    ...options,
  })
  await sink.start()
  return { clickhouse, sink, database }
}

it('stores a segment', async () => {
  const { sink, clickhouse, database } = await fresh()
  const now = Math.floor(Date.now() / 1000)
  const segment = await maker.make({
    seq: 1,
    rows: 1000,
    fromSeconds: now - 100,
    spanSeconds: 90,
    openedMs: Date.now() + 1000,
  })
  expect(await sink.send(segment, signal)).toEqual({ status: 'accepted' })
  const { rows } = await clickhouse.query<{ n: number; d: number }>(
    { sql: `SELECT count() n, uniqExact(request_id) d FROM ${database}.requests`, params: {} },
    { signal },
  )
  expect(rows).toEqual([{ n: 1000, d: 1000 }])
  const r = await clickhouse.query(
    {
      sql: `SELECT sum(n) n FROM ${database}.latency_1m UNION ALL SELECT sum(n) n FROM ${database}.latency_1h`,
      params: {},
    },
    { signal },
  )
  expect(r.rows).toEqual([{ n: 1000 }, { n: 1000 }])
})
