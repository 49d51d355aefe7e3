import { expect, test } from 'vitest'
import { seededRandom } from '../../../src/lib/random.ts'
import { ROW_TABLES, STORED_ROW_COLUMNS } from '../../../src/model/schema.ts'
import { createDecoding, RECEIVED_MS } from '../../support/als-decoding.ts'
import { comparable, expectedRow, type JsonObject } from '../../support/als-expected.ts'
import { entriesOf, type OracleEntry, RandomMessages } from '../../support/als-oracle.ts'

/** Columns that come from the origin, the identity or the classification, which have tests of their own. */
const NOT_OF_THE_ENTRY =
  /^(secondary|segment|source|node_|mesh|region|zone|sub_zone|envoy_version|log_name|reporter|source_|destination_|outcome|class|precision_ns)/
/** Unknown flags are told by number; protobufjs does not keep them. */
const COLUMNS = STORED_ROW_COLUMNS.map(({ name }) => name).filter(
  (name) => !NOT_OF_THE_ENTRY.test(name) && name !== 'flags_text',
)

/**
 * An entry without type and code whose request holds nothing but empty texts and zeros. Envoy leaves those out; here
 * they may be on the wire, and protobufjs does not tell whether they were, which decides the table.
 */
function saysNothingOfItsKind({ entry, isTcp }: OracleEntry): boolean {
  const { access_log_type = 'NotSet' } = (entry.common_properties ?? {}) as JsonObject
  const { response_code } = (entry.response ?? {}) as JsonObject
  if (isTcp || access_log_type !== 'NotSet' || response_code !== undefined) return false
  return entry.request !== undefined && Object.keys(entry.request as JsonObject).length === 0
}

const SEED = Number(process.env.SEED ?? 20_260_101)
const MESSAGES = Number(process.env.MESSAGES ?? 300)

test(`random messages are read as protobufjs reads them, every field (SEED=${SEED})`, () => {
  const random = seededRandom(SEED)
  const messages = new RandomMessages(random)
  // Few rows, so that builders are sealed in the middle of messages too.
  const decoding = createDecoding({ rowsMax: 7 })
  let compared = 0
  for (let k = 0; k < MESSAGES; k++) {
    const bytes = messages.message(1 + Math.floor(random() * 4), random() < 0.3)
    const label = `SEED=${SEED} message ${k}: ${bytes.toString('base64')}`
    const result = decoding.feed(bytes)
    expect({ rejected: result.rejected, cut: result.cut }, label).toEqual({ rejected: 0, cut: 0 })
    const rows = decoding.take()
    const entries = entriesOf(bytes)
    if (entries.some(saysNothingOfItsKind)) continue
    const taken: Record<string, number> = { requests: 0, attempts: 0, progress: 0, connections: 0 }
    for (const { entry, isTcp } of entries) {
      const { table, row } = expectedRow(entry, { isTcp, receivedMs: RECEIVED_MS })
      const got = rows[table][taken[table]!++]
      if (got === undefined) throw new Error(`${label}: no row in ${table}`)
      const found = comparable(got)
      const expected = comparable(row)
      for (const name of COLUMNS) {
        const wanted = name in expected ? expected[name] : ''
        if (found[name] === wanted) continue
        expect({ [name]: found[name] }, label).toEqual({ [name]: wanted })
      }
      compared++
    }
    for (const table of ROW_TABLES) expect(rows[table].length, label).toBe(taken[table])
  }
  expect(compared).toBeGreaterThan(MESSAGES)
}, 600_000)
