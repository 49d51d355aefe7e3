import { describe, expect, it } from 'vitest'
import { type Alert, alertId, type Condition, nextAlerts } from '../../src/alerts/alert.ts'

const TIMING = { forMs: 20, resolvedMs: 100 }
const condition = (holds: boolean | null, labels: Record<string, string> = { alertname: 'A' }): Condition => ({
  labels,
  annotations: { summary: 'S' },
  slo: 'x',
  holds,
})

/** States of one alert after each of [time, what was found]. */
function lifeOf(steps: readonly (readonly [now: number, holds: boolean | null | 'gone'])[], forMs = TIMING.forMs) {
  let alerts = new Map<string, Alert>()
  return steps.map(([now, holds]) => {
    alerts = nextAlerts(alerts, holds === 'gone' ? [] : [condition(holds)], now, { ...TIMING, forMs })
    const [alert] = alerts.values()
    return alert === undefined ? 'inactive' : alert.state
  })
}

describe('an alert', () => {
  it.each([
    [
      'fires when it has held for long enough',
      [
        [0, true],
        [10, true],
        [20, true],
      ],
      ['pending', 'pending', 'firing'],
    ],
    [
      'forgets what held too shortly',
      [
        [0, true],
        [10, false],
        [20, true],
        [30, true],
      ],
      ['pending', 'inactive', 'pending', 'pending'],
    ],
    [
      'is told as resolved for a while',
      [
        [0, true],
        [20, true],
        [30, false],
        [129, false],
        [130, false],
      ],
      ['pending', 'firing', 'resolved', 'resolved', 'inactive'],
    ],
    [
      'does not change by what is not known',
      [
        [0, null],
        [5, true],
        [10, null],
        [25, true],
        [30, null],
        [40, false],
        [50, null],
      ],
      ['inactive', 'pending', 'pending', 'firing', 'firing', 'resolved', 'resolved'],
    ],
    [
      'ends with its rule',
      [
        [0, true],
        [20, true],
        [30, 'gone'],
        [131, 'gone'],
      ],
      ['pending', 'firing', 'resolved', 'inactive'],
    ],
    [
      'pending, is dropped with its rule',
      [
        [0, true],
        [10, 'gone'],
      ],
      ['pending', 'inactive'],
    ],
    [
      'comes back as a new one',
      [
        [0, true],
        [20, true],
        [30, false],
        [40, true],
        [60, true],
      ],
      ['pending', 'firing', 'resolved', 'pending', 'firing'],
    ],
  ] as const)('%s', (_, steps, states) => {
    expect(lifeOf(steps)).toEqual(states)
  })

  it('fires at once where it has not to wait', () => {
    expect(
      lifeOf(
        [
          [0, true],
          [1, false],
        ],
        0,
      ),
    ).toEqual(['firing', 'resolved'])
  })

  it('knows since when, and takes the words of now', () => {
    const one = nextAlerts(new Map(), [condition(true)], 5, TIMING)
    const two = nextAlerts(one, [{ ...condition(true), annotations: { summary: 'T' } }], 30, TIMING)
    expect([...two.values()]).toMatchObject([
      { activeMs: 5, firedMs: 30, resolvedMs: null, annotations: { summary: 'T' } },
    ])
    const three = nextAlerts(two, [condition(true)], 40, TIMING)
    expect([...three.values()]).toMatchObject([{ activeMs: 5, firedMs: 30 }])
    // The time of the data went back.
    const four = nextAlerts(three, [condition(false)], 20, TIMING)
    expect([...four.values()]).toMatchObject([{ state: 'resolved', firedMs: 30, resolvedMs: 31 }])
  })

  it('is another one when its labels are, and the one before ends', () => {
    const one = nextAlerts(new Map(), [condition(true)], 0, { ...TIMING, forMs: 0 })
    const two = nextAlerts(one, [condition(true, { alertname: 'A', team: 'b' })], 10, { ...TIMING, forMs: 0 })
    expect([...two.values()].map(({ labels, state }) => [labels.team, state])).toEqual([
      ['b', 'firing'],
      [undefined, 'resolved'],
    ])
  })

  it('is the same one whatever the order of its labels, and without those that are empty', () => {
    expect(alertId({ a: '1', b: '2', c: '' })).toBe(alertId({ b: '2', a: '1' }))
    expect(alertId({ a: '1' })).not.toBe(alertId({ a: '2' }))
  })
})
