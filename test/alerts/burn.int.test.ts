import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createAlsClient } from '../../src/demo/als-client.ts'
import { nodeOf } from '../../src/demo/shop.ts'
import { checkoutEntry } from '../support/checkout-entry.ts'
import { startAlertmanager } from '../support/prometheus.ts'
import { startSidecast } from '../support/sidecast.ts'
import { startWebhook } from '../support/webhook.ts'

/** A page at 72 % of bad requests in the last hour, or 30 % in the last six. */
const OBJECTIVE = `apiVersion: openslo/v1
kind: SLO
metadata: { name: checkout, displayName: Checkout answers, labels: { team: payments } }
spec:
  service: shop
  indicator:
    spec:
      ratioMetric:
        total: { metricSource: { type: sidecast, spec: { where: [destination_service=checkout] } } }
        bad: { metricSource: { type: sidecast, spec: { where: [class=server_error] } } }
  timeWindow: [{ duration: 30d, isRolling: true }]
  objectives: [{ target: 0.95 }]
`

interface Alerts {
  readonly alerts: readonly { readonly state: string; readonly severity: string; readonly slo: string }[]
  readonly alertmanagers: readonly { readonly sent: number; readonly failed: number; readonly error: string | null }[]
}

describe('alerts of our own', () => {
  it('fire and end in a real Alertmanager, and are seen here', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sidecast-burn-'))
    onTestFinished(() => rm(dir, { recursive: true }))
    await writeFile(join(dir, 'slo.yaml'), OBJECTIVE)
    const { url, received } = await startWebhook()
    const alertmanager = await startAlertmanager(url)
    const sidecast = await startSidecast({
      set: [
        `slo.files=[${JSON.stringify(join(dir, 'slo.yaml'))}]`,
        `alertmanager.url=${alertmanager.url}`,
        'alertmanager.every=1s',
        'alertmanager.for=2s',
        'alertmanager.labels={cluster: test}',
      ],
    })
    onTestFinished(() => sidecast.close())
    const client = createAlsClient({
      address: sidecast.grpc,
      identifier: { logName: 'gateway', node: nodeOf('gateway') },
    })
    onTestFinished(() => client.stop())
    let sent = 0
    const send = (count: number, failed: boolean) => {
      for (let k = 0; k < count; k++) client.log(checkoutEntry(sent++, failed))
      client.flush()
    }
    const page = (status: string) =>
      received.find((alert) => alert.status === status && alert.labels.severity === 'page')
    const here = () => sidecast.get<Alerts>('/api/v1/alerts')
    const states = async () =>
      (await here()).alerts.filter(({ severity }) => severity === 'page').map(({ state }) => state)

    send(100, true)
    await expect.poll(states, { timeout: 20_000, interval: 100 }).toEqual(['pending'])
    await expect.poll(() => page('firing'), { timeout: 20_000, interval: 100 }).toBeDefined()
    expect(page('firing')).toMatchObject({
      labels: { alertname: 'ErrorBudgetBurn', sloth_slo: 'checkout', team: 'payments', cluster: 'test' },
      annotations: {
        summary: 'Checkout answers burns its error budget too fast',
        description: expect.stringContaining('100 of 100 requests of 1h (100 %, 20 times too fast)'),
      },
      generatorURL: `http://${sidecast.http}/api/v1/slos/checkout`,
    })
    expect(await states()).toEqual(['firing'])
    expect(await sidecast.get('/api/v1/rules')).toMatchObject({
      evaluation: { known: true },
      rules: [
        { slo: 'checkout', severity: 'page', state: 'firing', health: 'ok', for_s: 2, tiers: [{ exceeds: true }, {}] },
        { slo: 'checkout', severity: 'ticket' },
      ],
    })

    send(400, false)
    await expect.poll(() => page('resolved'), { timeout: 20_000, interval: 100 }).toBeDefined()
    expect(page('resolved')!.startsAt).toBe(page('firing')!.startsAt)
    expect(await states()).toEqual(['resolved'])
    const [peer] = (await here()).alertmanagers
    expect(peer).toMatchObject({ failed: 0, error: null })
    expect(peer!.sent).toBeGreaterThanOrEqual(2)
    const metrics = await (await fetch(`http://${sidecast.http}/metrics`)).text()
    expect(metrics).toMatch(/^sidecast_alerts\{state="resolved"\} 1$/m)
  })
})
