import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Disturbance, type LossyEnvoy, startLossyEnvoy } from '../support/envoy/loss.ts'
import { type Sidecast, startSidecast } from '../support/sidecast.ts'

interface Row {
  readonly node: string
  readonly served: number | null
  readonly written: number | null
  readonly received: number
  readonly stored: number
  readonly filtered: number | null
  readonly lost: number | null
  readonly unexplained: number
  readonly stats: string | null
  readonly source: string | null
}

let dir: string
let sidecast: Sidecast

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sidecast-loss-'))
  sidecast = await startSidecast()
})
afterAll(async () => {
  await sidecast?.close()
  await rm(dir, { recursive: true, force: true })
})

async function rowOf(node: string): Promise<Row | undefined> {
  const { rows } = await sidecast.get<{ rows: Row[] }>('/api/v1/ledger')
  return rows.find((row) => row.node === node)
}

/** Waits until the ledger says of the node what its access log file says. */
async function settled(node: string, envoy: LossyEnvoy): Promise<{ row: Row; truth: number }> {
  await expect
    .poll(
      async () => {
        const row = await rowOf(node)
        const served = envoy.served()
        return row === undefined ? null : { served: row.served === served, lost: row.lost === served - row.stored }
      },
      { timeout: 60_000, interval: 500 },
    )
    .toEqual({ served: true, lost: true })
  const row = (await rowOf(node))!
  return { row, truth: envoy.served() - row.stored }
}

/** Loses entries by `how`, and compares with the truth; then once more after a restart of Envoy. */
async function lose(how: Exclude<Disturbance, 'none'>, id: string): Promise<void> {
  const envoy = await startLossyEnvoy({ id, dir, grpc: sidecast.grpcPort })
  try {
    await envoy.load(300, 2)
    await envoy.disturb(how)
    await envoy.load(300, 4)
    await envoy.disturb('none')
    await envoy.load(300, 2)
    const first = await settled(id, envoy)
    expect(first.truth).toBeGreaterThan(100)
    expect(first.row).toMatchObject({ unexplained: 0, source: 'als', stats: 'envoy-metrics-service' })
    await envoy.restart()
    await envoy.load(300, 3)
    const second = await settled(id, envoy)
    expect(second.row).toMatchObject({ lost: first.truth, unexplained: 0 })
  } finally {
    await envoy.stop()
  }
}

test('what a real Envoy loses is counted to the request: its receiver killed, not reading, rejecting; and none when nothing is', async () => {
  const undisturbed = async (): Promise<void> => {
    const envoy = await startLossyEnvoy({ id: 'edge-none', dir, grpc: sidecast.grpcPort })
    try {
      await envoy.load(300, 6)
      const { row, truth } = await settled('edge-none', envoy)
      expect(truth).toBe(0)
      expect(row).toMatchObject({ lost: 0, unexplained: 0, filtered: 0 })
    } finally {
      await envoy.stop()
    }
  }
  await Promise.all([
    lose('killed', 'edge-killed'),
    lose('not read', 'edge-stalled'),
    lose('rejected', 'edge-rejected'),
    undisturbed(),
  ])
  const metrics = await (await fetch(`http://${sidecast.http}/metrics`)).text()
  expect(metrics).toMatch(/^sidecast_ledger_nodes_with_loss 3$/m)
})
