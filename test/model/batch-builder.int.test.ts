import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Session } from 'chdb'
import { expect, onTestFinished, test } from 'vitest'
import { createEntryGenerator } from '../../bench/support/als-entries.ts'
import { ROW_COLUMNS, ROW_TABLES, STORED_ROW_COLUMNS } from '../../src/model/schema.ts'
import { createDecoding, framed, RECEIVED_MS } from '../support/als-decoding.ts'
import { comparable, expectedRow, type JsonObject } from '../support/als-expected.ts'

/** The real engine reads our blocks: the same values, whatever columns each block has. */
const STRUCTURE = STORED_ROW_COLUMNS.map(({ name, type }) => `${name} ${type}`).join(', ')

function engine(): { dir: string; query(sql: string): Record<string, unknown>[] } {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-native-'))
  const session = new Session(join(dir, 'store'))
  onTestFinished(() => {
    session.cleanup()
    rmSync(dir, { recursive: true, force: true })
  })
  // One thread, so that rows come in the order of the file.
  const settings = 'output_format_json_quote_64bit_integers = 1, max_threads = 1'
  return {
    dir,
    query: (sql) =>
      session
        .query(/^\s*SELECT/.test(sql) ? `${sql} SETTINGS ${settings}` : sql, 'JSONEachRow')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>),
  }
}

const fixture = (name: string): Buffer => readFileSync(new URL(`../fixtures/als/${name}`, import.meta.url))
const file = (path: string): string => `file('${path}', 'Native', '${STRUCTURE.replaceAll("'", "\\'")}')`

test('blocks with different columns in one file are read right, every value of the recorded entries', () => {
  const { dir, query } = engine()
  const decoding = createDecoding()
  const paths = Object.fromEntries(ROW_TABLES.map((table) => [table, join(dir, `${table}.native`)]))
  const parts = Object.fromEntries(ROW_TABLES.map((table) => [table, [] as Uint8Array[]]))
  const flush = (): void => {
    for (const table of ROW_TABLES) {
      const builder = decoding.builders[table]
      if (builder.rows > 0)
        parts[table]!.push(
          ...builder
            .seal()
            .encode('0-a-1')
            .buffers.map((part) => Uint8Array.from(part)),
        )
      builder.reset()
    }
  }
  const expected = Object.fromEntries(ROW_TABLES.map((table) => [table, [] as Record<string, unknown>[]]))
  for (const kind of ['http', 'tcp'] as const) {
    for (const message of framed(fixture(`als-${kind}.bin`))) {
      expect(decoding.feed(message)).toMatchObject({ rejected: 0 })
      flush()
    }
    for (const line of fixture(`als-${kind}.expected.jsonl`).toString().trim().split('\n')) {
      const { entry } = JSON.parse(line) as { entry?: JsonObject }
      if (entry === undefined) continue
      const { table, row } = expectedRow(entry, { isTcp: kind === 'tcp', receivedMs: RECEIVED_MS })
      expected[table]!.push(comparable(row))
    }
  }
  for (const table of ROW_TABLES) {
    writeFileSync(paths[table]!, Buffer.concat(parts[table]!))
    const rows = query(
      `SELECT * REPLACE (toUnixTimestamp64Nano(end_time) AS end_time, toUnixTimestamp64Milli(received) AS received) FROM ${file(paths[table]!)}`,
    )
    expect(rows).toHaveLength(expected[table]!.length)
    rows.forEach((row, k) => {
      const found = comparable(row as never)
      for (const [name, value] of Object.entries(expected[table]![k]!)) {
        expect({ [name]: found[name] }).toEqual({ [name]: typeof value === 'bigint' ? String(value) : value })
      }
    })
  }
})

test('a table of the schema takes the blocks, and its expressions say what was sent', () => {
  const { dir, query } = engine()
  const decoding = createDecoding({ rowsMax: 8192 })
  const generator = createEntryGenerator(11, { mutualTls: true })
  decoding.feed(...Array.from({ length: 100 }, () => generator.message()))
  const path = join(dir, 'requests.native')
  writeFileSync(path, Buffer.concat(decoding.builders.requests.seal().encode('0-a-7').buffers))
  const columns = ROW_COLUMNS.map(
    ({ name, type, expr }) => `${name} ${type}${expr === undefined ? '' : ` ALIAS ${expr}`}`,
  )
  query('CREATE DATABASE d ENGINE = Atomic')
  query(`CREATE TABLE d.requests (${columns.join(', ')}) ENGINE = MergeTree ORDER BY end_time`)
  const names = STORED_ROW_COLUMNS.map(({ name }) => name).join(', ')
  query(`INSERT INTO d.requests (${names}) SELECT ${names} FROM ${file(path)}`)
  const [sums] = query(`
    SELECT count() AS n, uniqExact(request_id) AS ids, uniqExact(trace_id) AS traces, countIf(stream_id = request_id) AS same,
      countIf(phases_known) AS phased, countIf(segment = '0-a-7') AS segments, uniqExact(upstream_cluster) AS clusters,
      countIf(destination_service = upstream_cluster) AS identified, countIf(match(upstream_host, '^10\\\\.\\\\d+\\\\.\\\\d+\\\\.\\\\d+:\\\\d+$')) AS hosts,
      countIf(match(path, 'token=[^*]')) AS leaked, countIf(path LIKE '%token=*') AS redacted,
      countIf(phase_client_send_ns + phase_proxy_request_ns + phase_upstream_send_ns + phase_upstream_wait_ns
        + phase_proxy_response_ns + phase_upstream_receive_ns + phase_client_receive_ns = duration_ns) AS whole
    FROM d.requests`)
  expect(sums).toMatchObject({
    n: '3200',
    ids: '3200',
    traces: '3200',
    same: '3200',
    segments: '3200',
    identified: '3200',
    hosts: '3200',
    leaked: '0',
    redacted: '400',
    phased: '3200',
    whole: '3200',
  })
  expect(Number(sums!.clusters)).toBeGreaterThan(80)
})

test('a block at every limit: 65 535 rows, distinct texts in every row, thousands of identities', () => {
  const { dir, query } = engine()
  const decoding = createDecoding({
    rowsMax: 65_535,
    builderLimits: { dictionaryBytesMax: 256 << 20, heapBytesMax: 64 << 20 },
  })
  const generator = createEntryGenerator(3, { edges: 5000, entriesPerMessage: 255 })
  for (let k = 0; k < 257; k++) expect(decoding.feed(generator.message())).toMatchObject({ requests: 255, full: null })
  const batch = decoding.builders.requests.seal()
  expect(batch.rows).toBe(65_535)
  const path = join(dir, 'full.native')
  writeFileSync(path, Buffer.concat(batch.encode('0-a-1').buffers))
  const [sums] = query(
    `SELECT count() AS n, uniqExact(request_uuid) AS ids, uniqExact(path) AS paths, uniqExact(upstream_cluster, destination_service) AS pairs, uniqExact(upstream_cluster) AS clusters FROM ${file(path)}`,
  )
  expect(sums).toMatchObject({ n: '65535', ids: '65535', paths: '65535', pairs: sums!.clusters })
})
