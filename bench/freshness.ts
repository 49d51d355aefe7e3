import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createAlsClient } from '../src/demo/als-client.ts'
import type { LogEntry } from '../src/demo/als-encode.ts'
import { nodeOf } from '../src/demo/shop.ts'
import { startSidecast } from '../test/support/sidecast.ts'

/**
 * How long from Envoy's flush to the row in an answer of the API, while other entries arrive at a fixed rate:
 *
 *   node bench/freshness.ts [--rate 20000] [--probes 100]
 *
 * A probe is one entry with an id of its own; its time is from the write to the first answer that has it, asked for
 * every 50 ms. JSON.
 */
const { values } = parseArgs({
  options: { rate: { type: 'string', default: '20000' }, probes: { type: 'string', default: '100' } },
})
const PROBE: Omit<LogEntry, 'startMs' | 'requestId'> = {
  rxEnd: 0.01,
  upTxBegin: 0.2,
  upTxEnd: 0.21,
  upRxBegin: 4.5,
  upRxEnd: 4.6,
  downTxBegin: 4.7,
  downTxEnd: 4.8,
  duration: 5,
  cluster: 'probe',
  upstreamPort: 80,
  route: 'probe',
  method: 'GET',
  authority: 'probe',
  path: '/probe',
  requestBytes: 0,
  responseBytes: 0,
  code: 200,
  details: 'via_upstream',
  flag: null,
  attempts: 1,
}
const probes = Number(values.probes)
const sidecast = await startSidecast()
const load = spawn(
  process.execPath,
  [
    new URL('support/load.ts', import.meta.url).pathname,
    '--to',
    sidecast.grpc,
    '--rate',
    values.rate,
    '--seconds',
    '600',
    '--report',
  ],
  { stdio: ['ignore', 'ignore', 'inherit'] },
)
try {
  await sleep(5000)
  const client = createAlsClient({ address: sidecast.grpc, identifier: { node: nodeOf('gateway'), logName: 'probe' } })
  await sleep(1000)
  const took: number[] = []
  for (let k = 0; k < probes; k++) {
    const id = randomUUID()
    const began = performance.now()
    client.log({ ...PROBE, startMs: Date.now() - 5, requestId: id })
    client.flush()
    for (;;) {
      const { rows } = await sidecast.get<{ rows: unknown[] }>(
        `/api/v1/requests?from=-5m&to=%2B5m&view=all&limit=1&where=${encodeURIComponent(`request_id=${id}`)}`,
      )
      if (rows.length > 0) break
      if (performance.now() - began > 30_000) throw new Error('a probe did not arrive within 30 s')
      await sleep(50)
    }
    took.push(performance.now() - began)
    await sleep(Math.random() * 300)
  }
  await client.stop()
  took.sort((a, b) => a - b)
  const at = (q: number) => Math.round(took[Math.max(1, Math.ceil(q * took.length)) - 1]!)
  console.log(
    JSON.stringify({
      bench: 'freshness',
      rate: Number(values.rate),
      probes,
      msP50: at(0.5),
      msP90: at(0.9),
      msP99: at(0.99),
      msMost: at(1),
    }),
  )
} finally {
  load.kill('SIGTERM')
  await once(load, 'close')
  await sidecast.close()
}
process.exit(0)
