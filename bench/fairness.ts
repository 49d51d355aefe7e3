import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createAlsClient } from '../src/demo/als-client.ts'
import type { LogEntry } from '../src/demo/als-encode.ts'
import { startSidecast } from '../test/support/sidecast.ts'

/**
 * Whether one noisy sender makes the rows of others old:
 *
 *   node bench/fairness.ts [--others 9] [--rate 1000] [--times 20 | --times max] [--streams 16] [--seconds 20]
 *
 * `--others` senders of `--rate` entries per second each, from this process, and one of `--times` that rate over
 * `--streams` connections, from another address; `max`: as fast as flow control lets it. Of the others' rows, in ms and
 * with up to 50 ms that an entry waits for its flush: `reading` is from the end of a request to its entry being read,
 * `age` that of their newest row in an answer of the API, asked for again and again. Both alone and beside the noisy one.
 * JSON.
 */
const { values } = parseArgs({
  options: {
    others: { type: 'string', default: '9' },
    rate: { type: 'string', default: '1000' },
    times: { type: 'string', default: '20' },
    streams: { type: 'string', default: '16' },
    seconds: { type: 'string', default: '20' },
  },
})
const LOAD = new URL('support/load.ts', import.meta.url).pathname
const FLUSH_MS = 50
const DURATION_MS = 5
const others = Number(values.others)
const rate = Number(values.rate)
const nodes = Array.from({ length: others }, (_, k) => `quiet-${k}`)

const ENTRY: Omit<LogEntry, 'startMs' | 'requestId'> = {
  rxEnd: 0.01,
  upTxBegin: 0.2,
  upTxEnd: 0.21,
  upRxBegin: 4.5,
  upRxEnd: 4.6,
  downTxBegin: 4.7,
  downTxEnd: 4.8,
  duration: DURATION_MS,
  cluster: 'outbound|80||quiet.shop.svc.cluster.local',
  upstreamPort: 80,
  route: 'quiet',
  method: 'GET',
  authority: 'quiet',
  path: '/quiet',
  requestBytes: 0,
  responseBytes: 0,
  code: 200,
  details: 'via_upstream',
  flag: null,
  attempts: 1,
}

const sidecast = await startSidecast()
const clients = nodes.map((id) =>
  createAlsClient({
    address: sidecast.grpc,
    identifier: { logName: 'quiet', node: { id, cluster: 'quiet', metadata: {} } },
  }),
)
let logged = 0
const beganMs = performance.now()
const timer = setInterval(() => {
  const due = Math.floor(((performance.now() - beganMs) / 1000) * rate)
  // A late timer sends what is due, with the time that it is.
  for (; logged < due; logged++) {
    const startMs = Date.now() - DURATION_MS
    for (const client of clients) client.log({ ...ENTRY, startMs, requestId: `quiet-${logged}` })
  }
  for (const client of clients) client.flush()
}, FLUSH_MS)

interface Row {
  readonly end_time: string
  readonly received: string
}

async function newestRows(node: string, limit: number): Promise<readonly Row[]> {
  const where = encodeURIComponent(`node_id=${node}`)
  const path = `/api/v1/requests?from=-2m&view=all&limit=${limit}&columns=end_time,received&where=${where}`
  return (await sidecast.get<{ rows: Row[] }>(path)).rows
}

async function measure(seconds: number) {
  const age: number[] = []
  const sinceMs = Date.now()
  for (let k = 0; Date.now() < sinceMs + seconds * 1000; k++) {
    const askedMs = Date.now()
    const [newest] = await newestRows(nodes[k % others]!, 1)
    age.push(newest === undefined ? Number.POSITIVE_INFINITY : askedMs - Date.parse(newest.end_time))
    await sleep(250)
  }
  const rows = (await Promise.all(nodes.slice(0, 3).map((node) => newestRows(node, 10_000)))).flat()
  const reading = rows
    .filter(({ end_time: end }) => Date.parse(end) >= sinceMs)
    .map(({ end_time: end, received: at }) => Date.parse(at) - Date.parse(end))
  return { age: figures(age), reading: figures(reading) }
}

function figures(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (q: number) => Math.round(sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1] ?? Number.NaN)
  return { n: sorted.length, msP50: at(0.5), msP90: at(0.9), msP99: at(0.99), msMost: at(1) }
}

async function received(): Promise<number> {
  const { rows } = await sidecast.get<{ rows: { received: number }[] }>('/api/v1/ledger')
  return rows.reduce((sum, row) => sum + row.received, 0)
}

await sleep(3000)
const alone = await measure(Number(values.seconds) / 2)
const pace = values.times === 'max' ? [] : ['--rate', String(Number(values.times) * rate)]
const options = [
  '--to',
  sidecast.grpc,
  '--from',
  '127.0.0.2',
  '--streams',
  values.streams,
  '--seconds',
  '600',
  '--report',
]
const noisy = spawn(process.execPath, [LOAD, ...options, ...pace], { stdio: ['ignore', 'ignore', 'inherit'] })
try {
  await sleep(3000)
  const before = await received()
  const sinceMs = performance.now()
  const beside = await measure(Number(values.seconds))
  const perSecond = Math.round(((await received()) - before) / ((performance.now() - sinceMs) / 1000))
  const { times, streams } = values
  console.log(JSON.stringify({ bench: 'fairness', others, rate, times, streams, perSecond, alone, beside }))
} finally {
  clearInterval(timer)
  noisy.kill('SIGTERM')
  await once(noisy, 'close')
  await Promise.all(clients.map((client) => client.stop()))
  await sidecast.close()
}
process.exit(0)
