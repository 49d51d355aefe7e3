import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createEvaluator } from '../../src/alerts/evaluator.ts'
import type { BurnQuestion, SloBurn } from '../../src/query/slo/burn.ts'
import { readOpenSlo } from '../../src/query/slo/openslo.ts'
import { tiersOf, WINDOW_NS } from '../../src/query/slo/windows.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { createManualClock } from '../support/manual-clock.ts'

const START = Date.parse('2026-01-10T12:00:00Z')
const sloOf = (name: string) =>
  readOpenSlo([
    {
      name: 'f.yaml',
      text: JSON.stringify({
        apiVersion: 'openslo/v1',
        kind: 'SLO',
        metadata: { name, labels: { team: 'a' } },
        spec: {
          indicator: {
            spec: {
              ratioMetric: {
                total: { metricSource: { type: 'sidecast', spec: {} } },
                bad: { metricSource: { type: 'sidecast', spec: { where: ['class=server_error'] } } },
              },
            },
          },
          timeWindow: [{ duration: '30d', isRolling: true }],
          objectives: [{ target: 0.999 }],
        },
      }),
    },
  ]).slos[0]!

async function rig(options: { dir?: string; through?: () => number | null } = {}) {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'sidecast-alerts-')))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const clock = createManualClock(START)
  const world = {
    lost: null as number | null,
    slos: [sloOf('x')],
    burning: false as boolean | null | Error,
    asked: [] as BurnQuestion[],
    told: 0,
  }
  const evaluator = createEvaluator({
    reader: {
      async read(question) {
        world.asked.push(question)
        const { burning } = world
        if (burning instanceof Error) throw burning
        return question.slos.map(
          (slo): SloBurn => ({
            slo,
            tiers: tiersOf(slo.period.ns)
              .filter((tier) => WINDOW_NS[tier.long] <= question.reach)
              .map((tier) => {
                const window = { total: 10, bad: burning === true ? 10 : 0, burn: burning === true ? 1000 : 0 }
                const [long, short] = [
                  { ...window, window: tier.long },
                  { ...window, window: tier.short },
                ]
                return { tier, threshold: 14.4, reachable: true, long, short, exceeds: burning }
              }),
          }),
        )
      },
    },
    slos: () => world.slos,
    through: options.through ?? (() => null),
    lost: (fromMs, toMs) => (toMs - fromMs === 3_600_000 ? world.lost : null),
    path: join(dir, 'alerts.json'),
    timing: { everyMs: 10_000, forMs: 0, labels: { cluster: 'c' } },
    onAlerts: () => world.told++,
    clock,
    log: silentLog,
  })
  await evaluator.start()
  onTestFinished(() => evaluator.stop(AbortSignal.abort()))
  const states = () =>
    [...evaluator.alerts()].map(({ labels, state }) => `${labels.sloth_slo} ${labels.severity} ${state}`)
  /** The next look is over. */
  const next = async () => {
    const before = world.told
    await clock.pass(10_000)
    await expect.poll(() => world.told).toBeGreaterThan(before)
  }
  await expect.poll(() => world.told).toBe(1)
  return { dir, clock, world, evaluator, states, next }
}

describe('objectives are watched', () => {
  it('pages often and near, tickets seldom and far, a new one at once', async () => {
    const { world, next } = await rig()
    const HOUR = 3600n * 1_000_000_000n
    expect(world.asked.map(({ reach }) => reach)).toEqual([72n * HOUR])
    await next()
    await next()
    expect(world.asked.slice(1).map(({ reach }) => reach)).toEqual([6n * HOUR, 6n * HOUR])
    world.slos = [...world.slos, sloOf('y')]
    await next()
    expect(world.asked.slice(3).map(({ slos, reach }) => [slos.map(({ name }) => name), reach])).toEqual([
      [['x'], 6n * HOUR],
      [['y'], 72n * HOUR],
    ])
    for (let k = 0; k < 27; k++) await next()
    expect(world.asked.at(-1)).toMatchObject({ reach: 72n * HOUR, at: BigInt(START + 300_000) * 1_000_000n })
  })

  it('fire, with labels and words, and end', async () => {
    const { world, evaluator, states, next } = await rig()
    world.burning = true
    await next()
    expect(states()).toEqual(['x page firing'])
    const [alert] = evaluator.alerts()
    expect(alert).toMatchObject({
      slo: 'x',
      labels: { alertname: 'ErrorBudgetBurn', cluster: 'c', team: 'a', sloth_id: 'x', severity: 'page' },
      annotations: {
        description: expect.stringMatching(/^Bad were 10 of 10 requests of 1h \(100 %, 1000 times too fast\)/),
      },
    })
    expect(evaluator.rules().map(({ severity, alert }) => [severity, alert?.state])).toEqual([
      ['page', 'firing'],
      ['ticket', undefined],
    ])
    world.burning = false
    await next()
    expect(states()).toEqual(['x page resolved'])
  })

  it('stay as they are while nothing is known: the store behind, failing, or rows gone', async () => {
    let through: number | null = null
    const { clock, world, evaluator, states, next } = await rig({ through: () => through })
    world.burning = true
    await next()
    world.burning = false
    through = clock.now() - 60_000
    await next()
    expect(states()).toEqual(['x page firing'])
    expect(evaluator.last).toMatchObject({
      atMs: null,
      reason: `the store has everything until ${new Date(through).toISOString()} only`,
    })
    through = null
    world.burning = new Error('the store does not answer')
    await next()
    expect(states()).toEqual(['x page firing'])
    expect(evaluator.last).toMatchObject({ atMs: null, reason: 'the store does not answer' })
    world.burning = null
    await next()
    expect(states()).toEqual(['x page firing'])
    expect(evaluator.rules()[0]!.finding).toMatchObject({ holds: null, reason: expect.stringContaining('expired') })
    expect(evaluator.counters).toMatchObject({ unknown: 1, failed: 1 })
    world.burning = false
    await next()
    expect(states()).toEqual(['x page resolved'])
  })

  it('end at what the store has, not at the clock', async () => {
    let through = START
    const { world, next, evaluator } = await rig({ through: () => through })
    through = START + 7_500
    await next()
    expect(world.asked.at(-1)!.at).toBe(BigInt(through) * 1_000_000n)
    expect(evaluator.last!.atMs).toBe(through)
  })

  it('say what is in no count, where that is known', async () => {
    const { world, evaluator, next } = await rig()
    world.burning = true
    world.lost = 7
    await next()
    const description = () => [...evaluator.alerts()][0]!.annotations.description
    expect(description()).toMatch(/ 7 requests of the whole mesh were lost in the last hour, and are not counted\.$/)
    world.lost = 0
    await next()
    expect(description()).toMatch(/allows 0\.1 %\.$/)
  })

  it('goes with the objective', async () => {
    const { world, states, next } = await rig()
    world.burning = true
    await next()
    world.slos = []
    await next()
    expect(states()).toEqual(['x page resolved'])
  })

  it('outlives the process, also when it cannot be looked at at once', async () => {
    const { dir, world, evaluator, next } = await rig()
    world.burning = true
    await next()
    const [before] = evaluator.alerts()
    await evaluator.stop(AbortSignal.abort())
    expect(JSON.parse(await readFile(join(dir, 'alerts.json'), 'utf8'))).toMatchObject({ alerts: [{ slo: 'x' }] })
    const again = await rig({ dir })
    // There, it does not burn any more.
    expect(again.states()).toEqual(['x page resolved'])
    const after = [...again.evaluator.alerts()][0]!
    expect(after).toMatchObject({ id: before!.id, activeMs: before!.activeMs, firedMs: before!.firedMs })
  })

  it.each(['', '{', '{"version":2}', '{"version":1,"alerts":[{"id":"x"},null,7]}'])(
    'begins anew where what was kept is %j',
    async (text) => {
      const dir = await mkdtemp(join(tmpdir(), 'sidecast-alerts-'))
      await writeFile(join(dir, 'alerts.json'), text)
      const { states } = await rig({ dir })
      expect(states()).toEqual([])
    },
  )
})
