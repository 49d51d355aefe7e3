import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROW_TABLES, STORED_ROW_COLUMNS } from '../../../src/model/schema.ts'
import { createDecoding, framed, RECEIVED_MS } from '../../support/als-decoding.ts'
import { comparable, expectedRow, type JsonObject } from '../../support/als-expected.ts'

/** Columns that come from the origin, the identity or the classification, which have tests of their own. */
const NOT_OF_THE_ENTRY =
  /^(secondary|segment|source|node_|mesh|region|zone|sub_zone|envoy_version|log_name|reporter|source_|destination_|outcome|class|precision_ns)/

const fixture = (name: string): Buffer => readFileSync(new URL(`../../fixtures/als/${name}`, import.meta.url))

const entries = (kind: 'http' | 'tcp'): JsonObject[] =>
  fixture(`als-${kind}.expected.jsonl`)
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as JsonObject)
    .filter((line) => line.entry !== undefined)
    .map((line) => line.entry as JsonObject)

for (const kind of ['http', 'tcp'] as const) {
  test(`every value of every recorded ${kind} entry is decoded`, () => {
    const decoding = createDecoding()
    const result = decoding.feed(...framed(fixture(`als-${kind}.bin`)))
    expect(result).toMatchObject({ rejected: 0, cut: 0, untimed: 0, full: null, resume: -1 })
    const rows = decoding.take()
    const taken = Object.fromEntries(ROW_TABLES.map((table) => [table, 0]))
    const wanted = entries(kind)
    expect(wanted.length).toBeGreaterThan(10)
    let compared = 0
    for (const entry of wanted) {
      const { table, row } = expectedRow(entry, { isTcp: kind === 'tcp', receivedMs: RECEIVED_MS })
      const got = rows[table][taken[table]!++]!
      const expected = comparable(row)
      const found = comparable(got)
      for (const { name } of STORED_ROW_COLUMNS) {
        if (NOT_OF_THE_ENTRY.test(name)) continue
        expect({ [name]: found[name] }, JSON.stringify(entry)).toEqual({
          [name]: name in expected ? expected[name] : '',
        })
        compared++
      }
    }
    for (const table of ROW_TABLES) expect(rows[table].length).toBe(taken[table])
    expect(compared).toBeGreaterThan(wanted.length * 60)
  })
}

test('the recorded entries go where their type says', () => {
  const decoding = createDecoding()
  const http = decoding.feed(...framed(fixture('als-http.bin')))
  expect(http).toMatchObject({ requests: 91, attempts: 5, progress: 17, connections: 0 })
  const tcp = decoding.feed(...framed(fixture('als-tcp.bin')))
  expect(tcp).toMatchObject({ requests: 6, attempts: 0, progress: 5, connections: 2 })
})
