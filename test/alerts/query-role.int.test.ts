import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { createQueryDatabase } from '../support/query.ts'
import { type Sidecast, startSidecast } from '../support/sidecast.ts'
import { startTestStore, type TestStore } from '../support/store.ts'

let store: TestStore
beforeAll(async () => {
  store = await startTestStore({ keep: true })
})
afterAll(() => store?.stop())

const OBJECTIVE = JSON.stringify({
  apiVersion: 'openslo/v1',
  kind: 'SLO',
  metadata: { name: 'checkout' },
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
})

it('a process that only answers questions keeps objectives over a kill, and tells when they burn', async () => {
  const database = await createQueryDatabase(store, 'query_role')
  const now = Date.now()
  await database.insert(
    Array.from({ length: 50 }, (_, k) => ({
      end_time: new Date(now - 1000 * k).toISOString(),
      received: new Date(now).toISOString(),
      duration_ns: 1000,
      destination_service: 'checkout',
      reporter: 'destination',
      class: k % 5 === 0 ? 'server_error' : 'success',
    })),
  )
  const from = Math.floor(now / 3_600_000) * 3600 - 3600
  await database.rollUp(from, from + 7200)
  const told: { labels: Record<string, string>; generatorURL: string }[] = []
  const alertmanager = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (part: string) => {
      body += part
    })
    request.on('end', () => {
      if (request.url === '/am/api/v2/alerts' && request.headers.authorization === 'Bearer secret') {
        told.push(...(JSON.parse(body) as typeof told))
      }
      response.end()
    })
  })
  await new Promise<void>((done) => alertmanager.listen(0, '127.0.0.1', done))
  const data = await mkdtemp(join(tmpdir(), 'sidecast-query-role-'))
  const { username, password } = store.store.credentials.reader
  const open: Sidecast[] = []
  onTestFinished(async () => {
    for (const one of open) await one.close()
    alertmanager.closeAllConnections()
    alertmanager.close()
    await rm(data, { recursive: true, force: true })
  })
  const start = async () => {
    const sidecast = await startSidecast({
      data,
      args: ['--role', 'query'],
      set: [
        `store.clickhouse.url=${store.store.url}`,
        'store.clickhouse.database=query_role',
        `store.clickhouse.username=${username}`,
        `store.clickhouse.password=${password}`,
        `alertmanager.url=http://127.0.0.1:${(alertmanager.address() as AddressInfo).port}/am`,
        'alertmanager.token=secret',
        'alertmanager.every=1s',
        'alertmanager.generatorUrl=https://sidecast.example/',
      ],
    })
    open.push(sidecast)
    return sidecast
  }

  const first = await start()
  const put = await fetch(`http://${first.http}/api/v1/slos/checkout`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: OBJECTIVE,
  })
  expect([put.status, await put.json()]).toMatchObject([201, { created: true, objectives: ['checkout'] }])
  await first.kill('SIGKILL')
  expect(await readdir(join(data, 'slos'))).toEqual(['checkout.yaml'])

  const second = await start()
  await expect.poll(() => told.map(({ labels }) => labels.severity), { timeout: 20_000 }).toContain('page')
  expect(told[0]).toMatchObject({
    labels: { alertname: 'ErrorBudgetBurn', sloth_slo: 'checkout' },
    generatorURL: 'https://sidecast.example/api/v1/slos/checkout',
  })
  expect(await second.get('/api/v1/slos/checkout')).toMatchObject({ total: 50, bad: 10, origin: 'api', state: 'page' })
  const reload = await fetch(`http://${second.http}/-/reload`, { method: 'POST' })
  expect([reload.status, await reload.json()]).toEqual([200, { changes: [], listeners_closed: 0 }])
  expect(await second.get('/api/v1/alerts')).toMatchObject({
    evaluation: { known: true },
    alerts: [{ slo: 'checkout', state: 'firing' }, { slo: 'checkout' }],
  })
  const gone = await fetch(`http://${second.http}/api/v1/slos/checkout`, { method: 'DELETE' })
  expect(gone.status).toBe(204)
  await expect
    .poll(async () => (await second.get<{ alerts: { state: string }[] }>('/api/v1/alerts')).alerts, { timeout: 20_000 })
    .toMatchObject([{ state: 'resolved' }, { state: 'resolved' }])
})
