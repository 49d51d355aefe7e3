import { describe, expect, it } from 'vitest'
import type { ClickHouse } from '../../../src/adapters/clickhouse/client.ts'
import { createDayRollups, createShardedDays } from '../../../src/adapters/clickhouse/days.ts'
import type { Inserts } from '../../../src/adapters/clickhouse/insert.ts'
import type { Statement } from '../../../src/model/query.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { never, RETENTION } from '../../support/clickhouse.ts'
import { clockAt } from '../../support/query.ts'

const seconds = (text: string) => Date.parse(text) / 1000
const DAY_SECONDS = 86_400

interface World {
  now: string
  /** Month → when its newest part came, Unix seconds. */
  months: Record<string, number>
  /** Days that differ, as the engine tells them at the first look and at the second. */
  differing: { day: number; rows: number; stored: string }[][]
  quiet: boolean
}

/** Days over an engine that says what the world holds; spans that were looked at and corrections that were sent. */
function daysOver(world: World, hoursMs = RETENTION.hoursMs) {
  const looks: string[] = []
  const sent: { readonly token: string; readonly share: string }[] = []
  const query = async ({ sql, params }: Statement) => {
    if (sql.includes('system.parts')) {
      const now = seconds(world.now)
      const newestFirst = Object.entries(world.months).toSorted(([a], [b]) => Number(b) - Number(a))
      return { rows: newestFirst.map(([month, changed]) => ({ month, changed, now })) }
    }
    const { from, to } = params as Record<'from' | 'to', number>
    looks.push([from, to].map((at) => new Date(at * 1000).toISOString().slice(0, 10)).join(' '))
    return { rows: world.differing.shift() ?? [] }
  }
  const inserts: Pick<Inserts, 'select' | 'quiet'> = {
    quiet: async () => world.quiet,
    select: async ({ params }, { settings }) => {
      const { share, shares } = params as Record<'share' | 'shares', number>
      sent.push({ token: String(settings?.insert_deduplication_token), share: `${share}.${shares}` })
    },
  }
  const days = createDayRollups({
    clickhouse: { database: 'db', query } as unknown as ClickHouse,
    inserts: inserts as Inserts,
    retention: { ...RETENTION, hoursMs },
    clock: { ...clockAt(world.now), now: () => Date.parse(world.now) },
    log: silentLog,
  })
  return { days, looks, sent }
}

const worldAt = (now: string, months: readonly string[]): World => ({
  now,
  months: Object.fromEntries(months.map((month) => [month, seconds(now) - 3600])),
  differing: [],
  quiet: true,
})

describe('days that are looked at', () => {
  it('are over for ten minutes, and of months that hold hours', async () => {
    const { days, looks } = daysOver(worldAt('2026-03-03T00:09:59Z', ['202603', '202601']))
    await days.settle(never)
    expect(looks).toEqual(['2026-03-01 2026-03-02', '2026-01-01 2026-02-01'])
    const later = daysOver(worldAt('2026-03-03T00:10:00Z', ['202603']))
    await later.days.settle(never)
    expect(later.looks).toEqual(['2026-03-01 2026-03-03'])
    const first = daysOver(worldAt('2026-03-01T12:00:00Z', ['202603']))
    await first.days.settle(never)
    expect(first.looks).toEqual([])
  })

  it('do not expire before long', async () => {
    const world = worldAt('2026-03-20T12:00:00Z', ['202603', '202602', '202601'])
    const { days, looks } = daysOver(world, 30 * DAY_SECONDS * 1000)
    await days.settle(never)
    expect(looks).toEqual(['2026-03-01 2026-03-20', '2026-02-20 2026-03-01'])
  })

  it('are looked at again when parts came, a day is over, or a day went by', async () => {
    const world = worldAt('2026-03-20T12:00:00Z', ['202603', '202601'])
    const { days, looks } = daysOver(world)
    const lookAt = async (now: string) => {
      world.now = now
      looks.length = 0
      await days.settle(never)
      return looks.map((look) => look.slice(0, 7))
    }
    expect(await lookAt('2026-03-20T12:00:00Z')).toEqual(['2026-03', '2026-01'])
    expect(await lookAt('2026-03-20T12:10:00Z')).toEqual([])
    world.months['202601'] = seconds('2026-03-20T12:15:00Z')
    expect(await lookAt('2026-03-20T12:20:00Z')).toEqual(['2026-01'])
    // Within two seconds of the last look: it may have come after it.
    world.months['202601'] = seconds('2026-03-20T12:19:58Z')
    expect(await lookAt('2026-03-20T12:30:00Z')).toEqual(['2026-01'])
    expect(await lookAt('2026-03-21T00:30:00Z')).toEqual(['2026-03'])
    expect(await lookAt('2026-03-21T12:40:00Z')).toEqual(['2026-01'])
  })

  it('are not looked at while an earlier correction may still run', async () => {
    const { days, looks } = daysOver({ ...worldAt('2026-03-20T12:00:00Z', ['202603']), quiet: false })
    await expect(days.settle(never)).rejects.toThrow('may still be running')
    expect(looks).toEqual([])
  })
})

describe('a correction', () => {
  const day = seconds('2026-03-05T00:00:00Z')

  it('has a token of the totals that were stored, and as many shares as its hours need', async () => {
    const world = worldAt('2026-03-20T12:00:00Z', ['202603'])
    world.differing = [
      [
        { day, rows: 20_000, stored: '1.2' },
        { day: day - DAY_SECONDS, rows: 70_000, stored: '3.4' },
      ],
      [],
    ]
    const { days, sent } = daysOver(world)
    expect(await days.settle(never)).toBe(2)
    expect(sent).toEqual([
      { token: `latency_1d/${day}/0.1/1.2/`, share: '0.1' },
      ...[0, 1, 2, 3].map((share) => ({
        token: `latency_1d/${day - DAY_SECONDS}/${share}.4/3.4/`,
        share: `${share}.4`,
      })),
    ])
  })

  it('has another token after one that changed nothing, and its month is looked at again', async () => {
    const world = worldAt('2026-03-20T12:00:00Z', ['202603'])
    const same = { day, rows: 1, stored: '0.0' }
    world.differing = [[same], [same], [same], []]
    const { days, sent } = daysOver(world)
    await days.settle(never)
    await days.settle(never)
    expect(sent.map(({ token }) => token)).toEqual([
      `latency_1d/${day}/0.1/0.0/`,
      expect.stringMatching(/^latency_1d\/\d+\/0\.1\/0\.0\/[0-9a-f]{12}$/),
    ])
  })
})

it('made of several shards are those of each', async () => {
  const shards = [1, 2].map((n) => {
    const world = worldAt('2026-03-20T12:00:00Z', ['202603'])
    const differing = Array.from({ length: n }, (_, k) => ({ day: k * DAY_SECONDS, rows: 1, stored: '' }))
    world.differing = [differing, []]
    return daysOver(world)
  })
  expect(await createShardedDays(shards.map(({ days }) => days)).settle(never)).toBe(3)
  expect(shards.map(({ sent }) => sent.length)).toEqual([1, 2])
})
