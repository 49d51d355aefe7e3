import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { openWavefront, type WavefrontConfig } from '../../../src/adapters/wavefront/open.ts'
import { createTcpTransport } from '../../../src/adapters/wavefront/transport-tcp.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { openRequestsRig } from '../../support/requests-rig.ts'
import { wavefrontConfig } from '../../support/wavefront/config.ts'
import { fitLines } from '../../support/wavefront/hostile.ts'
import { startWavefrontProxy, type WavefrontProxy } from '../../support/wavefront/proxy.ts'

/** What this proxy of 2018 does not know yet, and the parsers of its successors do: names with a tilde. */
const NEWER = /WF-400 \d+: Point metric has illegal character \("~component\.heartbeat" /

let proxy: WavefrontProxy
beforeAll(async () => {
  proxy = await startWavefrontProxy()
})
afterAll(() => proxy.stop())

/** The adapter of a configuration, on a journal of its own. */
async function run(part: Partial<WavefrontConfig>) {
  const rig = await openRequestsRig()
  const data = join(rig.dir, 'data')
  mkdirSync(data)
  const shared = { journal: rig.journal, clock: systemClock, log: silentLog, data, host: 'host-1', version: '0.0.0' }
  const adapter = (await openWavefront(wavefrontConfig(part), shared))!
  for (const stage of adapter.stages) await stage.start()
  onTestFinished(async () => {
    for (const stage of adapter.stages.toReversed()) await stage.stop(AbortSignal.abort())
  })
  return { rig, adapter }
}

describe.each(['tcp', 'http'] as const)('a real proxy over %s', (transport) => {
  it('takes everything we send, and refuses nothing', async () => {
    const source = `gw-${transport}`
    const { rig, adapter } = await run({
      proxy: `127.0.0.1:${proxy.port}`,
      tracePort: proxy.tracePort,
      transport,
      source,
      distributions: ['minute', 'hour', 'day'],
      traces: { ...wavefrontConfig({}).traces, sample: 1, logs: false },
    })
    const mine = (line: string): boolean => line.includes(`source="${source}"`)
    await rig.seal(200)
    const counts = await proxy.until(1, (line) => mine(line) && line.includes('istio.requestcount.count'))
    expect(counts[0]).toMatch(/^"\u2206istio\.requestcount\.count" 200\.0 /)
    expect(counts[0]).toContain('"destination_service"="')
    for (const name of ['requestduration', 'requestsize', 'responsesize']) {
      for (const literal of ['!M', '!H', '!D']) {
        const distribution = (line: string): boolean =>
          mine(line) && line.startsWith(literal) && line.includes(`istio.${name}`)
        expect(weightOf((await proxy.until(1, distribution))[0]!), `${literal} ${name}`).toBe(200)
      }
    }
    await proxy.until(10, (line) => mine(line) && line.includes('istio.requestduration.'))
    await proxy.until(1, (line) => mine(line) && line.includes('tracing.derived.shop.'))
    const spans = await proxy.until(200, (line) => mine(line) && line.includes('traceId='))
    expect(new Set(spans.map((line) => /spanId=(\S+)/.exec(line)![1])).size).toBe(200)
    expect(spans[0]).toMatch(/^"GET [^"]*" source=/)
    expect(proxy.blocked().filter((line) => !NEWER.test(line))).toEqual([])
    expect(adapter.counters!()).toMatchObject({ lines_refused_total: 0, rows_read_total: 200 })
  })
})

it('a real proxy takes hostile names and tags, once they were made fit', async () => {
  const [before, blocked] = [proxy.forwarded.length, proxy.blocked().length]
  const lines = fitLines(1, 1500)
  const options = { host: '127.0.0.1', port: proxy.port, tracePort: proxy.tracePort, timeoutMs: 30_000, tls: null }
  const transport = createTcpTransport(options)
  for (const [kind, format] of [
    ['metric', 'wavefront'],
    ['histogram', 'histogram'],
    ['span', 'trace'],
  ] as const) {
    const body = lines.filter((one) => one.kind === kind).map(({ line }) => line)
    const sent = await transport.send(format, Buffer.from(body.join('')), new AbortController().signal)
    expect(sent).toEqual({ status: 'taken' })
  }
  await proxy.until(before + 1500)
  expect(proxy.blocked().slice(blocked)).toEqual([])
})

it('a proxy whose service pushes back still takes lines, and sends them on later', async () => {
  proxy.answer(406)
  const { rig, adapter } = await run({ proxy: `127.0.0.1:${proxy.port}`, source: 'gw-later' })
  await rig.seal(30)
  for (const delivery of adapter.deliveries) while (delivery.backlog().segments > 0) await systemClock.sleep(20)
  const mine = (line: string): boolean => line.includes('source="gw-later"')
  expect(proxy.forwarded.filter(mine)).toEqual([])
  proxy.answer(200)
  await proxy.until(1, (line) => mine(line) && line.startsWith('"\u2206istio.requestcount.count" 30.0'))
})

/** Weights of all centroids of a distribution line. */
function weightOf(line: string): number {
  return [...line.matchAll(/#(\d+) /g)].reduce((sum, [, weight]) => sum + Number(weight), 0)
}
