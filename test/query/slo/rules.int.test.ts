import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createAlsClient } from '../../../src/demo/als-client.ts'
import { nodeOf } from '../../../src/demo/shop.ts'
import type { SloRow } from '../../../src/query/slo/answer.ts'
import { runSlo } from '../../../src/query/slo/command.ts'
import { checkoutEntry } from '../../support/checkout-entry.ts'
import { promtool } from '../../support/programs.ts'
import { startAlertmanager, startPrometheus } from '../../support/prometheus.ts'
import { startSidecast } from '../../support/sidecast.ts'
import { startWebhook } from '../../support/webhook.ts'

const run = promisify(execFile)
const deploy = new URL('../../../deploy/', import.meta.url).pathname

async function rulesOf(file: string): Promise<string> {
  let text = ''
  const code = await runSlo(['rules', file], {
    stdout: (part) => (text += part),
    stderr: () => {},
    configured: () => ({ files: [] }),
  })
  expect(code).toBe(0)
  return text
}

describe('rules for Prometheus', () => {
  it('that are checked in are those that are made from the objectives', async () => {
    expect(await readFile(`${deploy}prometheus/rules/slo-shop.yaml`, 'utf8')).toBe(
      await rulesOf(`${deploy}slo/shop.yaml`),
    )
  })

  it('are sound to promtool, and do what its tests say', async () => {
    const tool = await promtool()
    const cwd = `${deploy}prometheus`
    const rules = await run(tool, ['check', 'rules', 'rules/slo-shop.yaml', 'rules/sidecast.yaml'], { cwd })
    expect(rules.stdout.match(/SUCCESS: \d+ rules/g)).toEqual(['SUCCESS: 34 rules', 'SUCCESS: 6 rules'])
    const config = await run(tool, ['check', 'config', 'prometheus.yml'], { cwd })
    expect(config.stdout).toContain('prometheus.yml is valid')
    const tests = await run(tool, ['test', 'rules', 'tests/slo-shop.yaml', 'tests/sidecast.yaml'], { cwd })
    expect(tests.stdout.match(/SUCCESS/g)).toHaveLength(2)
  })

  it('alert a real Alertmanager, by way of a real Prometheus, of what Sidecast counts as well', async () => {
    const file = `${deploy}slo/shop.yaml`
    const { url: hook, received } = await startWebhook()

    const [sidecast, alertmanager, rules] = await Promise.all([
      startSidecast({ set: [`slo.files=[${JSON.stringify(file)}]`] }),
      startAlertmanager(hook),
      rulesOf(file),
    ])
    onTestFinished(() => sidecast.close())
    await startPrometheus({
      features: ['exemplar-storage'],
      config: {
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        alerting: { alertmanagers: [{ static_configs: [{ targets: [alertmanager.url.slice('http://'.length)] }] }] },
        scrape_configs: [
          { job_name: 'sidecast-mesh', metrics_path: '/metrics/mesh', static_configs: [{ targets: [sidecast.http] }] },
        ],
      },
      rules: { 'slo.yaml': rules },
    })

    // One answer of checkout in ten is a 503; all are quick.
    const client = createAlsClient({
      address: sidecast.grpc,
      identifier: { logName: 'gateway', node: nodeOf('gateway') },
    })
    let sent = 0
    const timer = setInterval(() => {
      for (let k = 0; k < 20; k++) {
        client.log(checkoutEntry(sent, sent % 10 === 0))
        sent++
      }
      client.flush()
    }, 100)
    onTestFinished(async () => {
      clearInterval(timer)
      await client.stop()
    })
    const fired = () => received.find(({ status, labels }) => status === 'firing' && labels.severity === 'page')
    await expect.poll(fired, { timeout: 60_000, interval: 200 }).toBeDefined()
    clearInterval(timer)
    expect(fired()).toMatchObject({
      labels: { alertname: 'ErrorBudgetBurn', sloth_slo: 'checkout-availability', team: 'payments' },
      annotations: { summary: 'Checkout answers burns its error budget too fast' },
    })
    expect(received.some(({ labels }) => labels.sloth_slo === 'checkout-latency')).toBe(false)

    const slo = () => sidecast.get<SloRow>('/api/v1/slos/checkout-availability')
    await expect.poll(async () => (await slo()).total, { timeout: 60_000 }).toBe(sent)
    expect(await slo()).toMatchObject({ bad: Math.ceil(sent / 10), exact: true, state: 'page' })
    expect(await sidecast.get<SloRow>('/api/v1/slos/checkout-latency')).toMatchObject({
      bad: 0,
      good: sent,
      state: 'ok',
    })
  })
})
