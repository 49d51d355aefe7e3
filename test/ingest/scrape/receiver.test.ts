import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { describe, expect, type TestContext, test } from 'vitest'
import { createScrapeReceiver, type ScrapeJob, type ScrapeReceiver } from '../../../src/ingest/scrape/receiver.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { encodeFamilies } from '../../support/metric-family.ts'
import { type MetricRecorder, recordMetrics } from '../../support/metric-recorder.ts'
import { waitUntil } from '../../support/wait.ts'

const TEXT = { 'content-type': 'text/plain; version=0.0.4' }
const JOB: ScrapeJob = {
  job: 'envoy-scrape',
  targets: [],
  files: [],
  scheme: 'http',
  path: '/stats/prometheus',
  intervalMs: 200,
  timeoutMs: 10_000,
  labels: {},
  honorLabels: false,
  honorTimestamps: true,
  protobuf: false,
  bodyBytesMax: 1 << 20,
  samplesMax: 1000,
  tls: { ca: '', cert: '', key: '', serverName: '', insecure: false },
  token: '',
  tokenFile: '',
  username: '',
  password: '',
  nodeId: true,
}

async function serve(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

interface Started {
  readonly receiver: ScrapeReceiver
  readonly store: MetricRecorder
  readonly gate: { closed: boolean }
  readonly stop: () => Promise<void>
}

async function scrape(
  t: TestContext,
  job: Partial<ScrapeJob>,
  options: { pageBytesMax?: number; bodyBytesMax?: number } = {},
): Promise<Started> {
  const store = recordMetrics()
  const gate = { closed: false }
  const receiver = createScrapeReceiver({
    jobs: [{ ...JOB, ...job }],
    store,
    gate,
    log: silentLog,
    userAgent: 'sidecast/test',
    refreshMs: 20,
    ...options,
  })
  await receiver.start()
  const stop = () => receiver.stop(AbortSignal.timeout(5000))
  t.onTestFinished(stop)
  return { receiver, store, gate, stop }
}

const ups = (store: MetricRecorder) =>
  store.written.filter(({ name, write }) => name === 'up' && write !== 'stale').map(({ value }) => value)

/** An answer for each request to the page, the last one again and again. */
function answers(...list: ((response: ServerResponse, request: IncomingMessage) => void)[]): RequestListener {
  let next = 0
  return (request, response) => {
    if (request.url === '/server_info') {
      response.writeHead(404).end()
      return
    }
    list[Math.min(next++, list.length - 1)]!(response, request)
  }
}
const page = (text: string) => (response: ServerResponse) => response.writeHead(200, TEXT).end(text)

describe.concurrent('the scraper', () => {
  test('stores a page with up, duration and number of samples', async (t) => {
    const address = await serve(t, answers(page('# TYPE a counter\na{x="1"} 7\nb 2\n')))
    const { store, receiver } = await scrape(t, { targets: [address], labels: { zone: 'z' } })
    await waitUntil(() => ups(store).length >= 2)
    const id = `envoy-scrape/${address}`
    expect(store.last('a')).toMatchObject({ series: `${id} a{x="1",zone="z"}`, write: 'setCounter', value: 7 })
    expect(store.last('b')).toMatchObject({ series: `${id} b{zone="z"}`, value: 2 })
    expect(store.last('up')).toMatchObject({ series: `${id} up{zone="z"}`, value: 1 })
    expect(store.last('scrape_samples_scraped')).toMatchObject({ value: 2 })
    expect(store.last('scrape_duration_seconds')!.value).toBeGreaterThan(0)
    expect(receiver.targets()).toMatchObject([{ instance: address, isUp: true, failure: null, samples: 2 }])
  })

  test('stores exemplars that have a time, with their series', async (t) => {
    const text = `# TYPE a counter
a_total 7 # {trace_id="ab"} 1 ${Date.now() / 1000}
# TYPE h histogram
h_bucket{le="1"} 1 # {trace_id="cd"} 0.5 ${Date.now() / 1000}
h_bucket{le="+Inf"} 2 # {trace_id="ef"} 5
h_sum 5.5
h_count 2
# EOF
`
    const type = { 'content-type': 'application/openmetrics-text; version=1.0.0; charset=utf-8' }
    const address = await serve(
      t,
      answers((response) => response.writeHead(200, type).end(text)),
    )
    const { store, receiver } = await scrape(t, { targets: [address] })
    await waitUntil(() => ups(store).length >= 1)
    const exemplars = store.written.filter(({ write }) => write === 'exemplars')
    expect(exemplars.slice(0, 2).map(({ name, value }) => [name, value])).toEqual([
      ['a_total', 1],
      ['h', 0.5],
    ])
    expect(receiver.counters.exemplars).toBeGreaterThanOrEqual(3)
    expect(receiver.counters.exemplarsStored).toBeGreaterThanOrEqual(2)
  })

  test('marks what vanishes from the page, once', async (t) => {
    const address = await serve(t, answers(page('a 1\nb 2 1395066363000\nc 3\n'), page('c 3\n')))
    const { store, receiver } = await scrape(t, { targets: [address] })
    await waitUntil(() => ups(store).length >= 3)
    const stale = store.written.filter(({ write }) => write === 'stale')
    // What has times of its own is not marked.
    expect(stale.map(({ name }) => name)).toEqual(['a'])
    expect(receiver.counters.staleMarkers).toBe(1)
  })

  test('marks everything when there is no page, and goes on when there is one again', async (t) => {
    const address = await serve(
      t,
      answers(page('a 1\nb 2\n'), (response) => response.writeHead(503).end(), page('a 3\n')),
    )
    const { store, receiver } = await scrape(t, { targets: [address] })
    await waitUntil(() => ups(store).length >= 3)
    expect(ups(store).slice(0, 3)).toEqual([1, 0, 1])
    expect(store.written.filter(({ write }) => write === 'stale').map(({ name }) => name)).toEqual(['a', 'b'])
    expect(store.last('a')).toMatchObject({ write: 'setGauge', value: 3 })
    expect(receiver.counters.failed).toEqual(new Map([['status', 1]]))
  })

  test('learns the node id of an Envoy, and again after it was away', async (t) => {
    let node = 'sidecar~10.0.0.1~web-1.default'
    let pages = 0
    const address = await serve(t, (request, response) => {
      if (request.url === '/server_info') response.end(JSON.stringify({ node: { id: node, metadata: {} } }))
      else if (++pages === 2) {
        node = 'sidecar~10.0.0.1~web-2.default'
        response.destroy()
      } else page('a 1\n')(response)
    })
    const { store } = await scrape(t, { targets: [address] })
    await waitUntil(() => ups(store).length >= 3)
    const instances = store.written
      .filter(({ name, write }) => name === 'up' && write !== 'stale')
      .map(({ series }) => series.split(' ')[0])
    expect(instances.slice(0, 3)).toEqual([
      'envoy-scrape/sidecar~10.0.0.1~web-1.default',
      'envoy-scrape/sidecar~10.0.0.1~web-1.default',
      'envoy-scrape/sidecar~10.0.0.1~web-2.default',
    ])
    const stale = store.written.filter(({ write }) => write === 'stale').map(({ series }) => series)
    expect(stale).toContain('envoy-scrape/sidecar~10.0.0.1~web-1.default up{}')
  })

  test('says what it wants, and reads protobuf and gzip', async (t) => {
    const seen: IncomingMessage['headers'][] = []
    const bytes = encodeFamilies({ name: 'g', type: 'GAUGE', metric: [{ gauge: { value: 5 } }] })
    const address = await serve(t, (request, response) => {
      seen.push(request.headers)
      response
        .writeHead(200, {
          'content-type':
            'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited',
          'content-encoding': 'gzip',
        })
        .end(gzipSync(bytes))
    })
    const { store } = await scrape(t, { targets: [address], protobuf: true, token: 'secret', nodeId: false })
    await waitUntil(() => store.last('g') !== undefined)
    expect(store.last('g')!.value).toBe(5)
    expect(seen[0]).toMatchObject({
      'accept-encoding': 'gzip',
      authorization: 'Bearer secret',
      'user-agent': 'sidecast/test',
      'x-prometheus-scrape-timeout-seconds': '0.2',
    })
    expect(seen[0]!.accept).toContain('protobuf')
  })

  test('basic authentication, and a token from a file that changes', async (t) => {
    const seen = new Set<string | undefined>()
    const address = await serve(t, (request, response) => {
      seen.add(request.headers.authorization)
      page('a 1\n')(response)
    })
    const dir = mkdtempSync(join(tmpdir(), 'sidecast-scrape-token-'))
    t.onTestFinished(() => rmSync(dir, { recursive: true }))
    const tokenFile = join(dir, 'token')
    writeFileSync(tokenFile, 'one\n')
    const basic = await scrape(t, { targets: [address], username: 'u', password: 'p', nodeId: false })
    await waitUntil(() => seen.has(`Basic ${Buffer.from('u:p').toString('base64')}`))
    await basic.stop()
    await scrape(t, { targets: [address], tokenFile, nodeId: false })
    await waitUntil(() => seen.has('Bearer one'))
    writeFileSync(tokenFile, 'two\n')
    await waitUntil(() => seen.has('Bearer two'))
  })

  test('a redirect is followed, without the token to another origin, and not for ever', async (t) => {
    const seen: (string | undefined)[] = []
    const other = await serve(t, (request, response) => {
      seen.push(request.headers.authorization)
      page('a 1\n')(response)
    })
    const address = await serve(t, (request, response) => {
      const to = request.url === '/loop' ? '/loop' : `http://${other}/page`
      response.writeHead(302, { location: to }).end()
    })
    const { store } = await scrape(t, { targets: [address], token: 'secret', nodeId: false })
    await waitUntil(() => store.last('a') !== undefined)
    expect(seen[0]).toBeUndefined()
    const endless = await scrape(t, { targets: [address], path: '/loop', nodeId: false })
    await waitUntil(() => endless.receiver.counters.failed.has('redirects'))
  })

  const zeros = gzipSync(Buffer.alloc(8 << 20))
  test.for<[string, (response: ServerResponse) => void]>([
    ['status', (response: ServerResponse) => response.writeHead(500).end('a 1\n')],
    [
      'content_type',
      (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/html' }).end('a 1\n'),
    ],
    ['malformed', page('<html>\n')],
    ['body_limit', (response: ServerResponse) => response.writeHead(200, TEXT).end(Buffer.alloc(2 << 20, '#'))],
    [
      'body_limit',
      (response: ServerResponse) => response.writeHead(200, { ...TEXT, 'content-encoding': 'gzip' }).end(zeros),
    ],
    ['encoding', (response: ServerResponse) => response.writeHead(200, { ...TEXT, 'content-encoding': 'br' }).end('x')],
    [
      'encoding',
      (response: ServerResponse) => response.writeHead(200, { ...TEXT, 'content-encoding': 'gzip' }).end('x'),
    ],
    ['sample_limit', page(Array.from({ length: 1001 }, (_, k) => `x${k} 1\n`).join(''))],
    [
      'cut_off',
      (response: ServerResponse) => {
        response.writeHead(200, { ...TEXT, 'content-length': '100' })
        response.write('a 1\n')
        setTimeout(() => response.destroy(), 10)
      },
    ],
    ['timeout', () => {}],
    [
      // One byte after the other: the whole answer has one deadline.
      'timeout',
      (response: ServerResponse) => {
        response.writeHead(200, TEXT)
        const timer = setInterval(() => response.write('#'), 10)
        response.on('close', () => clearInterval(timer))
      },
    ],
    [
      'no_eof',
      (response: ServerResponse) =>
        response.writeHead(200, { 'content-type': 'application/openmetrics-text' }).end('a 1\n'),
    ],
  ])('%s: up is 0, nothing is stored, and another target goes on', async ([reason, listener], t) => {
    const bad = await serve(t, answers(listener))
    const good = await serve(t, answers(page('fine 1\n')))
    const timeoutMs = reason === 'timeout' ? 1000 : JOB.timeoutMs
    const { store, receiver } = await scrape(t, { targets: [bad, good], timeoutMs })
    await waitUntil(() => receiver.counters.failed.has(reason as never) && store.last('fine') !== undefined)
    expect(store.written.filter(({ series, name }) => series.includes(bad) && !/^(up|scrape_)/.test(name))).toEqual([])
    expect(store.written.find(({ series, name }) => series.includes(bad) && name === 'up')).toMatchObject({ value: 0 })
    expect(receiver.targets().find(({ instance }) => instance === bad)).toMatchObject({ isUp: false, failure: reason })
    expect(receiver.targets().find(({ instance }) => instance === good)).toMatchObject({ isUp: true })
  })

  test('bodies of all targets together have a bound', async (t) => {
    const address = await serve(t, answers(page(`${'# '.repeat(20_000)}\na 1\n`)))
    const { receiver } = await scrape(t, { targets: [address] }, { bodyBytesMax: 10_000 })
    await waitUntil(() => receiver.counters.failed.has('memory'))
  })

  test('nobody there', async (t) => {
    const { receiver } = await scrape(t, { targets: ['127.0.0.1:1'] })
    await waitUntil(() => receiver.counters.failed.has('unreachable'))
  })

  test('pages that are none, each time another one, leave nothing behind', async (t) => {
    let k = 0
    const bad = (response: ServerResponse) => {
      k++
      const lines = Array.from(
        { length: 2000 },
        (_, line) => `# TYPE t${k}_${line} counter\nx${k}_${line}{__name__="y"} 1\n`,
      )
      response.writeHead(200, TEXT).end(lines.join(''))
    }
    const address = await serve(t, answers(bad))
    const { receiver } = await scrape(t, { targets: [address] })
    await waitUntil(() => (receiver.counters.failed.get('malformed') ?? 0) >= 3)
    expect(receiver.pageBytes).toBeLessThan(50_000)
  })

  test('a bug in one scrape ends neither the process nor the scraping', async (t) => {
    const address = await serve(t, answers(page('a 1\n')))
    const { store, receiver } = await scrape(t, { targets: [address] })
    const setGauge = store.setGauge.bind(store)
    let k = 0
    store.setGauge = (...what) => {
      if (++k === 2) throw new Error('a bug')
      setGauge(...what)
    }
    await waitUntil(() => receiver.counters.failed.get('internal') === 1)
    await waitUntil(() => ups(store).length >= 2)
  })

  test('rejected lines are counted, kept without their texts, and cost nothing else', async (t) => {
    const address = await serve(t, answers(page('a 1\nsecret{token="hunter2"} x\nb 2\n')))
    const { store, receiver } = await scrape(t, { targets: [address] })
    await waitUntil(() => ups(store).length >= 1)
    expect(store.last('b')).toMatchObject({ value: 2 })
    expect(ups(store)[0]).toBe(1)
    expect(receiver.counters.rejected.get('value')).toBeGreaterThanOrEqual(1)
    expect(receiver.rejected()).toMatchObject([{ reason: 'value', logName: 'envoy-scrape' }])
    expect(JSON.stringify(receiver.rejected())).not.toContain('hunter2')
  })

  test('while the journal takes nothing nobody is asked', async (t) => {
    let asked = 0
    const address = await serve(t, (_, response) => {
      asked++
      page('a 1\n')(response)
    })
    const { store, receiver, gate } = await scrape(t, { targets: [address], nodeId: false })
    await waitUntil(() => ups(store).length >= 1)
    gate.closed = true
    await wait(150)
    const before = [asked, store.written.length]
    await waitUntil(() => receiver.counters.skipped.gate >= 2)
    expect([asked, store.written.length]).toEqual(before)
    gate.closed = false
    await waitUntil(() => asked > before[0]!)
    // Nothing was marked as gone: it was only not looked at.
    expect(receiver.counters.staleMarkers).toBe(0)
  })

  test('targets of a file come and go', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'sidecast-scrape-files-'))
    t.onTestFinished(() => rmSync(dir, { recursive: true }))
    const file = join(dir, 'targets.json')
    const one = await serve(t, answers(page('a 1\n')))
    const two = await serve(t, answers(page('a 2\n')))
    const write = (...targets: string[]) => writeFileSync(file, JSON.stringify([{ targets, labels: { from: 'file' } }]))
    write(one)
    const { store, receiver } = await scrape(t, { files: [file] })
    await waitUntil(() => store.last('a') !== undefined)
    expect(store.last('a')).toMatchObject({ labels: { from: 'file' } })
    write(two)
    await waitUntil(() => store.last('a')!.value === 2)
    const stale = store.written.filter(({ write }) => write === 'stale').map(({ name }) => name)
    expect(stale.sort()).toEqual(['a', 'scrape_duration_seconds', 'scrape_samples_scraped', 'up'])
    expect(receiver.targets().map(({ instance }) => instance)).toEqual([two])
    write(two, 'not a target')
    await waitUntil(() => receiver.counters.invalidTargets === 1)
  })

  test('past the memory for pages they are read anew, to the same effect', async (t) => {
    const address = await serve(t, answers(page('a 1\nb 2\n'), page('b 3\n')))
    const { store, receiver } = await scrape(t, { targets: [address] }, { pageBytesMax: 0 })
    await waitUntil(() => ups(store).length >= 3)
    expect(receiver.counters.forgotten).toBeGreaterThanOrEqual(2)
    expect(store.last('b')).toMatchObject({ value: 3 })
    expect(store.written.filter(({ write }) => write === 'stale').map(({ name }) => name)).toEqual(['a'])
  })

  test('stops in the middle of a scrape, twice, and before it started, without marking anything', async (t) => {
    const address = await serve(
      t,
      answers(page('a 1\n'), () => {}),
    )
    const { store, stop } = await scrape(t, { targets: [address], intervalMs: 10_000 })
    const began = performance.now()
    await wait(20)
    await stop()
    await stop()
    expect(performance.now() - began).toBeLessThan(4500)
    expect(store.written.filter(({ write }) => write === 'stale')).toEqual([])
    const idle = createScrapeReceiver({
      jobs: [],
      store,
      gate: { closed: false },
      log: silentLog,
      userAgent: '',
    })
    await idle.stop(AbortSignal.timeout(100))
  })
})
