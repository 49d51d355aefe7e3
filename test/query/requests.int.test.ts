import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RequestsAnswer } from '../../src/query/schemas.ts'
import type { QueryServer } from '../../src/query/server.ts'
import { type AnswerChecker, createAnswerChecker } from '../support/openapi.ts'
import { clockAt, createQueryDatabase, createTestServer, type QueryDatabase } from '../support/query.ts'
import { flagText, makeRows, type OracleRow, phasesOf, storedRow } from '../support/query-oracle.ts'
import { startTestStore, type TestStore } from '../support/store.ts'

const START = Date.parse('2026-01-10T10:00:00Z') / 1000
const rows: OracleRow[] = makeRows(23, 1500, START, 2)
const RANGE = 'from=2026-01-10T10:00:00Z&to=2026-01-10T12:00:01Z&view=all'

let store: TestStore
let db: QueryDatabase
let server: QueryServer
let check: AnswerChecker

beforeAll(async () => {
  store = await startTestStore({ keep: true })
  db = await createQueryDatabase(store, 'rows')
  await db.insert(rows.map(storedRow))
  await db.rollUp(START, START + 2 * 3600)
  server = createTestServer(db.reader, { clock: clockAt('2026-01-10T12:00:00Z') })
  check = await createAnswerChecker(server.app)
})
afterAll(async () => {
  await server?.stop(AbortSignal.timeout(5000))
  await store?.stop()
})

const ask = (parameters: string) => check.get<RequestsAnswer>(`/api/v1/requests?${RANGE}&${parameters}`)
const pathsWhere = async (where: string): Promise<string[]> => {
  const { rows: found } = await ask(`limit=10000&columns=path&where=${encodeURIComponent(where)}`)
  return found.map((row) => row.path as string).toSorted()
}
const paths = (keep: (row: OracleRow) => boolean) =>
  rows
    .filter(keep)
    .map((row) => row.path)
    .toSorted()
const isoNs = (ns: bigint) =>
  `${new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19)}.${String(ns % 1_000_000_000n).padStart(9, '0')}Z`

describe('requests', () => {
  it('gives a row with every column of the schema, as it is stored', async () => {
    const one = rows.find((row) => phasesOf(row) !== null && row.code === null && row.traceId !== '')!
    const { rows: found } = await ask(`where=${encodeURIComponent(`path=${one.path}`)}`)
    expect(found.length).toBe(1)
    const [phases, row] = [phasesOf(one)!, found[0]!]
    expect(row).toMatchObject({
      end_time: isoNs(one.end),
      time: isoNs(one.end - BigInt(one.duration)),
      duration_ns: one.duration,
      destination_service: one.service,
      response_code: null,
      response_flags: flagText(one.flags),
      request_id: one.requestId,
      trace_id: one.traceId,
      phases_known: true,
      phase_client_send_ns: phases[0],
      phase_client_receive_ns: phases[6],
      t_rx_end: one.points[0],
      precision_ns: one.precision,
      request_headers: { 'x-path': one.path },
      sample_rate: 0,
      tls_version: '',
    })
    const schema = await check.get<{ tables: { name: string; columns: { name: string }[] }[] }>('/api/v1/schema')
    expect(Object.keys(row)).toEqual(
      schema.tables.find(({ name }) => name === 'requests')!.columns.map(({ name }) => name),
    )
  })

  for (const order of ['time', 'duration'] as const) {
    it(`pages by ${order} without a gap and without a repetition, while rows are inserted`, async () => {
      const sorted = rows.toSorted((a, b) =>
        order === 'time' || a.duration === b.duration ? Number(b.end - a.end) : b.duration - a.duration,
      )
      const seen: string[] = []
      let cursor: string | null = ''
      for (let page = 0; cursor !== null; page++) {
        const answer: RequestsAnswer = await ask(
          `order=${order}&limit=97&columns=path,end_time${cursor === '' ? '' : `&cursor=${cursor}`}`,
        )
        expect(answer.rows.length).toBeLessThanOrEqual(97)
        seen.push(...answer.rows.map((row) => row.path as string))
        cursor = answer.next_cursor
        if (page < 3) {
          const newest = {
            ...sorted[0]!,
            end: BigInt(START + 7200) * 1_000_000_000n + BigInt(page),
            duration: 10 ** 13 + page,
          }
          await db.insert([{ ...storedRow(newest), path: `/inserted/${order}` }])
        }
      }
      const early = seen.filter((path) => path.startsWith('/p/'))
      expect(early).toEqual(sorted.map((row) => row.path))
      expect(seen.length).toBe(new Set(early).size + (order === 'time' ? 0 : seen.length - early.length))
      await db.execute(
        `ALTER TABLE ${db.name}.requests DELETE WHERE path = '/inserted/${order}' SETTINGS mutations_sync = 2`,
      )
    })
  }

  it('shows every one of equal rows, over pages', async () => {
    const twin = { ...rows[0]!, end: BigInt(START) * 1_000_000_000n - 5_000_000_000n, path: '/twin' }
    await db.insert(Array.from({ length: 25 }, () => storedRow(twin)))
    const range = 'from=2026-01-10T09:59:00Z&to=2026-01-10T10:00:00Z&view=all'
    for (const limit of [1, 4, 24, 25]) {
      let [count, pages, cursor]: [number, number, string | null] = [0, 0, '']
      while (cursor !== null && pages < 40) {
        const answer: RequestsAnswer = await check.get(
          `/api/v1/requests?${range}&limit=${limit}&columns=path${cursor === '' ? '' : `&cursor=${cursor}`}`,
        )
        count += answer.rows.length
        cursor = answer.next_cursor
        pages++
      }
      expect([count, pages]).toEqual([25, Math.ceil(25 / limit)])
    }
  })

  it('ends a page early when it reaches its size, and goes on there', async () => {
    const small = createTestServer(db.reader, {
      clock: clockAt('2026-01-10T12:00:00Z'),
      limits: { pageBytesMax: 2000 },
    })
    const asked = await createAnswerChecker(small.app)
    const first = await asked.get<RequestsAnswer>(`/api/v1/requests?${RANGE}&limit=1000&columns=path`)
    expect(first.rows.length).toBeGreaterThan(50)
    expect(first.rows.length).toBeLessThan(200)
    const second = await asked.get<RequestsAnswer>(
      `/api/v1/requests?${RANGE}&limit=1000&columns=path&cursor=${first.next_cursor}`,
    )
    const both = [...first.rows, ...second.rows].map((row) => row.path)
    expect(both).toEqual(
      rows
        .toSorted((a, b) => Number(b.end - a.end))
        .map((row) => row.path)
        .slice(0, both.length),
    )
    await small.stop(AbortSignal.timeout(1000))
  })

  it('keeps the interval of the first page', async () => {
    let now = Date.parse('2026-01-10T12:00:00Z')
    const moving = createTestServer(db.reader, { clock: { ...clockAt('2026-01-10T12:00:00Z'), now: () => now } })
    const asked = await createAnswerChecker(moving.app)
    const url = '/api/v1/requests?from=-2h&view=all&limit=10&columns=path'
    const first = await asked.get<RequestsAnswer>(url)
    now += 600_000
    const second = await asked.get<RequestsAnswer>(`${url}&cursor=${first.next_cursor}`)
    expect([second.from, second.to]).toEqual([first.from, first.to])
    await moving.stop(AbortSignal.timeout(1000))
  })

  it('sends lines of JSON and of CSV, with the rest in headers', async () => {
    const url = `/api/v1/requests?${RANGE}&limit=3&columns=path,response_code,source_workload,request_headers`
    const json = JSON.parse((await server.app.inject(url)).body) as RequestsAnswer
    const lines = await server.app.inject({ url, headers: { accept: 'application/x-ndjson' } })
    expect(lines.headers['content-type']).toBe('application/x-ndjson; charset=utf-8')
    expect(
      lines.body
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual(json.rows)
    expect(lines.headers['sidecast-next-cursor']).toBe(json.next_cursor)
    expect(JSON.parse(String(lines.headers['sidecast-envelope']))).toMatchObject({ precision_ns: json.precision_ns })
    const csv = await server.app.inject({ url, headers: { accept: 'text/csv' } })
    const [header, ...records] = csv.body.trimEnd().split('\r\n')
    expect(header).toBe('path,response_code,source_workload,request_headers')
    expect(records.length).toBe(3)
    for (const [k, record] of records.entries()) {
      const row = json.rows[k] as { path: string; response_code: number | null; source_workload: string }
      const workload = /["]/.test(row.source_workload)
        ? `"${row.source_workload.replaceAll('"', '""')}"`
        : row.source_workload
      expect(record).toBe(`${row.path},${row.response_code ?? ''},${workload},"{""x-path"":""${row.path}""}"`)
    }
  })

  it('refuses a cursor that is not its own', async () => {
    const { next_cursor: cursor } = await ask('limit=5')
    const refused = async (parameters: string) =>
      (await check.get<{ code: string }>(`/api/v1/requests?${RANGE}&${parameters}`, 400)).code
    expect(await refused(`limit=5&order=duration&cursor=${cursor}`)).toBe('bad_cursor')
    expect(await refused(`limit=5&where=method=GET&cursor=${cursor}`)).toBe('bad_cursor')
    expect(await refused(`limit=5&cursor=${cursor}x`)).toBe('bad_cursor')
    expect(await refused('limit=5&cursor=AAAA')).toBe('bad_cursor')
    expect(
      await refused(`cursor=${Buffer.from("1'; DROP TABLE requests; --.a.b.c.d.e.f").toString('base64url')}`),
    ).toBe('bad_cursor')
  })
})

describe('filters', () => {
  const [withUuid, withText] = [
    rows.find((row) => row.requestId.includes('-4222-'))!,
    rows.find((row) => row.requestId.startsWith('text'))!,
  ]
  const withTrace = rows.find((row) => row.traceId !== '')!
  const middle = rows[700]!
  const bit = (flag: string) => (row: OracleRow) => flagText(row.flags).split(',').includes(flag)
  const cases: [string, (row: OracleRow) => boolean][] = [
    ['destination_service=both', (row) => row.service === 'both'],
    ['destination_service != both', (row) => row.service !== 'both'],
    ['destination_service=~b.*|so', (row) => row.service === 'both'],
    ['destination_service!~b.*|so.*', (row) => !/^(b.*|so.*)$/.test(row.service)],
    ['destination_service<edge', (row) => row.service < 'edge'],
    ['destination_service>=mesh', (row) => row.service >= 'mesh'],
    [`source_workload=it's "quoted"\\`, (row) => row.workload === 'it\'s "quoted"\\'],
    ['source_workload="it\'s \\"quoted\\"\\\\"', (row) => row.workload === 'it\'s "quoted"\\'],
    ['route=ü✓', (row) => row.route === 'ü✓'],
    ['tls_version=', () => true],
    ['response_code=503', (row) => row.code === 503],
    ['response_code!=503', (row) => row.code !== 503],
    ['response_code=', (row) => row.code === null],
    ['response_code!=', (row) => row.code !== null],
    ['response_code>=500', (row) => row.code !== null && row.code >= 500],
    ['response_code<500', (row) => row.code !== null && row.code < 500],
    ['response_code=~5..', (row) => row.code !== null && row.code >= 500],
    ['response_code!~5..', (row) => row.code === null || row.code < 500],
    ['duration_ns>250ms', (row) => row.duration > 250e6],
    ['duration_ns<=1500us', (row) => row.duration <= 1_500_000],
    [`duration_ns=${middle.duration}`, (row) => row.duration === middle.duration],
    ['t_rx_end=', (row) => row.points[0]! < 0],
    ['t_rx_end>1ms', (row) => row.points[0]! > 1e6],
    ['phase_upstream_wait_ns>1ms', (row) => (phasesOf(row)?.[3] ?? 0) > 1e6],
    ['phases_known=false', (row) => phasesOf(row) === null],
    ['phases_known!=false', (row) => phasesOf(row) !== null],
    ['response_flags=UT', bit('UT')],
    ['response_flags=URX,UT', (row) => bit('UT')(row) && bit('URX')(row)],
    ['response_flags!=UF', (row) => !bit('UF')(row)],
    ['response_flags=', (row) => row.flags === 0],
    ['response_flags!=', (row) => row.flags !== 0],
    ['response_flags=~UT,URX|DC', (row) => /^(UT,URX|DC)$/.test(flagText(row.flags))],
    [`end_time>=${isoNs(middle.end)}`, (row) => row.end >= middle.end],
    [`end_time<${isoNs(middle.end)}`, (row) => row.end < middle.end],
    [`end_time=${isoNs(middle.end)}`, (row) => row.end === middle.end],
    [`request_id=${withUuid.requestId}`, (row) => row.requestId === withUuid.requestId],
    [`request_id!=${withUuid.requestId}`, (row) => row.requestId !== withUuid.requestId],
    [`request_id=${withText.requestId}`, (row) => row.requestId === withText.requestId],
    [`request_id=${withUuid.requestId.toUpperCase()}`, () => false],
    ['request_id=~text id .*', (row) => row.requestId.startsWith('text')],
    ['request_id=', () => false],
    ['request_id=00000000-0000-0000-0000-000000000000', () => false],
    ['stream_id=', () => true],
    [`trace_id=${withTrace.traceId}`, (row) => row.traceId === withTrace.traceId],
    [`trace_id=${withTrace.traceId.toUpperCase()}`, (row) => row.traceId === withTrace.traceId],
    ['trace_id=', (row) => row.traceId === ''],
    ['trace_id=not a trace', () => false],
    ['span_id=0123456789abcdef', () => false],
    ['span_id=', () => true],
    ['sample_rate=0', () => true],
    ['sample_rate>0.5', () => false],
    ['precision_ns=1000000', (row) => row.precision === 1_000_000],
    [`request_headers[x-path]=${middle.path}`, (row) => row.path === middle.path],
    ['request_headers[x-path]=~/p/1.', (row) => /^\/p\/1.$/.test(row.path)],
    ['request_headers[none]=', () => true],
  ]
  it('find what a plain reading of the rows finds', async () => {
    for (const [where, keep] of cases) expect(await pathsWhere(where), where).toEqual(paths(keep))
  })

  it('hold together', async () => {
    const { rows: found } = await ask(
      'limit=10000&columns=path&where=method=GET&where=class=aborted&where=duration_ns>1ms',
    )
    expect(found.map((row) => row.path).toSorted()).toEqual(
      paths((row) => row.method === 'GET' && row.class === 'aborted' && row.duration > 1e6),
    )
  })

  it('are values, whatever they look like', async () => {
    const hostile = [
      "'",
      "''",
      "\\'",
      "' OR 1=1 --",
      "'; DROP TABLE requests; --",
      '{p0:String}',
      '{{p0}}',
      '%27',
      '\\x27',
      '\\N',
      '\\0',
      '\t\n\r',
      '$' + '{1+1}',
      '`',
      '"',
      '/* */',
      '?',
      'NULL',
      '\u2028',
      '😀',
      "a' UNION ALL SELECT name FROM system.tables --",
      'x'.repeat(2000),
    ]
    for (const [k, value] of hostile.entries()) {
      const row = {
        ...storedRow(rows[k]!),
        end_time: `2026-01-10 08:00:00.${String(k).padStart(9, '0')}`,
        user_agent: value,
        path: `/hostile/${k}`,
      }
      await db.insert([row])
    }
    const range = 'from=2026-01-10T08:00:00Z&to=2026-01-10T09:00:00Z&view=all&columns=path,user_agent'
    for (const [k, value] of hostile.entries()) {
      const answer = await check.get<RequestsAnswer>(
        `/api/v1/requests?${range}&where=${encodeURIComponent(`user_agent=${JSON.stringify(value)}`)}`,
      )
      expect(answer.rows, value.slice(0, 50)).toEqual([{ path: `/hostile/${k}`, user_agent: value }])
      const grouped = await check.get<{ series: { labels: Record<string, string> }[] }>(
        `/api/v1/latency?from=2026-01-10T08:00:00Z&to=2026-01-10T09:00:00Z&view=all&by=user_agent&where=${encodeURIComponent(`user_agent=${JSON.stringify(value)}`)}`,
      )
      expect(grouped.series.map((series) => series.labels)).toEqual([{ user_agent: value }])
    }
    expect((await ask('limit=10000&columns=path')).rows.length).toBe(rows.length)
  })

  it('name what is wrong with them', async () => {
    const refused = async (where: string) => {
      const problem = await check.get<{ code: string; parameter: string; detail: string; help?: string }>(
        `/api/v1/requests?${RANGE}&where=${encodeURIComponent(where)}`,
        400,
      )
      expect(problem.parameter).toBe('where')
      return problem
    }
    expect(await refused('response_kode=200')).toMatchObject({
      code: 'unknown_column',
      help: 'did you mean response_code?',
    })
    expect(await refused('end_time) OR (1=1')).toMatchObject({ code: 'bad_filter' })
    expect(await refused('request_uuid=1')).toMatchObject({ code: 'unknown_column' })
    expect(await refused('path=~(')).toMatchObject({ code: 'bad_filter' })
    expect(await refused('path=~a{2000}')).toMatchObject({ code: 'bad_filter' })
    expect(await refused('path=~(?=x)')).toMatchObject({ code: 'bad_filter' })
    expect(await refused('response_flags=UX')).toMatchObject({
      code: 'bad_filter',
      help: expect.stringContaining('did you mean'),
    })
  })
})

describe('ids', () => {
  it('are found by the indexes of their stored halves', async () => {
    for (const where of [`request_id=${rows[3]!.requestId}`, 'request_id=text id 77', `trace_id=${'0'.repeat(31)}9`]) {
      const column = where.startsWith('trace') ? 'trace_uuid' : where.includes('text') ? 'request_text' : 'request_uuid'
      const { filterSql, parseFilters } = await import('../../src/query/filters.ts')
      const { Bindings } = await import('../../src/query/sql.ts')
      const bindings = new Bindings()
      const sql = filterSql(parseFilters([where])[0]!, bindings, 0n)
      const { rows: plan } = await db.reader.query<{ explain: string }>(
        bindings.statement(`EXPLAIN indexes = 1 SELECT count() FROM requests WHERE ${sql}`),
        { signal: AbortSignal.timeout(10_000) },
      )
      const text = plan.map(({ explain }) => explain).join('\n')
      expect(text).toMatch(/Skip/)
      expect(text).toContain(column === 'trace_uuid' ? 'by_trace' : `by_${column}`)
    }
  })
})
