import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { startLossyEnvoy } from '../support/envoy/loss.ts'
import { startSidecast } from '../support/sidecast.ts'

interface Row {
  readonly served: number | null
  readonly stored: number
  readonly lost: number | null
  readonly unexplained: number
}

test('Sidecast itself killed under load: after its start it says to the request what it missed', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-loss-'))
  const data = join(dir, 'data')
  onTestFinished(() => rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }))
  let sidecast = await startSidecast({ data })
  onTestFinished(() => sidecast.close())
  const port = sidecast.grpcPort
  const envoy = await startLossyEnvoy({ id: 'edge', dir, grpc: port })
  onTestFinished(() => envoy.stop())
  // Long enough for the ledger to have compared, and saved, what there is.
  await envoy.load(200, 12)
  const load = envoy.load(200, 10)
  await sleep(2000)
  await sidecast.kill('SIGKILL')
  await sleep(1000)
  sidecast = await startSidecast({ data, set: [`ingest.grpc.listen=127.0.0.1:${port}`] })
  await load
  const row = async (): Promise<Row | undefined> => (await sidecast.get<{ rows: Row[] }>('/api/v1/ledger')).rows[0]
  await expect
    .poll(
      async () => {
        const { served, stored, lost } = (await row()) ?? { served: null, stored: 0, lost: null }
        return { served: served === envoy.served(), lost: lost === envoy.served() - stored }
      },
      { timeout: 60_000, interval: 500 },
    )
    .toEqual({ served: true, lost: true })
  const settled = (await row())!
  expect(settled.unexplained).toBe(0)
  expect(settled.lost).toBeGreaterThan(100)
})
