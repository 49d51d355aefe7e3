import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Locator } from 'playwright-core'
import { expect, onTestFinished, test } from 'vitest'
import { startApp } from '../../src/app.ts'
import { requireConfig } from '../../src/config.ts'
import { imitatedTraffic } from '../../src/demo/demo.ts'
import { seededRandom } from '../../src/lib/random.ts'
import type { LatencyAnswer, ServicesAnswer } from '../../src/query/schemas.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import type { RequestsAnswer } from '../../src/web/page/api.ts'
import { count, duration, percent, unitFor } from '../../src/web/page/format.ts'
import { startChromium, watch } from '../support/chromium.ts'

/** The page on the whole product, with traffic over real gRPC: from the checklist to figures that are the API's own. */
async function startSidecast() {
  const data = await mkdtemp(join(tmpdir(), 'sidecast-page-'))
  const { config } = requireConfig({
    set: [
      `data=${JSON.stringify(data)}`,
      'http.listen=127.0.0.1:0',
      'ingest.grpc.listen=127.0.0.1:0',
      'ingest.otlpHttp.listen=127.0.0.1:0',
      'ingest.statsd.udp=127.0.0.1:0',
      'ingest.statsd.tcp=127.0.0.1:0',
    ],
    env: {},
  })
  const app = await startApp({ config, log: silentLog })
  onTestFinished(async () => {
    await app.stop()
    await rm(data, { recursive: true, force: true })
  })
  return { url: `http://${app.addresses.http}/`, grpc: app.addresses.grpc }
}

const textOf = async (locator: Locator) => (await locator.textContent()) ?? ''

test('from nothing to live figures, which are those of the API', async () => {
  const { url, grpc } = await startSidecast()
  const browser = await startChromium()
  onTestFinished(() => browser.close())
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } })
  const watched = await watch(page)
  await page.goto(url)
  await page.getByRole('heading', { name: 'No requests yet' }).waitFor()

  const from = new Date(Math.floor(Date.now() / 60_000) * 60_000).toISOString()
  const traffic = imitatedTraffic({ why: 'a test', grpc, random: seededRandom(7) })
  onTestFinished(() => traffic.stop())
  const services = page.locator('section:has(#h-services) tbody tr')
  await services.nth(4).waitFor({ timeout: 30_000 })
  const live = await textOf(page.locator('h1'))
  await expect.poll(() => textOf(page.locator('h1')), { timeout: 15_000 }).not.toBe(live)
  await traffic.stop()

  // A window that has passed: the same question has the same answer, whoever asks.
  await expect
    .poll(async () => Date.parse((await ask<LatencyAnswer>(url, 'latency', {})).through ?? '') > Date.now() - 1_500, {
      timeout: 15_000,
    })
    .toBe(true)
  const to = new Date().toISOString()
  const where = 'where=method%3DPOST'
  await page.goto(`${url}#/?from=${from}&to=${to}&order=duration&${where}`)
  const window = { from, to, where: 'method=POST' }
  const [api, slowest, whole] = await Promise.all([
    ask<ServicesAnswer>(url, 'services', window),
    ask<RequestsAnswer>(url, 'requests', { ...window, order: 'duration', limit: '25' }),
    ask<LatencyAnswer>(url, 'latency', { ...window, q: '0.99' }),
  ])
  expect(api.services.length).toBeGreaterThan(2)
  await expect.poll(() => services.count()).toBe(api.services.length)
  const unit = unitFor(api.services.map((row) => row.p99.value))
  const shown = await services.locator('td').allTextContents()
  const wanted = api.services.flatMap((row) => [
    row.labels.destination_service,
    count(row.n),
    percent(row.error_ratio, row.n),
    duration(row.p50, { unit, bare: true }),
    duration(row.p99, { unit, bare: true }),
  ])
  const columns = shown.length / api.services.length
  const read = api.services.flatMap((_row, i) =>
    [0, 2, 4, 6, 8].map((column) => shown[i * columns + column]!.replace(' °', '')),
  )
  expect([...read].sort()).toEqual([...wanted].sort())
  expect(await textOf(page.locator('h1'))).toContain(`p99 ${duration(whole.series[0]!.points[0]!.quantiles['0.99']!)}`)

  const took = await page.locator('section:has(#h-requests) tbody td:nth-child(5)').first().getAttribute('title')
  expect(took).toBe(`${slowest.rows[0]!.duration_ns} ns`)
  expect(watched.complaints).toEqual([])
  expect(watched.violations).toEqual([])
  expect([...watched.hosts]).toEqual([new URL(url).host])
})

async function ask<Answer>(url: string, resource: string, parameters: Record<string, string>): Promise<Answer> {
  const response = await fetch(`${url}api/v1/${resource}?${new URLSearchParams(parameters)}`)
  expect(response.status, await response.clone().text()).toBe(200)
  return (await response.json()) as Answer
}
