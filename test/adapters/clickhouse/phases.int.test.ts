import { afterAll, beforeAll, expect, it } from 'vitest'
import { seededRandom } from '../../../src/lib/random.ts'
import { FLAG_OM_BIT, PHASES, POINTS, phasesInto } from '../../../src/model/phases.ts'
import { createTestDatabase, never } from '../../support/clickhouse.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

let test: TestStore

beforeAll(async () => {
  test = await startTestStore({ keep: true })
})
afterAll(async () => {
  await test?.stop()
})

interface Case {
  /** In the order of POINTS; null when missing. */
  readonly points: readonly (number | null)[]
  readonly duration: number
  readonly flags: bigint
}

const SEED = 8
const RANDOM_ROWS = 20_000

/** Every set of missing points, with values in order, all equal, and against their order; and random ones. */
function cases(): Case[] {
  const list: Case[] = []
  for (let missing = 0; missing < 1 << POINTS.length; missing++) {
    for (const flags of [0n, 1n << BigInt(FLAG_OM_BIT), (1n << 29n) | 1n]) {
      const some = (value: (k: number) => number) => POINTS.map((_, k) => ((missing >> k) & 1 ? null : value(k)))
      list.push({ points: some((k) => (k + 1) * 100), duration: 900, flags })
      list.push({ points: some((k) => (7 - k) * 100), duration: 450, flags })
      list.push({ points: some(() => 5), duration: 5, flags })
    }
  }
  const random = seededRandom(SEED)
  const value = (): number => {
    const kind = random()
    if (kind < 0.1) return 0
    if (kind < 0.6) return Math.floor(random() * 1000)
    if (kind < 0.9) return Math.floor(random() * 1e9)
    return Math.floor(random() * 2 ** 53)
  }
  for (let row = 0; row < RANDOM_ROWS; row++) {
    const share = random()
    list.push({
      points: POINTS.map(() => (random() < share ? null : value())),
      duration: value(),
      flags: BigInt(Math.floor(random() * 2 ** 30)),
    })
  }
  return list
}

/** Of now, so that nothing expires; two days at most. */
const START = Math.floor(Date.now() / 1000) - 86_400

it('are the same in SQL and TypeScript, never negative, and add up to the duration', async () => {
  const database = await createTestDatabase(test)
  const all = cases()
  const lines = all.map(({ points, duration, flags }, row) =>
    [row, ...points.map((point) => point ?? '\\N'), duration, flags].join('\t'),
  )
  await test.writer.insert({
    table: `\`${database.clickhouse.database}\`.requests`,
    columns: ['tls_cipher', ...POINTS, 'duration_ns', 'response_flags', 'end_time'] as never,
    values: (await import('node:stream')).Readable.from(
      lines.map((line, row) => `${line.replace(/^\d+/, String(row % 65_536))}\t${START + row}\n`),
      { objectMode: false },
    ),
    format: 'TabSeparated',
    clickhouse_settings: { date_time_input_format: 'best_effort' },
  })
  const names = PHASES.map((phase) => `phase_${phase}_ns`)
  const { rows } = await database.clickhouse.query<{
    row: number
    known: boolean
    phases: (number | null)[]
    rest: number
  }>(
    {
      sql: `SELECT toUInt32(toUnixTimestamp(end_time) - ${START}) AS row, phases_known AS known, [${names.map((name) => `toString(${name})`).join(', ')}] AS phases,
        toInt64(duration_ns) - toInt64(${names.map((name) => `ifNull(${name}, 0)`).join(' + ')}) AS rest FROM requests ORDER BY row`,
      params: {},
    },
    { signal: never },
  )
  expect(rows).toHaveLength(all.length)
  const out = new Float64Array(7)
  const differing: unknown[] = []
  rows.forEach((found, row) => {
    const { points, duration, flags } = all[row]!
    const [a, b, c, d, e, f, g] = points.map((point) => point ?? -1) as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ]
    const known = phasesInto(out, 0, a, b, c, d, e, f, g, duration, ((flags >> BigInt(FLAG_OM_BIT)) & 1n) === 1n)
    const expected = known ? Array.from(out, String) : PHASES.map(() => null)
    const same = found.known === known && JSON.stringify(found.phases) === JSON.stringify(expected)
    if (!same || Number(found.rest) !== (known ? 0 : duration)) differing.push({ row, case: all[row], found, expected })
  })
  expect(differing.slice(0, 3)).toEqual([])
})
