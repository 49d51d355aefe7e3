import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import type { QueryStore } from '../src/model/query.ts'
import { batchOf, identity, party, type Row } from '../test/support/batch.ts'
import { openMeshPage } from '../test/support/mesh-page.ts'
import { createTestServer } from '../test/support/query.ts'

/**
 * What a scrape of `/metrics/mesh` costs over HTTP: CPU of our process and the longest time that its event loop stood still,
 * for each form and packed with gzip as Prometheus asks for, while requests go on being counted.
 *
 *     node bench/mesh-scrape.ts [--series 100000] [--rounds 3]
 */
const argument = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const wanted = argument('series', 100_000)
const rounds = argument('rounds', 3)
const round = (value: number, digits = 3): number => Number(value.toFixed(digits))

const FORMS = {
  text: 'text/plain;version=0.0.4',
  openmetrics: 'application/openmetrics-text;version=1.0.0',
  protobuf: 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited',
} as const

const { mesh, take } = openMeshPage({
  seriesMax: 200_000,
  bytesMax: 1 << 30,
  pairBytesMax: 1 << 30,
  exemplarIntervalMs: 0,
})
/** Pairs of workloads, each with a few answers, until the page has enough series. */
const pairs: Row['identity'][] = []
function addPair(): readonly Row[] {
  const k = pairs.length
  const pair = identity({
    reporter: k % 2 === 0 ? 'destination' : 'source',
    source: party({
      workload: `web-${k % 97}`,
      namespace: 'shop',
      service: `web-${k % 97}`,
      principal: 'spiffe://cluster.local/ns/shop/sa/web',
    }),
    destination: party({ workload: `svc-${k}`, namespace: 'shop', service: `svc-${k}`, version: 'v1' }),
    destinationHost: `svc-${k}.shop.svc.cluster.local`,
  })
  pairs.push(pair)
  return rowsOf(pair, k)
}
function rowsOf(pair: Row['identity'], k: number): Row[] {
  return [200, 200, 404, 503].map((code, n) => {
    const duration = 1e6 + ((k * 7919 + n * 104_729) % 997) * 1e5
    return {
      ...(pair === undefined ? {} : { identity: pair }),
      end: Date.now(),
      duration,
      points: [1000, 2000, 3000, duration / 2, duration - 2000, duration - 1000, duration],
      code,
      received: 300,
      sent: 2000,
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
    }
  })
}
let series = 0
while (series < wanted) {
  const rows: Row[] = []
  for (let k = 0; k < 100; k++) rows.push(...addPair())
  take(rows)
  // Each answer is a counter and three histograms of 22 series; each pair has its own figures and seven phases.
  series = mesh.stats().series * (1 + 3 * 22) + mesh.stats().pairs * (1 + 1 + 7 * 21)
}

const server = createTestServer({} as QueryStore, {
  mesh: (accept) => {
    const { contentType: type, body } = mesh.scrape(accept)
    return { type, body }
  },
})
await server.start()

// The scraper is another process: its work is not ours.
const scraper = `
const [url, accept] = process.argv.slice(1)
const began = performance.now()
const { gunzipSync } = await import('node:zlib')
const { get } = await import('node:http')
get(url, { headers: { accept, 'accept-encoding': 'gzip' } }, async (answer) => {
  const chunks = []
  for await (const chunk of answer) chunks.push(chunk)
  const ms = performance.now() - began
  const packed = Buffer.concat(chunks)
  const body = gunzipSync(packed)
  const samples = accept.startsWith('text') ? body.toString().split('\\n').filter((line) => line !== '' && line[0] !== '#').length : 0
  console.log(JSON.stringify({ ms, packed: packed.length, bytes: body.length, samples }))
})`
/**
 * The most CPU time of this thread between two turns of its event loop: what the loop itself did, and not how long others
 * had the processor.
 */
function watchTurns(): { stop(): number } {
  const cpu = () => {
    const { user, system } = process.threadCpuUsage()
    return (user + system) / 1000
  }
  let last = cpu()
  let most = 0
  let watching = true
  const turn = () => {
    const now = cpu()
    most = Math.max(most, now - last)
    last = now
    if (watching) setTimeout(turn, 1)
  }
  setTimeout(turn, 1)
  return {
    stop() {
      watching = false
      return most
    },
  }
}

const live = batchOf(pairs.slice(0, 250).flatMap((pair, k) => rowsOf(pair, k)))
const forms: Record<string, unknown> = {}
for (const [form, accept] of Object.entries(FORMS)) {
  const costs: {
    cpuMs: number
    pauseMs: number
    busyMs: number
    ms: number
    bytes: number
    packed: number
    samples: number
  }[] = []
  for (let k = 0; k < rounds; k++) {
    const child = spawn(
      process.execPath,
      ['--input-type=module', '-e', scraper, `http://${server.address}/metrics/mesh`, accept],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text
    })
    // 1 000 requests every 50 ms go on being counted: 20 000 a second.
    const timer = setInterval(() => mesh.take(live), 50)
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    const turns = watchTurns()
    const before = process.cpuUsage()
    await once(child, 'close')
    const { user, system } = process.cpuUsage(before)
    delay.disable()
    const busyMs = turns.stop()
    clearInterval(timer)
    costs.push({ ...JSON.parse(out), cpuMs: (user + system) / 1000, pauseMs: delay.max / 1e6, busyMs })
    await sleep(200)
  }
  const best = (key: keyof (typeof costs)[number]) => round(Math.min(...costs.map((one) => one[key])), 1)
  const worst = (key: keyof (typeof costs)[number]) => round(Math.max(...costs.map((one) => one[key])), 1)
  forms[form] = {
    cpuMs: { best: best('cpuMs'), worst: worst('cpuMs') },
    pauseMs: { best: best('pauseMs'), worst: worst('pauseMs') },
    busyMs: { best: best('busyMs'), worst: worst('busyMs') },
    wallMs: best('ms'),
    megabytes: round(costs[0]!.bytes / 1e6, 1),
    packedMegabytes: round(costs[0]!.packed / 1e6, 2),
    ...(costs[0]!.samples > 0 ? { series: costs[0]!.samples } : {}),
  }
}
const { series: labelSets, pairs: pairCount } = mesh.stats()
console.log(JSON.stringify({ bench: 'mesh-scrape', labelSets, pairs: pairCount, forms }))
await server.stop(AbortSignal.timeout(1000))
process.exit(0)
