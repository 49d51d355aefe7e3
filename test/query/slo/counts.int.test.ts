import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bucketOf, upperEdge } from '../../../src/model/buckets.ts'
import type { QueryServer } from '../../../src/query/server.ts'
import type { SloRow } from '../../../src/query/slo/answer.ts'
import { createBurnReader } from '../../../src/query/slo/burn.ts'
import { readOpenSlo } from '../../../src/query/slo/openslo.ts'
import { BURN_WINDOWS, type BurnWindow, WINDOW_NS } from '../../../src/query/slo/windows.ts'
import { type AnswerChecker, createAnswerChecker } from '../../support/openapi.ts'
import { clockAt, createQueryDatabase, createTestServer, type QueryDatabase } from '../../support/query.ts'
import {
  HOUR_NS,
  makeRows,
  type OracleRow,
  onceEach,
  PHASES,
  phasesOf,
  storedRow,
  within,
} from '../../support/query-oracle.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

/**
 * Requests of four days, in the hours around the cuts between windows, and objectives that are recounted from them one by one.
 */
const BLOCKS = [
  ['2026-01-06T13:00:00Z', 3],
  ['2026-01-07T13:00:00Z', 3],
  ['2026-01-09T13:00:00Z', 3],
  ['2026-01-10T07:00:00Z', 8],
] as const
const blocks = BLOCKS.map(([start, hours]) => ({ start: Date.parse(start) / 1000, hours }))
const AT = '2026-01-10T14:37:21.123Z'
const AT_NS = BigInt(Date.parse(AT)) * 1_000_000n
const EDGE = upperEdge(bucketOf(20e6))

const slo = (name: string, spec: object, objective: object = { target: 0.97 }, duration = '4d') =>
  JSON.stringify({
    apiVersion: 'openslo/v1',
    kind: 'SLO',
    metadata: { name },
    spec: {
      service: 'shop',
      indicator: { spec },
      timeWindow: [{ duration, isRolling: true }],
      objectives: [objective],
    },
  })
const source = (spec: object) => ({ metricSource: { type: 'sidecast', spec } })
const ratio = (part: 'good' | 'bad', where: string[], total: object = {}) => ({
  ratioMetric: { counter: true, total: source(total), [part]: source({ where }) },
})
const TEXT = [
  slo('availability', ratio('bad', ['class=server_error'])),
  slo('odd-latency', { thresholdMetric: source({}) }, { target: 0.9, op: 'lte', value: 23.456789 }),
  slo('slower', ratio('bad', ['duration_ns>=17ms'], { where: ['destination_service=both'] })),
  slo('at-an-edge', ratio('good', [`duration_ns<=${EDGE}`], { where: ['destination_service!=solo'], view: 'server' })),
  slo(
    'waiting',
    { thresholdMetric: source({ measure: 'upstream_wait', unit: 'us' }) },
    { target: 0.9, op: 'lt', value: 900.5 },
  ),
  slo('both-at-once', ratio('good', ['class=success', 'duration_ns<8ms'], { exclude: ['class=aborted', 'route=r1'] })),
  slo('by-code', ratio('bad', ['response_code>=504'], { where: ['method=POST'] })),
  slo('short', ratio('bad', ['class=server_error']), { targetPercent: 99.9 }, '2h'),
].join('\n---\n')

const ORACLE: Readonly<
  Record<
    string,
    {
      of?: (row: OracleRow) => boolean
      out?: (row: OracleRow) => boolean
      bad: (row: OracleRow) => boolean
      view?: 'server'
    }
  >
> = {
  availability: { bad: (row) => row.class === 'server_error' },
  'odd-latency': { bad: (row) => row.duration > 23_456_789 },
  slower: { of: (row) => row.service === 'both', bad: (row) => row.duration >= 17e6 },
  'at-an-edge': { of: (row) => row.service !== 'solo', bad: (row) => row.duration > EDGE, view: 'server' },
  waiting: { bad: (row) => !(phaseOf(row) < 900_500) },
  'both-at-once': {
    out: (row) => row.class === 'aborted' || row.route === 'r1',
    bad: (row) => row.class !== 'success' || row.duration >= 8e6,
  },
  'by-code': { of: (row) => row.method === 'POST', bad: (row) => (row.code ?? 0) >= 504 },
  short: { bad: (row) => row.class === 'server_error' },
}
const phaseOf = (row: OracleRow) => phasesOf(row)?.[PHASES.indexOf('upstream_wait')] ?? Number.POSITIVE_INFINITY

const rows: OracleRow[] = blocks.flatMap(({ start, hours }, k) => makeRows(29 + k, 700 * hours, start, hours))
let store: TestStore
let db: QueryDatabase
const servers: QueryServer[] = []

beforeAll(async () => {
  store = await startTestStore({ keep: true })
  db = await createQueryDatabase(store, 'slos')
  await db.insert(rows.map(storedRow))
  for (const { start, hours } of blocks) await db.rollUp(start, start + hours * 3600)
})
afterAll(async () => {
  for (const server of servers) await server.stop(AbortSignal.timeout(5000))
  await store?.stop()
})

async function ask(options: { rowsDroppedBefore?: number; of?: QueryDatabase } = {}): Promise<AnswerChecker> {
  const { slos, findings } = readOpenSlo([{ name: 'slos.yaml', text: TEXT }])
  expect(findings.filter((finding) => finding.severity === 'error')).toEqual([])
  const server = createTestServer((options.of ?? db).reader, {
    clock: clockAt(AT),
    slos: { slos: () => slos },
    rowsDroppedBefore: async () => options.rowsDroppedBefore ?? 0,
  })
  servers.push(server)
  return createAnswerChecker(server.app)
}

function recount(name: string, from: bigint, to: bigint) {
  const { of = () => true, out = () => false, bad, view } = ORACLE[name]!
  const inTime = within(rows, from, to)
  const once = view === 'server' ? inTime.filter(isServer(inTime)) : onceEach(inTime)
  const counted = once.filter(of)
  const total = counted.filter((row) => !out(row))
  const wrong = total.filter(bad).length
  return { total: total.length, bad: wrong, good: total.length - wrong, excluded: counted.length - total.length }
}

const isServer = (all: readonly OracleRow[]) => {
  const byDestination = new Set(all.filter((row) => row.reporter === 'destination').map((row) => row.service))
  return (row: OracleRow) =>
    row.reporter === 'destination' || (row.reporter === 'waypoint' && !byDestination.has(row.service))
}

const DAY_NS = 24n * HOUR_NS
const periodOf = (row: SloRow) => (row.window.duration === '2h' ? 2n * HOUR_NS : 4n * DAY_NS)
const min = (a: bigint, b: bigint) => (a < b ? a : b)

describe('objectives', () => {
  it('burn for alerts as they burn for the API, of windows near and far', async () => {
    const check = await ask()
    const { slos } = await check.get<{ slos: SloRow[] }>('/api/v1/slos')
    const reader = createBurnReader({
      store: db.reader,
      retention: { rowsMs: null, minutesMs: null, hoursMs: null },
      clock: clockAt(AT),
    })
    const { slos: read } = readOpenSlo([{ name: 'slos.yaml', text: TEXT }])
    for (const reach of [6n, 72n]) {
      const burns = await reader.read({
        slos: read,
        at: AT_NS,
        reach: reach * HOUR_NS,
        signal: new AbortController().signal,
      })
      for (const [k, burn] of burns.entries()) {
        const row = slos[k]!
        const expected = row.alerts
          .filter(({ long }) => WINDOW_NS[long as BurnWindow] <= reach * HOUR_NS)
          .map(({ long, short, threshold, firing }) => ({
            threshold,
            exceeds: firing,
            long: { burn: row.burn[long as BurnWindow], bad: row.windows[long as BurnWindow].bad },
            short: { burn: row.burn[short as BurnWindow], bad: row.windows[short as BurnWindow].bad },
          }))
        expect(burn.tiers, row.name).toMatchObject(expected)
      }
    }
  })

  it('count good and bad of every window as the rows say, at any threshold', async () => {
    const check = await ask()
    const { slos } = await check.get<{ slos: SloRow[] }>('/api/v1/slos')
    expect(slos.map((row) => row.name)).toEqual(Object.keys(ORACLE))
    for (const row of slos) {
      const period = periodOf(row)
      expect(row, row.name).toMatchObject({ exact: true, complete: true, ...recount(row.name, AT_NS - period, AT_NS) })
      for (const window of BURN_WINDOWS) {
        const truth = recount(row.name, AT_NS - min(WINDOW_NS[window], period), AT_NS)
        expect(row.windows[window], `${row.name} ${window}`).toMatchObject({ exact: true, complete: true, ...truth })
        if (truth.total > 0) expect(row.burn[window]).toBeCloseTo(truth.bad / truth.total / (1 - row.objective), 9)
      }
    }
    // Both ways are in it: rollups where they are exact, and rows at a threshold that no bucket has.
    expect(new Set(slos.map((row) => row.source))).toEqual(
      new Set(['requests', 'requests,latency_1m,latency_1h', 'requests,latency_1m']),
    )
    const one = await check.get<SloRow>(`/api/v1/slos/slower?at=${AT}`)
    expect(one).toMatchObject({ name: 'slower', good: slos[2]!.good, bad: slos[2]!.bad, budget: slos[2]!.budget })
  })

  it('state bounds where rows have expired and the threshold is inside of a bucket', async () => {
    const rowsFrom = Date.parse('2026-01-09T12:00:00Z')
    const check = await ask({ rowsDroppedBefore: rowsFrom })
    const { slos } = await check.get<{ slos: SloRow[] }>('/api/v1/slos')
    const by = Object.fromEntries(slos.map((row) => [row.name, row]))
    for (const name of ['availability', 'at-an-edge', 'short']) expect(by[name]!.exact, name).toBe(true)
    for (const name of ['odd-latency', 'slower', 'waiting', 'both-at-once']) {
      const row = by[name]!
      const truth = recount(name, BigInt(Date.parse(row.from)) * 1_000_000n, AT_NS)
      expect(row.from).toBe('2026-01-06T14:37:00Z')
      expect(row, name).toMatchObject({ exact: false, complete: true, total: truth.total, excluded: truth.excluded })
      expect(row.bad_low).toBeLessThanOrEqual(truth.bad)
      expect(row.bad_high).toBeGreaterThanOrEqual(truth.bad)
      expect(row.bad_high - row.bad_low).toBeGreaterThan(0)
      expect(row.bad_high - row.bad_low).toBeLessThan(truth.total / 50)
      expect(row.windows['1d']).toMatchObject({ exact: true })
      expect(row.windows['1d'].bad).toBe(recount(name, AT_NS - DAY_NS, AT_NS).bad)
    }
    // Rollups do not have response codes: what has expired is not told, and that is said.
    expect(by['by-code']).toMatchObject({ complete: false, from: '2026-01-09T12:00:00Z' })
    const truth = recount('by-code', BigInt(rowsFrom) * 1_000_000n, AT_NS)
    expect(by['by-code']).toMatchObject(truth)
  })

  it('are of the time that is asked for, and named when they are not there', async () => {
    const check = await ask()
    const at = '2026-01-08T10:00:59.5Z'
    const { slos } = await check.get<{ slos: SloRow[]; at: string }>(`/api/v1/slos?at=${at}`)
    const end = BigInt(Date.parse(at)) * 1_000_000n
    const [row] = slos as [SloRow]
    expect(row.windows['1d']).toMatchObject(recount('availability', end - DAY_NS, end))
    const problem = await check.get<{ code: string; help: string }>('/api/v1/slos/availabilty', 404)
    expect(problem).toMatchObject({ code: 'not_found', help: 'did you mean availability?' })
  })

  it('that rollups do not name, because there were too many keys, are counted from rows, or told as a doubt', async () => {
    const few = await createQueryDatabase(store, 'slos_overflow')
    const [block] = [blocks.at(-2)!]
    const mine = makeRows(5, 800, block.start, 1)
    await few.insert(mine.map(storedRow))
    await few.rollUp(block.start, block.start + 3600, 3)
    const truth = (name: string) => {
      const { of = () => true, bad } = ORACLE[name]!
      const counted = onceEach(mine).filter(of)
      return { total: counted.length, bad: counted.filter(bad).length }
    }
    const { slos: exact } = await (await ask({ of: few })).get<{ slos: SloRow[] }>('/api/v1/slos')
    for (const name of ['availability', 'odd-latency', 'slower']) {
      expect(
        exact.find((row) => row.name === name),
        name,
      ).toMatchObject({ exact: true, ...truth(name) })
    }
    const late = await ask({ of: few, rowsDroppedBefore: Date.parse('2026-01-10T00:00:00Z') })
    const { slos: rough } = await late.get<{ slos: SloRow[] }>('/api/v1/slos')
    for (const name of ['availability', 'slower']) {
      const row = rough.find((one) => one.name === name)!
      expect(row, name).toMatchObject({ exact: false, complete: true })
      expect(row.bad_low).toBeLessThanOrEqual(truth(name).bad)
      expect(row.bad_high).toBeGreaterThanOrEqual(truth(name).bad)
    }
  })
})
