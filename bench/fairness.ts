import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startSidecast } from '../test/support/sidecast.ts'

/**
 * Whether one noisy sender makes the rows of others old:
 *
 *   node bench/fairness.ts [--others 9] [--rate 1000] [--times 20 | --times max] [--streams 16] [--seconds 20]
 *
 * `--others` senders of `--rate` entries per second each, and one of `--times` that rate over `--streams` connections,
 * from another address; `max`: as fast as flow control lets it. Of the others' rows: `reading` is from the begin of a
 * request to its entry being read, `age` is that of their newest row in an answer of the API, which is asked for it again
 * and again. Both alone and beside the noisy one; ms; an entry waits 100 ms before it is sent. JSON.
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
const others = Number(values.others)
const rate = Number(values.rate)

const sidecast = await startSidecast()
const loads: ChildProcess[] = []
/** `node` is the number of the first stream's node: names have it as their last part. */
const load = (from: string, streams: number, node: number, perSecond: number | null): void => {
  const options = ['--to', sidecast.grpc, '--from', from, '--streams', String(streams), '--node', String(node)]
  const pace = perSecond === null ? [] : ['--rate', String(perSecond)]
  loads.push(
    spawn(process.execPath, [LOAD, ...options, ...pace, '--seed', String(node + 1), '--seconds', '600', '--report'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  )
}

interface Row {
  readonly start_time: string
  readonly received: string
}

const rowsOf = async (node: string, limit: number): Promise<readonly Row[]> => {
  const where = encodeURIComponent(`node_id=${node}`)
  const columns = 'start_time,received'
  const path = `/api/v1/requests?from=-2m&to=%2B5m&view=all&limit=${limit}&columns=${columns}&where=${where}`
  return (await sidecast.get<{ rows: Row[] }>(path)).rows
}

async function nodesSeen(): Promise<string[]> {
  const { nodes } = await sidecast.get<{ nodes: { list: { node: string }[] } }>('/api/v1/status')
  return nodes.list.map(({ node }) => node)
}

/** Age of the newest row in an answer, ms, again and again; and how long rows of the same time took to be read. */
async function measure(nodes: readonly string[], seconds: number) {
  const age: number[] = []
  const beganMs = Date.now()
  for (let k = 0; Date.now() < beganMs + seconds * 1000; k++) {
    const asked = Date.now()
    // The newest by their end; which began last is among them.
    const newest = await rowsOf(nodes[k % nodes.length]!, 200)
    age.push(asked - Math.max(...newest.map(({ start_time: start }) => Date.parse(start))))
    await sleep(250)
  }
  const all = (await Promise.all(nodes.map((node) => rowsOf(node, 10_000)))).flat()
  const reading = all
    .filter(({ start_time: start }) => Date.parse(start) >= beganMs)
    .map(({ start_time: start, received: at }) => Date.parse(at) - Date.parse(start))
  return { age: figures(age), reading: figures(reading) }
}

const figures = (values: readonly number[]) => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (q: number) => Math.round(sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1]!)
  return { n: sorted.length, msP50: at(0.5), msP90: at(0.9), msP99: at(0.99), msMost: at(1) }
}

try {
  load('127.0.0.3', others, 0, others * rate)
  await sleep(4000)
  const quiet = (await nodesSeen()).slice(0, others)
  const watched = quiet.slice(0, 3)
  const alone = await measure(watched, Number(values.seconds) / 2)
  load('127.0.0.2', Number(values.streams), 1000, values.times === 'max' ? null : Number(values.times) * rate)
  await sleep(3000)
  const before = await received()
  const began = performance.now()
  const beside = await measure(watched, Number(values.seconds))
  const perSecond = Math.round(((await received()) - before) / ((performance.now() - began) / 1000))
  console.log(
    JSON.stringify({
      bench: 'fairness',
      others,
      rate,
      times: values.times,
      streams: Number(values.streams),
      perSecond,
      alone,
      beside,
    }),
  )
} finally {
  for (const child of loads) {
    child.kill('SIGTERM')
    await once(child, 'close')
  }
  await sidecast.close()
}
process.exit(0)

async function received(): Promise<number> {
  const { rows } = await sidecast.get<{ rows: { received: number }[] }>('/api/v1/ledger')
  return rows.reduce((sum, row) => sum + row.received, 0)
}
