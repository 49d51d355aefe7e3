import { describe, expect, it, onTestFinished } from 'vitest'
import type { Alert } from '../../src/alerts/alert.ts'
import { createAlertmanagerPeer } from '../../src/alerts/alertmanager.ts'
import type { PostAnswer } from '../../src/alerts/post.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { createManualClock } from '../support/manual-clock.ts'

const START = Date.parse('2026-01-10T12:00:00Z')
const OK: PostAnswer = { answered: true, status: 200, text: '' }
interface Sent {
  readonly atMs: number
  readonly alerts: readonly {
    readonly labels: Record<string, string>
    readonly startsAt: string
    readonly endsAt: string
  }[]
}

const firing = (name: string, activeMs = START): Alert => ({
  id: name,
  labels: { alertname: name },
  annotations: { summary: `${name} burns` },
  state: 'firing',
  activeMs,
  firedMs: activeMs,
  resolvedMs: null,
  slo: name,
})

async function rig(answer: (attempt: number) => PostAnswer = () => OK) {
  const clock = createManualClock(START)
  const alerts = new Map<string, Alert>()
  const sent: Sent[] = []
  const peer = createAlertmanagerPeer({
    url: 'http://am/api/v2/alerts',
    post: Object.assign(
      async (body: string) => {
        sent.push({ atMs: clock.now() - START, alerts: JSON.parse(body) })
        return answer(sent.length)
      },
      { close() {} },
    ),
    alerts: () => alerts.values(),
    generatorUrl: ({ slo }) => `http://here/api/v1/slos/${slo}`,
    resendMs: 60_000,
    clock,
    log: silentLog,
    random: () => 1,
  })
  await peer.start()
  onTestFinished(() => peer.stop(AbortSignal.abort()))
  const tell = async (...all: Alert[]) => {
    alerts.clear()
    for (const alert of all) alerts.set(alert.id, alert)
    peer.wake()
    await clock.pass(0)
  }
  return { clock, peer, sent, tell }
}

describe('an Alertmanager', () => {
  it('is told at once, again after a while, and when it is over', async () => {
    const { clock, peer, sent, tell } = await rig()
    await tell(firing('a'))
    expect(sent).toEqual([
      {
        atMs: 0,
        alerts: [
          {
            labels: { alertname: 'a' },
            annotations: { summary: 'a burns' },
            startsAt: '2026-01-10T12:00:00.000Z',
            endsAt: '2026-01-10T12:04:00.000Z',
            generatorURL: 'http://here/api/v1/slos/a',
          },
        ],
      },
    ])
    await tell(firing('a'))
    expect(sent.length).toBe(1)
    await clock.pass(60_000)
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 60_000])
    expect(sent[1]!.alerts[0]!.endsAt).toBe('2026-01-10T12:05:00.000Z')
    await tell({ ...firing('a'), state: 'resolved', resolvedMs: START + 50_000 })
    expect(sent[2]!.alerts).toMatchObject([{ endsAt: '2026-01-10T12:00:50.000Z' }])
    expect(peer.counters).toEqual({ sent: 3, rejected: 0, failed: 0 })
    await tell()
    await clock.pass(300_000)
    expect(sent.length).toBe(3)
  })

  it('that is away is tried again after longer and longer, with the state of then', async () => {
    const { clock, peer, sent, tell } = await rig((attempt) =>
      attempt <= 3 ? { answered: false, error: new Error('connect ECONNREFUSED') } : OK,
    )
    await tell(firing('a'), firing('b'))
    expect(peer.lastError).toBe('connect ECONNREFUSED')
    // What changes meanwhile does not make it come sooner.
    await tell(firing('b'), firing('c'))
    await clock.pass(6999)
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 1000, 3000])
    await clock.pass(1)
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 1000, 3000, 7000])
    expect(sent[3]!.alerts.map(({ labels }) => labels.alertname)).toEqual(['b', 'c'])
    expect(peer.counters).toEqual({ sent: 2, rejected: 0, failed: 3 })
    expect(peer.lastError).toBeNull()
    await tell(firing('d'), firing('b'), firing('c'))
    expect(sent[4]!.alerts.map(({ labels }) => labels.alertname)).toEqual(['d'])
  })

  it('that asks for time gets it', async () => {
    const { clock, sent, tell } = await rig((attempt) =>
      attempt === 1 ? { answered: true, status: 503, text: '', afterMs: 20_000 } : OK,
    )
    await tell(firing('a'))
    await clock.pass(19_999)
    expect(sent.length).toBe(1)
    await clock.pass(1)
    expect(sent.length).toBe(2)
  })

  it('that refuses alerts is not told the same again before its time', async () => {
    const { clock, peer, sent, tell } = await rig(() => ({ answered: true, status: 400, text: 'bad label' }))
    await tell(firing('a'))
    await tell(firing('a'))
    await clock.pass(59_000)
    expect(sent.length).toBe(1)
    expect(peer.counters).toEqual({ sent: 0, rejected: 1, failed: 0 })
    expect(peer.lastError).toBe('400 bad label')
    await clock.pass(1000)
    expect(sent.length).toBe(2)
  })

  it('gets many in portions', async () => {
    const { sent, tell } = await rig()
    await tell(...Array.from({ length: 600 }, (_, k) => firing(`a${k}`)))
    expect(sent.map(({ alerts }) => alerts.length)).toEqual([256, 256, 88])
  })
})
