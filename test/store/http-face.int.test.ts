import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { createClient, TupleParam } from '@clickhouse/client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestStore, type TestStore } from '../support/store.ts'

const MIB = 1024 * 1024
/** Runs for minutes when nobody ends it. */
const ENDLESS = 'SELECT sum(sipHash64(number)) FROM numbers(1000000000000)'

let test: TestStore

beforeAll(async () => {
  test = await startTestStore({
    keep: true,
    limits: {
      readMsMax: 15_000,
      statementMemoryBytesMax: 200 * MIB,
      resultBytesMax: 64 * MIB,
      bodyBytesMax: 32 * MIB,
      readsMax: 2,
      waitingMax: 2,
    },
  })
})
afterAll(() => test.stop())

let tables = 0
async function table(columns: string): Promise<string> {
  const name = `t${++tables}`
  await test.writer.command({ query: `CREATE TABLE ${name} (${columns}) ENGINE = MergeTree ORDER BY tuple()` })
  return name
}

async function rows<Row>(query: string, params: Record<string, unknown> = {}): Promise<Row[]> {
  const result = await test.reader.query({ query, query_params: params, format: 'JSONEachRow' })
  return result.json<Row>()
}

async function value(query: string): Promise<string> {
  const result = await test.writer.query({ query, format: 'TabSeparated' })
  return (await result.text()).trim()
}

/** A request as it is, for what the client does not show. */
type RawOptions = RequestInit & { readonly user?: 'reader' | 'writer'; readonly duplex?: 'half' }
async function raw(path: string, { user = 'reader', ...init }: RawOptions = {}): Promise<Response> {
  const { username, password } = test.store.credentials[user]
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
  return fetch(`${test.store.url}${path}`, { ...init, headers: { authorization, ...init.headers } })
}
const query = (sql: string, settings: Record<string, string> = {}) =>
  `/?${new URLSearchParams({ query: sql, ...settings })}`

const runs = async (id: string) => Number(await value(`SELECT count() FROM system.processes WHERE query_id = '${id}'`))
async function until(condition: () => Promise<boolean>, withinMs: number): Promise<number> {
  const began = performance.now()
  while (!(await condition())) {
    if (performance.now() - began > withinMs) throw new Error(`not within ${withinMs} ms`)
    await sleep(10)
  }
  return performance.now() - began
}

describe('queries', () => {
  it('answer the ping, with and without a statement', async () => {
    expect(await test.reader.ping()).toEqual({ success: true })
    expect(await test.reader.ping({ select: true })).toEqual({ success: true })
    expect(await (await fetch(`${test.store.url}/ping`)).text()).toBe('Ok.\n')
  })

  it('answer in every format as one document, however large', async () => {
    const sql = 'SELECT number AS n FROM numbers(200000)'
    const json = await (await test.reader.query({ query: sql, format: 'JSON' })).json<{ n: number }>()
    expect([json.rows, json.data.length, Number(json.data[199_999]!.n)]).toEqual([200_000, 200_000, 199_999])
    expect(json.statistics?.rows_read).toBe(200_000)
    const csv = (await (await test.reader.query({ query: sql, format: 'CSVWithNames' })).text()).trimEnd().split('\n')
    expect([csv.length, csv[0], csv[200_000]]).toEqual([200_001, '"n"', '199999'])
    const native = await raw(query(`${sql} FORMAT Native`))
    expect(native.headers.get('x-clickhouse-format')).toBe('Native')
    const copy = await table('n UInt64')
    const values = Readable.from([Buffer.from(await native.arrayBuffer())])
    await test.writer.exec({ query: `INSERT INTO ${copy} FORMAT Native`, values })
    expect(await value(`SELECT count(), sum(n) FROM ${copy}`)).toBe('200000\t19999900000')
  })

  it('bind parameters of every kind as text, whatever is in them', async () => {
    const awkward = `it's "a" \\ back\ttab\nnew \r ünï 😀 {n:UInt8}; -- /*`
    const [row] = await rows<Record<string, unknown>>(
      `SELECT {s:String} AS s, {n:UInt8} AS n, {i:Int64} AS i, {f:Float64} AS f, {b:Bool} AS b,
        {nothing:Nullable(String)} AS nothing, {list:Array(String)} AS list, {nested:Array(Array(UInt8))} AS nested,
        {map:Map(String, UInt8)} AS map, {pair:Tuple(UInt8, String)} AS pair, {id:UUID} AS id,
        toUnixTimestamp64Milli({at:DateTime64(3, 'UTC')}) AS at, number FROM {table:Identifier}(1)`.replace(
        '{table:Identifier}(1)',
        'numbers({one:UInt64})',
      ),
      {
        s: awkward,
        n: 7,
        i: -9007199254740991,
        f: 1.5e-300,
        b: true,
        nothing: null,
        list: [awkward, '', "'"],
        nested: [[1, 2], []],
        map: { "k'": 1 },
        pair: new TupleParam([1, "x'"]),
        id: '00112233-4455-6677-8899-aabbccddeeff',
        at: new Date('2026-01-02T03:04:05.678Z'),
        one: 1,
      },
    )
    expect(row).toEqual({
      s: awkward,
      n: 7,
      i: -9007199254740991,
      f: 1.5e-300,
      b: true,
      nothing: null,
      list: [awkward, '', "'"],
      nested: [[1, 2], []],
      map: { "k'": 1 },
      pair: [1, "x'"],
      id: '00112233-4455-6677-8899-aabbccddeeff',
      at: Date.parse('2026-01-02T03:04:05.678Z'),
      number: 0,
    })
  })

  it('take names of tables as parameters, and parameters in a form', async () => {
    const name = await table('a UInt8')
    expect(await rows('SELECT count() AS n FROM {t:Identifier}', { t: name })).toEqual([{ n: 0 }])
    const long = 'ü'.repeat(1_000_000)
    const result = await test.reader.query({
      query: 'SELECT lengthUTF8({s:String}) AS n, {t:String} AS t',
      query_params: { s: long, t: 'x\ty' },
      format: 'JSONEachRow',
      use_multipart_params: true,
    })
    expect(await result.json()).toEqual([{ n: 1_000_000, t: 'x\ty' }])
  })

  it('do not mix up parameters and settings of statements side by side', async () => {
    let [right, n] = [0, 0]
    const ask = async () => {
      for (let round = 0; round < 15; round++) {
        const size = 1000 + ++n
        const result = await test.writer.query({
          query: "SELECT {n:UInt32} AS n, getSetting('max_block_size') AS size, sleep(0.002) AS s",
          query_params: { n: size },
          format: 'JSONEachRow',
          clickhouse_settings: { max_block_size: String(size) },
        })
        const [row] = await result.json<{ n: number; size: number }>()
        if (row!.n === size && Number(row!.size) === size) right++
      }
    }
    await Promise.all([ask(), ask(), ask(), ask()])
    expect(right).toBe(60)
  })

  it('stream a large result while it is made, at the speed of the client', async () => {
    const result = await test.reader.query({
      query: 'SELECT number, toString(number) AS s FROM numbers(2000000)',
      format: 'JSONEachRow',
    })
    let n = 0
    for await (const chunk of result.stream<{ number: number }>()) n += chunk.length
    expect(n).toBe(2_000_000)
  })

  it.each(['gzip', 'zstd', 'br'] as const)('answer compressed as %s when asked', async (codec) => {
    const asked = await raw(query('SELECT number FROM numbers(10000)', { enable_http_compression: '1' }), {
      headers: { 'accept-encoding': codec },
    })
    expect(asked.headers.get('content-encoding')).toBe(codec)
    if (codec !== 'zstd') expect((await asked.text()).split('\n').length).toBe(10_001)
    const notAsked = await raw(query('SELECT 1'), { headers: { 'accept-encoding': codec } })
    expect(notAsked.headers.get('content-encoding')).toBeNull()
    const { username, password } = test.store.credentials.reader
    const client = createClient({
      url: test.store.url,
      username,
      password,
      compression: { response: codec === 'br' ? true : { codec }, request: false },
    })
    const result = await client.query({ query: 'SELECT number FROM numbers(100000)', format: 'JSONEachRow' })
    expect((await result.json()).length).toBe(100_000)
    await client.close()
  })

  it('tell the client what the interface tells: id, format, zone, summary', async () => {
    const { headers } = await raw(query('SELECT 1', { query_id: 'mine', default_format: 'CSV' }))
    expect(headers.get('x-clickhouse-query-id')).toBe('mine')
    expect(headers.get('x-clickhouse-timezone')).toBe('UTC')
    expect(headers.get('x-clickhouse-format')).toBe('CSV')
    expect(JSON.parse(headers.get('x-clickhouse-summary')!)).toMatchObject({ result_rows: '1' })
    expect(await value("SELECT timezone(), toString(toDateTime64('2026-01-01 00:00:00', 0))")).toBe(
      'UTC\t2026-01-01 00:00:00',
    )
  })

  it('use the database of the request', async () => {
    await test.writer.command({ query: 'CREATE DATABASE IF NOT EXISTS `odd``name`' })
    const answer = await raw(query('SELECT currentDatabase()', { database: 'odd`name' }))
    expect(await answer.text()).toBe('odd`name\n')
    expect((await raw(query('SELECT 1', { database: 'none' }))).status).toBe(404)
  })
})

describe('inserts', () => {
  it('take rows, streams and files of every format, with defaults, settings and their count', async () => {
    const name = await table("a UInt32, b String DEFAULT 'none'")
    const first = await test.writer.insert({
      table: name,
      values: [{ a: 1, b: "x'\n" }, { a: 2 }],
      format: 'JSONEachRow',
    })
    expect(first.summary?.written_rows).toBe('2')
    const stream = Readable.from(
      (function* () {
        for (let a = 3; a < 5003; a++) yield { a, b: 'stream' }
      })(),
      { objectMode: true },
    )
    const second = await test.writer.insert({ table: name, values: stream, format: 'JSONEachRow' })
    expect(second.summary?.written_rows).toBe('5000')
    const native = await raw(query(`SELECT a, b FROM ${name} WHERE a <= 10 ORDER BY a FORMAT Native`))
    await test.writer.exec({
      query: `INSERT INTO ${name} (a, b) FORMAT Native`,
      values: Readable.from([Buffer.from(await native.arrayBuffer())]),
    })
    await test.writer.command({ query: `INSERT INTO ${name} VALUES (90001, ';'), (90002, 'SELECT')` })
    await test.writer.command({ query: `INSERT INTO ${name} (a) SELECT 90003` })
    const inline = await raw('/', {
      method: 'POST',
      user: 'writer',
      body: `INSERT INTO ${name} FORMAT CSV\n90004,"ü"\n`,
    })
    expect(inline.status).toBe(200)
    expect(await value(`SELECT count(), sum(a), uniq(b) FROM ${name}`)).toBe('5016\t12872568\t6')
  })

  it.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
    ['br', brotliCompressSync],
  ] as const)('take bodies compressed as %s', async (encoding, compress) => {
    const name = await table('a UInt32')
    const body = compress(Buffer.from('{"a":1}\n{"a":2}\n'))
    const headers = { 'content-encoding': encoding }
    const answer = await raw(query(`INSERT INTO ${name} FORMAT JSONEachRow`), {
      method: 'POST',
      user: 'writer',
      headers,
      body: new Uint8Array(body),
    })
    expect([answer.status, await value(`SELECT sum(a) FROM ${name}`)]).toEqual([200, '3'])
    const cut = await raw(query(`INSERT INTO ${name} FORMAT JSONEachRow`), {
      method: 'POST',
      user: 'writer',
      headers,
      body: new Uint8Array(body.subarray(0, body.length - 4)),
    })
    expect([cut.status >= 400, await value(`SELECT sum(a) FROM ${name}`)]).toEqual([true, '3'])
  })

  it('know a deduplication token', async () => {
    const name = `t${++tables}`
    await test.writer.command({
      query: `CREATE TABLE ${name} (a UInt32) ENGINE = MergeTree ORDER BY a
        SETTINGS non_replicated_deduplication_window = 100`,
    })
    const insert = (token: string) =>
      test.writer.insert({
        table: name,
        values: [{ a: 1 }],
        format: 'JSONEachRow',
        clickhouse_settings: { insert_deduplication_token: token },
      })
    await insert('x')
    await insert('x')
    await insert('y')
    expect(await value(`SELECT count() FROM ${name}`)).toBe('2')
  })

  it('keep nothing of a body that is refused, and say where it is wrong', async () => {
    const name = await table('a UInt32')
    const values = Readable.from(['{"a":1}\n', '{"a":"x"}\n'])
    const error = await test.writer.exec({ query: `INSERT INTO ${name} FORMAT JSONEachRow`, values }).then(
      () => undefined,
      (failure: { code: string; message: string }) => failure,
    )
    expect(error?.message).toMatch(/at row 2/)
    expect(await value(`SELECT count() FROM ${name}`)).toBe('0')
  })

  it('refuse a body over the limit, also when it is small until decompressed', async () => {
    const name = await table('a String')
    const bomb = gzipSync(Buffer.alloc(40 * MIB, 'a'))
    const answer = await raw(query(`INSERT INTO ${name} FORMAT LineAsString`), {
      method: 'POST',
      user: 'writer',
      headers: { 'content-encoding': 'gzip' },
      body: new Uint8Array(bomb),
    })
    expect([answer.status, await answer.text()]).toEqual([413, expect.stringMatching(/^Code: 307\./)])
    expect(await value(`SELECT count() FROM ${name}`)).toBe('0')
  })

  it('forget a client that leaves in the middle of its body', async () => {
    const name = await table('a UInt32')
    const leaving = new AbortController()
    const body = new ReadableStream({
      async pull(controller) {
        controller.enqueue(Buffer.from('{"a":1}\n'))
        await sleep(5)
      },
    })
    const request = raw(query(`INSERT INTO ${name} FORMAT JSONEachRow`), {
      method: 'POST',
      user: 'writer',
      body,
      duplex: 'half',
      signal: leaving.signal,
    })
    await sleep(100)
    leaving.abort()
    await expect(request).rejects.toThrow()
    await sleep(100)
    expect(await value(`SELECT count() FROM ${name}`)).toBe('0')
  })
})

describe('errors', () => {
  it.each([
    ['SELECT 1 +', 400, 62],
    ['SELECT * FROM nowhere', 404, 60],
    ['SELECT nothing', 404, 47],
    ['SELECT 1 FORMAT Nope', 404, 73],
    ['SELECT 1; SELECT 2', 400, 62],
    ['', 400, 62],
    ['-- nothing', 400, 62],
    ["SELECT toUInt8('x')", 400, 6],
    ['SELECT throwIf(1)', 500, 395],
    ['SELECT {p:UInt8}', 500, 456],
  ])('%j is HTTP %i with code %i', async (sql, status, code) => {
    const answer = await raw('/', { method: 'POST', body: sql })
    const text = await answer.text()
    expect([answer.status, text.slice(0, `Code: ${code}.`.length)]).toEqual([status, `Code: ${code}.`])
    expect(answer.headers.get('x-clickhouse-exception-code')).toBe(String(code))
    expect(text).toMatch(/\([A-Z_]+\) \(version 26\.[\d.]+\)\n$/)
  })

  it('are of the engine for words that only it knows', async () => {
    const answer = await raw('/', { method: 'POST', user: 'writer', body: 'SELEC 1' })
    expect([answer.status, await answer.text()]).toEqual([400, expect.stringMatching(/^Code: 62\./)])
  })

  it('are those of the client', async () => {
    await expect(test.reader.query({ query: 'SELECT * FROM nowhere' })).rejects.toMatchObject({
      code: '60',
      type: 'UNKNOWN_TABLE',
    })
  })

  it('come after the first bytes as well, and are never taken for the end', async () => {
    const sql = 'SELECT number, throwIf(number = 1500000) FROM numbers(2000000)'
    const result = await test.reader.query({ query: sql, format: 'JSONEachRow' })
    const reading = (async () => {
      for await (const chunk of result.stream()) void chunk
    })()
    await expect(reading).rejects.toMatchObject({ code: '395' })
    // A client that knows nothing of the mark in the text still sees that the answer was cut.
    const plain = await raw(query(`${sql} FORMAT TSV`))
    expect(plain.status).toBe(200)
    await expect(plain.text()).rejects.toThrow()
    const waited = await raw(query(`${sql} FORMAT TSV`, { wait_end_of_query: '1' }))
    expect(waited.status).toBe(500)
    const document = await raw(query(`${sql} FORMAT JSON`))
    expect(document.status).toBe(500)
  })

  it('meet paths, methods and credentials that are not', async () => {
    expect((await raw('/play')).status).toBe(404)
    expect((await raw('/', { method: 'DELETE' })).status).toBe(405)
    for (const [username, password] of [
      ['reader', 'wrong'],
      ['default', ''],
      ['', ''],
      ['writer', test.store.credentials.reader.password],
    ]) {
      const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
      const answer = await fetch(`${test.store.url}${query('SELECT 1')}`, { headers: { authorization } })
      expect([answer.status, answer.headers.get('x-clickhouse-exception-code')]).toEqual([403, '516'])
    }
    const { username, password } = test.store.credentials.reader
    const headers = { 'x-clickhouse-user': username, 'x-clickhouse-key': password }
    expect((await fetch(`${test.store.url}${query('SELECT 1')}`, { headers })).status).toBe(200)
    expect((await fetch(`${test.store.url}${query('SELECT 1', { user: username, password })}`)).status).toBe(200)
  })
})

describe('a reader', () => {
  it.each([
    'INSERT INTO system.one VALUES (1)',
    'CREATE TABLE x (a UInt8) ENGINE = Memory',
    'DROP DATABASE default',
    'KILL QUERY WHERE 1',
    'SYSTEM STOP MERGES',
    'OPTIMIZE TABLE x',
    'SET readonly = 0',
    'USE system',
    'EXPLAIN SELECT 1; SET readonly = 0',
    "SELECT ‘ ' ’; SELECT 1 INTO OUTFILE ‘/tmp/sidecast-outfile’ -- '",
    "SELECT 1 // '\n; SELECT 1 INTO OUTFILE '/tmp/sidecast-outfile' -- '",
    "SELECT 1 /* /* */ ' */; SELECT 1 INTO OUTFILE '/tmp/sidecast-outfile' -- '",
    "SELECT 1 INTO OUTFILE '/tmp/sidecast-outfile'",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "SELECT * FROM executable('id', 'TSV', 'a String')",
    'SELECT 1 SETTINGS readonly = 0',
    'SELECT 1 SETTINGS max_memory_usage = 0',
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "INSERT INTO FUNCTION file('/tmp/sidecast-outfile', 'TSV', 'a UInt8') VALUES (1)",
  ])('cannot %s', async (sql) => {
    const answer = await raw('/', { method: 'POST', body: sql })
    expect(answer.ok).toBe(false)
    expect(await answer.text()).toMatch(/^Code: (164|497|48|62|452|1|36)\./)
  })

  it('cannot set by URL what is not for it', async () => {
    expect((await raw(query('SELECT 1', { insert_deduplication_token: 'x' }))).status).toBe(500)
    expect((await raw(query('SELECT 1', { profile: 'default' }))).status).toBe(500)
    const answer = await raw(query("SELECT getSetting('readonly')", { readonly: '0' }))
    expect(await answer.text()).toBe('1\n')
  })

  it('is what a writer becomes by GET or by asking for it', async () => {
    const create = 'CREATE TABLE never (a UInt8) ENGINE = Memory'
    expect((await raw(query(create), { user: 'writer' })).status).toBe(500)
    expect((await raw(query(create, { readonly: '1' }), { user: 'writer', method: 'POST' })).status).toBe(500)
    expect(await value('EXISTS TABLE never')).toBe('0')
  })
})

describe('limits', () => {
  it('end a statement by time, whatever the caller set', async () => {
    const began = performance.now()
    const answer = await raw(query(ENDLESS, { max_execution_time: '0.5' }))
    expect([answer.status, await answer.text()]).toEqual([408, expect.stringMatching(/^Code: 159\./)])
    expect(performance.now() - began).toBeLessThan(5000)
    const unlimited = await raw(query("SELECT getSetting('max_execution_time')", { max_execution_time: '0' }))
    expect(Number(await unlimited.text())).toBe(20)
  })

  it('never let a part pass for the whole, whenever the time is over', async () => {
    const sql = 'SELECT number, toString(number) AS s FROM numbers(1000000) FORMAT JSONEachRow'
    const outcomes = { whole: 0, failed: 0 }
    for (let ms = 20; ms <= 400; ms += 20) {
      const answer = await raw(query(sql, { max_execution_time: String(ms / 1000) }))
      const text = await answer.text().catch(() => undefined)
      if (!answer.ok || text === undefined) outcomes.failed++
      else {
        expect(text.split('\n').length).toBe(1_000_001)
        outcomes.whole++
      }
    }
    expect(outcomes.failed).toBeGreaterThan(0)
  })

  it('end a statement by memory, for both users and by every way to ask for more', async () => {
    const hungry = 'SELECT uniqExact(number) FROM numbers(30000000)'
    for (const user of ['reader', 'writer'] as const) {
      const answer = await raw(query(hungry, { max_memory_usage: '0' }), { user, method: 'POST' })
      expect(await answer.text()).toMatch(/^Code: 241\./)
    }
    const clause = await raw(query(`${hungry} SETTINGS max_memory_usage = 10000000000`), {
      user: 'writer',
      method: 'POST',
    })
    expect(await clause.text()).toMatch(/^Code: 452\./)
  })

  it('end a statement by the size of its result', async () => {
    const answer = await raw(query('SELECT number, repeat(toString(number), 10) FROM numbers(30000000) FORMAT JSON'))
    expect(await answer.text()).toMatch(/^Code: 396\./)
  })

  it('refuse what there is no room for, while an insert and a ping go through', async () => {
    const name = await table('a UInt32')
    const leaving = new AbortController()
    const slow = Array.from({ length: 4 }, (_, n) =>
      raw(query(ENDLESS, { query_id: `slow-${n}` }), { signal: leaving.signal }).catch(() => undefined),
    )
    await until(async () => (await runs('slow-0')) + (await runs('slow-1')) + (await runs('slow-2')) >= 2, 3000)
    await sleep(100)
    const refused = await raw(query('SELECT 1 + 1'))
    expect(await test.reader.ping({ select: true })).toEqual({ success: true })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await refused.text()).toMatch(/^Code: 202\./)
    const began = performance.now()
    await test.writer.insert({ table: name, values: [{ a: 1 }], format: 'JSONEachRow' })
    expect(await test.writer.ping()).toEqual({ success: true })
    expect(await value(`SELECT count() FROM ${name}`)).toBe('1')
    expect(performance.now() - began).toBeLessThan(10_000)
    leaving.abort()
    await Promise.all(slow)
    await until(async () => (await raw(query('SELECT 1 + 1'))).ok, 2000)
  })
})

describe('leaving', () => {
  it.each([
    ['a sum', ENDLESS],
    ['a result that is on its way', 'SELECT number, sipHash64(number) FROM numbers(1000000000000)'],
    ['a plan with a scalar subquery', `SELECT (${ENDLESS}) AS x, number FROM numbers(10)`],
  ])('ends %s within a second', async (_name, sql) => {
    for (const user of ['reader', 'writer'] as const) {
      const id = `leaving-${user}-${sql.length}`
      const leaving = new AbortController()
      const request = test[user].query({
        query: sql,
        query_id: id,
        format: 'JSONEachRow',
        abort_signal: leaving.signal,
        clickhouse_settings: { max_result_bytes: '60000000' },
      })
      const outcome = request.then(
        async (result) => {
          result.close()
        },
        () => undefined,
      )
      await until(async () => (await runs(id)) === 1, 3000)
      leaving.abort()
      await outcome
      expect(await until(async () => (await runs(id)) === 0, 5000)).toBeLessThan(5000)
    }
  })

  it('ends an insert that runs', async () => {
    const name = await table('a UInt64')
    const leaving = new AbortController()
    const command = test.writer
      .command({
        query: `INSERT INTO ${name} SELECT sipHash64(number) FROM numbers(100000000000)`,
        query_id: 'long-insert',
        abort_signal: leaving.signal,
      })
      .catch(() => undefined)
    await until(async () => (await runs('long-insert')) === 1, 3000)
    leaving.abort()
    await command
    expect(await until(async () => (await runs('long-insert')) === 0, 5000)).toBeLessThan(5000)
  })

  it('is not needed to end a statement: KILL QUERY knows its id', async () => {
    const outcome = test.writer
      .query({ query: ENDLESS, query_id: "to'kill", format: 'TabSeparated' })
      .catch((error: { code: string }) => error.code)
    await until(async () => (await runs("to\\'kill")) === 1, 3000)
    const taken = await raw(query('SELECT 1', { query_id: "to'kill" }))
    expect(await taken.text()).toMatch(/^Code: 216\./)
    await test.writer.command({
      query: 'KILL QUERY WHERE query_id = {id:String} ASYNC',
      query_params: { id: "to'kill" },
    })
    expect(await outcome).toBe('394')
  })

  it('lets a reader end what readers run, and nothing else', async () => {
    const kill = (id: string) =>
      test.reader.command({ query: 'KILL QUERY WHERE query_id = {id:String} ASYNC', query_params: { id } })
    const start = (user: 'reader' | 'writer', id: string) =>
      test[user].query({ query: ENDLESS, query_id: id }).catch((error: { code: string }) => error.code)
    const [read, written] = [start('reader', 'of-reader'), start('writer', 'of-writer')]
    await until(async () => (await runs('of-reader')) + (await runs('of-writer')) === 2, 3000)
    await kill('of-writer')
    await kill('of-reader')
    expect(await read).toBe('394')
    expect(await runs('of-writer')).toBe(1)
    await test.writer.command({ query: "KILL QUERY WHERE query_id = 'of-writer'" })
    expect(await written).toBe('394')
  })
})
