import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createClickHouse } from '../../../src/adapters/clickhouse/client.ts'
import { mappedCopies } from '../../../src/adapters/clickhouse/column-map.ts'
import type { Copy } from '../../../src/adapters/clickhouse/copies.ts'
import { createCopySink } from '../../../src/adapters/clickhouse/copy-sink.ts'
import { openClickHouseCopies, prepareCopies } from '../../../src/adapters/clickhouse/open-copies.ts'
import { otelCopies } from '../../../src/adapters/clickhouse/otel-copies.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { Segment } from '../../../src/pipeline/segment.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createTestDatabase, never, startCuttingProxy, type TestDatabase } from '../../support/clickhouse.ts'
import { type FakeClickHouse, startFakeClickHouse } from '../../support/fake-clickhouse.ts'
import { createSegmentMaker } from '../../support/segments.ts'
import { sinkContract } from '../../support/sink-contract.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

const ACCEPTED = { status: 'accepted' }
const ROWS = 500
let engine: TestStore
let segment: Segment

beforeAll(async () => {
  engine = await startTestStore({ keep: true })
  const maker = await createSegmentMaker(engine.writer, engine.dir)
  const fromSeconds = Math.floor(Date.now() / 1000) - 600
  segment = await maker.make({ seq: 1, rows: ROWS, fromSeconds, spanSeconds: 90, openedMs: Date.now() + 600_000 })
})
afterAll(() => engine?.stop())

const OTEL = { create: true, database: '', keep: '7d' }

async function copying(
  database: TestDatabase,
  copies: { otel?: readonly Copy[]; own?: readonly Copy[] },
  url?: string,
) {
  const { otel = [], own = [] } = copies
  const clickhouse =
    url === undefined
      ? database.clickhouse
      : createClickHouse({
          url,
          database: database.clickhouse.database,
          ...engine.store.credentials.writer,
          log: silentLog,
        })
  const sink = createCopySink({
    clickhouse,
    copies: [...otel, ...own],
    prepare: (signal) => prepareCopies({ clickhouse, otel, own, config: { otel: OTEL }, signal }),
    // The engine takes no streams of rows into a SELECT; what it reads from the file is the same.
    readsFiles: true,
    insertTimeoutMs: 30_000,
    clock: systemClock,
    log: silentLog,
  })
  await sink.start()
  return sink
}

const otelOf = (database: TestDatabase) =>
  otelCopies({ database: database.clickhouse.database, logs: true, traces: true, metrics: true })

describe('OpenTelemetry tables', () => {
  it('have a span and a log record for each request, with one trace and span id', async () => {
    const database = await createTestDatabase(engine)
    const store = await database.sink()
    expect(await store.send(segment, never)).toEqual(ACCEPTED)
    expect(await (await copying(database, { otel: otelOf(database) })).send(segment, never)).toEqual(ACCEPTED)
    const [all] = await database.rows<Record<string, unknown>>(`SELECT
      (SELECT (count(), sum(duration_ns), uniqExact(request_id)) FROM requests) AS wanted,
      (SELECT (count(), sum(Duration), uniqExact(SpanAttributes['sidecast.request_id'])) FROM otel_traces) AS spans,
      (SELECT count() FROM otel_logs AS l INNER JOIN otel_traces AS t ON l.TraceId = t.TraceId AND l.SpanId = t.SpanId) AS joined,
      (SELECT countIf(match(TraceId, '^[0-9a-f]{32}$') AND match(SpanId, '^[0-9a-f]{16}$')) FROM otel_traces) AS ids,
      (SELECT uniqExact(SpanId) FROM otel_traces) AS distinct,
      (SELECT groupUniqArray(SidecastSegment) FROM otel_logs) AS segments,
      (SELECT count() FROM otel_traces_trace_id_ts) AS lookups`)
    expect(all!.spans).toEqual(all!.wanted)
    expect(all).toMatchObject({ joined: ROWS, ids: ROWS, distinct: ROWS, segments: [segment.id] })
    expect(Number(all!.lookups)).toBeGreaterThan(0)
    const [events] = await database.rows<Record<string, unknown>>(`SELECT
      countIf(arrayExists(t -> t < Timestamp, Events.Timestamp)) AS early, sum(length(Events.Name)) AS events,
      (SELECT countIf(phases_known) FROM requests) AS known FROM otel_traces`)
    expect(Number(events!.early)).toBe(0)
    expect(Number(events!.events)).toBeGreaterThanOrEqual(Number(events!.known))
  })

  it('have histograms whose buckets hold what the rows say', async () => {
    const database = await createTestDatabase(engine)
    const store = await database.sink()
    expect(await store.send(segment, never)).toEqual(ACCEPTED)
    expect(await (await copying(database, { otel: otelOf(database) })).send(segment, never)).toEqual(ACCEPTED)
    const [sums] = await database.rows<Record<string, number>>(`SELECT sum(Count) AS n,
      sum(arraySum(PositiveBucketCounts) + ZeroCount) AS buckets, round(sum(Sum), 6) AS total, min(Min) AS min, max(Max) AS max,
      (SELECT round(sum(duration_ns) / 1e9, 6) FROM requests) AS wanted, (SELECT min(duration_ns) / 1e9 FROM requests) AS least,
      (SELECT sum(Value) FROM otel_metrics_sum WHERE MetricName = 'sidecast.requests') AS requests
      FROM otel_metrics_exp_histogram`)
    expect(sums).toMatchObject({ n: ROWS, buckets: ROWS, total: sums!.wanted, min: sums!.least, requests: ROWS })
    // OTLP: bucket i of scale 6 is (2^(i/64), 2^((i+1)/64)].
    const [different] = await database.rows<{ n: number }>(`SELECT countIf(a.c != b.c OR a.i != b.i) AS n FROM (
        SELECT toInt32(ceil(log2(duration_ns / 1e9) * 64)) - 1 AS i, count() AS c FROM requests WHERE duration_ns > 0 GROUP BY i) AS a
      FULL JOIN (
        SELECT PositiveOffset + k - 1 AS i, sum(held) AS c FROM otel_metrics_exp_histogram
        ARRAY JOIN PositiveBucketCounts AS held, arrayEnumerate(PositiveBucketCounts) AS k WHERE held > 0 GROUP BY i) AS b ON a.i = b.i`)
    expect(Number(different!.n)).toBe(0)
  })

  it('get a segment once, also when the answer was lost and it is tried again', async () => {
    const database = await createTestDatabase(engine)
    const proxy = await startCuttingProxy(() => engine.store.url)
    const sink = await copying(database, { otel: otelOf(database) }, proxy.url)
    proxy.cut('otel_logs` (', 'after')
    expect((await sink.send(segment, never)).status).toBe('retry')
    expect(await sink.send(segment, never)).toEqual(ACCEPTED)
    expect(proxy.cuts).toBe(1)
    const counted = await database.rows<{ n: number }>(
      ['otel_logs', 'otel_traces'].map((table) => `SELECT count() AS n FROM ${table}`).join(' UNION ALL '),
    )
    expect(counted.map(({ n }) => Number(n))).toEqual([ROWS, ROWS])
    const [requests] = await database.rows<{ n: number }>(
      "SELECT sum(Value) AS n FROM otel_metrics_sum WHERE MetricName = 'sidecast.requests'",
    )
    expect(Number(requests!.n)).toBe(ROWS)
    expect(sink.counters).toMatchObject({ segments: 1, retries: 1, takenOut: 2 })
    await sink.stop(never)
  })

  it('may have been made by an exporter of another version', async () => {
    const database = await createTestDatabase(engine)
    await database.clickhouse.execute(
      {
        sql: `CREATE TABLE otel_logs (Timestamp DateTime64(9), TraceId String, ServiceName LowCardinality(String), Body String,
          LogAttributes Map(LowCardinality(String), String)) ENGINE = MergeTree ORDER BY Timestamp`,
        params: {},
      },
      { signal: never },
    )
    const logs = otelOf(database).filter(({ into }) => into.table === 'otel_logs')
    expect(await (await copying(database, { otel: logs })).send(segment, never)).toEqual(ACCEPTED)
    expect(await database.rows('SELECT count() AS n FROM otel_logs')).toEqual([{ n: ROWS }])
  })
})

describe('tables of a user', () => {
  const table = (more: object = {}) => ({
    from: 'requests',
    into: 'mine',
    columns: {
      at: 'end_time',
      svc: 'destination_service',
      ms: 'duration_ns / 1e6',
      wait: 'phase_upstream_wait_ns',
      batch: 'segment',
    },
    where: "class != 'success'",
    ...more,
  })

  it('get what the map says, computed columns among it, and only the rows that the condition names', async () => {
    const database = await createTestDatabase(engine)
    const { clickhouse } = database
    const store = await database.sink()
    expect(await store.send(segment, never)).toEqual(ACCEPTED)
    await clickhouse.execute(
      {
        sql: 'CREATE TABLE mine (at DateTime, svc String, ms Float64, wait Nullable(UInt64), batch String, more UInt8 DEFAULT 7) ENGINE = MergeTree ORDER BY at',
        params: {},
      },
      { signal: never },
    )
    const own = mappedCopies([table()], clickhouse.database)
    expect(await (await copying(database, { own })).send(segment, never)).toEqual(ACCEPTED)
    const [all] = await database.rows<Record<string, unknown>>(`SELECT
      (SELECT (count(), round(sum(ms), 3), sum(wait), groupUniqArray(batch), groupUniqArray(more)) FROM mine) AS got,
      (SELECT (count(), round(sum(duration_ns / 1e6), 3), sum(phase_upstream_wait_ns), groupUniqArray(segment), [7])
        FROM requests WHERE class != 'success') AS wanted`)
    expect(all!.got).toEqual(all!.wanted)
    expect((all!.got as number[])[0]).toBeGreaterThan(0)
  })

  it('are refused by name where the map cannot be right', async () => {
    const database = await createTestDatabase(engine)
    const wrong = (more: object) => () => mappedCopies([table(more)], 'db')
    expect(wrong({ from: 'latency_1h' })).toThrow('adapters.clickhouse.tables[0]: from: there is no table latency_1h')
    expect(wrong({ columns: {} })).toThrow('columns: there are none')
    expect(wrong({ into: 'a.b.c' })).toThrow('into: a.b.c is no table')
    for (const sql of ['a) FROM x --', "'open", 'a; DROP TABLE t', 'f(a', 'a)(b', 'a /* x']) {
      expect(wrong({ columns: { x: sql } })).toThrow('is no expression')
    }
    expect(wrong({ where: '1) OR (1' })).toThrow('is no condition')
    const sink = await copying(database, {
      own: mappedCopies([table({ columns: { x: 'no_such_column + 1' } })], database.clickhouse.database),
    })
    const outcome = await sink.send(segment, never)
    expect(outcome).toMatchObject({ status: 'retry' })
    expect((outcome as { error: Error }).error.message).toContain('no_such_column')
  })
})

const configOf = (url: string) => ({
  url,
  database: 'default',
  username: 'default',
  password: '',
  token: '',
  tls: { ca: '', cert: '', key: '', serverName: '', allowedSans: [], insecure: false },
  insertTimeout: '2m',
  otel: { logs: false, traces: false, metrics: false, database: '', create: true, keep: '7d' },
  tables: [{ from: 'requests', into: 'mine', columns: { at: 'end_time', method: 'method' }, where: '' }],
})

sinkContract<FakeClickHouse>('clickhouse copies', {
  start: startFakeClickHouse,
  open: async (shared, target) => openClickHouseCopies(configOf(target.url), shared),
})

describe('statements to a server', () => {
  it('stream the file into a SELECT, and are ClickHouse', async () => {
    const { url, inserts, close } = await startFakeClickHouse()
    const clickhouse = createClickHouse({ url, database: 'd', username: 'u', log: silentLog, compress: true })
    const copies = [
      ...otelCopies({ database: 'd', logs: true, traces: true, metrics: true }),
      ...mappedCopies([{ from: 'requests', into: 'mine', columns: { at: 'end_time' }, where: 'duration_ns > 5' }], 'd'),
    ].filter(({ from }) => from === 'requests')
    const sink = createCopySink({
      clickhouse,
      copies,
      prepare: async () => copies,
      insertTimeoutMs: 5000,
      clock: systemClock,
      log: silentLog,
    })
    await sink.start()
    expect(await sink.send(segment, never)).toEqual(ACCEPTED)
    expect(inserts).toHaveLength(3)
    for (const sql of inserts) {
      expect(sql).toMatch(/FROM input\('[\s\S]*FORMAT Native$/)
      const answer = await engine.reader.query({
        query: 'SELECT formatQuery({sql:String}) AS sql',
        query_params: { sql: sql.replace(/ FORMAT Native$/, '') },
        format: 'JSON',
      })
      expect((await answer.json<{ sql: string }>()).data[0]!.sql).toContain('INSERT INTO d.')
    }
    await sink.stop(never)
    await close()
  })
})
