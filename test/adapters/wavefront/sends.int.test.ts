import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { openWavefront, type WavefrontConfig } from '../../../src/adapters/wavefront/open.ts'
import type { AccessEntry } from '../../../src/ingest/entry/entry.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { SecondaryRows } from '../../../src/model/secondary-rows.ts'
import { createSpanStore, type Span, type SpanStore } from '../../../src/pipeline/spans.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { openRequestsRig } from '../../support/requests-rig.ts'
import { wavefrontConfig } from '../../support/wavefront/config.ts'
import { type Parsed, startWavefrontParser, type WavefrontParser } from '../../support/wavefront/parser.ts'
import { startHttpTarget } from '../../support/wavefront/target.ts'

let parser: WavefrontParser
beforeAll(async () => {
  parser = await startWavefrontParser()
})
afterAll(() => parser.stop())

interface Sent {
  readonly points: readonly Parsed[]
  readonly distributions: readonly Parsed[]
  readonly spans: readonly Parsed[]
  readonly logs: readonly Parsed[]
  readonly counters: Readonly<Record<string, number>>
}

/** What the adapter sends of these requests, read by the real parsers; none of it may be refused. */
async function send(
  count: number,
  fill: (entry: AccessEntry, k: number) => void,
  part: Partial<WavefrontConfig> = {},
  received: readonly Span[] = [],
  secondary?: SecondaryRows,
): Promise<Sent> {
  let store: SpanStore | undefined
  const rig = await openRequestsRig({
    ...(secondary === undefined ? {} : { secondary }),
    sides(lane) {
      const clock = systemClock
      store = createSpanStore({ flush: () => lane().flushSides(), synced: () => lane().synced(), clock })
      return [store]
    },
  })
  for (const span of received) expect(store!.add(span)).toBe(true)
  const target = await startHttpTarget()
  onTestFinished(() => target.close())
  const data = join(rig.dir, 'data')
  mkdirSync(data)
  const shared = { journal: rig.journal, clock: systemClock, log: silentLog, data, host: 'host-1', version: '0.0.0' }
  const config = wavefrontConfig({ url: `http://127.0.0.1:${target.port}`, token: 'secret', traces: ALL, ...part })
  const adapter = (await openWavefront(config, shared))!
  for (const stage of adapter.stages) await stage.start()
  onTestFinished(async () => {
    for (const stage of adapter.stages.toReversed()) await stage.stop(AbortSignal.abort())
  })
  await rig.seal(count, fill)
  for (const delivery of adapter.deliveries) while (delivery.backlog().segments > 0) await systemClock.sleep(10)
  expect(target.requests.every(({ authorization }) => authorization === 'Bearer secret')).toBe(true)
  const read = async (format: string, kind: 'metric' | 'histogram' | 'span' | 'spanLogs') => {
    const parsed = await Promise.all(target.of(format).map((line) => parser.parse(kind, line)))
    expect(parsed.filter(({ error }) => error !== undefined)).toEqual([])
    return parsed
  }
  return {
    points: await read('wavefront', 'metric'),
    distributions: await read('histogram', 'histogram'),
    spans: await read('trace', 'span'),
    logs: await read('spanLogs', 'spanLogs'),
    counters: adapter.counters!(),
  }
}

const tagsOf = ({ tags = [] }: Parsed): Readonly<Record<string, string>> => Object.fromEntries(tags)
const named = (all: readonly Parsed[], name: string): Parsed[] => all.filter((one) => one.name === name)
const sumOf = (all: readonly Parsed[]): number => all.reduce((sum, { value }) => sum + Number(value), 0)
const weightOf = ({ counts = [] }: Parsed): number => counts.reduce((sum, count) => sum + count, 0)

describe('requests', () => {
  it('come out as the metrics of the Mixer adapter', async () => {
    const COUNT = 1000
    const { points, distributions, counters } = await send(COUNT, (entry, k) => {
      entry.code = k % 10 === 0 ? 503 : 200
      entry.requestHeadersBytes = 100
      entry.requestBodyBytes = k
      entry.responseHeadersBytes = 50
      entry.responseBodyBytes = 10 * k
    })
    const counts = named(points, '\u2206istio.requestcount.count')
    expect(counts.map((one) => [tagsOf(one).response_code, one.value])).toEqual([
      ['503', 100],
      ['200', 900],
    ])
    expect(tagsOf(counts[0]!)).toMatchObject({
      application: 'shop',
      reporter: expect.stringMatching(/^(client|server)$/),
      source_service: expect.any(String),
      source_version: 'unknown',
      destination_service: 'checkout',
      destination_service_namespace: 'shop',
    })
    const ok = (name: string): number =>
      Number(named(points, name).find((one) => tagsOf(one).response_code === '200')!.value)
    const sizes = Array.from({ length: COUNT }, (_, k) => 100 + k).filter((_, k) => k % 10 !== 0)
    expect(ok('istio.requestsize.count')).toBe(900)
    expect(ok('istio.requestsize.min')).toBe(101)
    expect(ok('istio.requestsize.max')).toBe(1099)
    expect(ok('istio.requestsize.mean')).toBeCloseTo(sizes.reduce((sum, size) => sum + size, 0) / 900, 6)
    for (const [suffix, rank] of [
      ['50', 450],
      ['75', 675],
      ['95', 855],
      ['99', 891],
      ['999', 900],
    ] as const) {
      const exact = sizes[rank - 1]!
      expect(Math.abs(ok(`istio.requestsize.${suffix}-percentile`) / exact - 1)).toBeLessThan(0.0055)
    }
    const deviation = Math.sqrt(sizes.reduce((sum, size) => sum + (size - 600) ** 2, 0) / 900)
    expect(Math.abs(ok('istio.requestsize.std-dev') / deviation - 1)).toBeLessThan(0.01)
    // Nanoseconds, and whole: the adapter of old lost the seconds.
    expect(ok('istio.requestduration.max')).toBe(1_000_000 + 999 * 250_000)
    for (const name of ['istio.requestduration', 'istio.requestsize', 'istio.responsesize']) {
      const all = named(distributions, name)
      expect(
        all.reduce((sum, one) => sum + weightOf(one), 0),
        name,
      ).toBe(COUNT)
      expect(all.every(({ binMs, timestampMs }) => binMs === 60_000 && timestampMs! % 60_000 === 0)).toBe(true)
    }
    expect(counters).toMatchObject({ rows_read_total: COUNT, rows_overflow_total: 0, lines_refused_total: 0 })
  })

  it('come out as metrics derived from spans, as the proxy derives them', async () => {
    const { points, distributions, spans } = await send(40, (entry, k) => {
      entry.method = 'GET'
      entry.pathTemplate = '/cart/{id}'
      entry.code = k % 4 === 0 ? 500 : 200
      entry.durationNs = 2_000_000
    })
    const service = tagsOf(spans[0]!).service!
    const name = `tracing.derived.shop.${service}.GET--cart--id-`
    expect(sumOf(named(points, `\u2206${name}.invocation.count`))).toBe(40)
    expect(sumOf(named(points, `\u2206${name}.error.count`))).toBe(10)
    expect(sumOf(named(points, `\u2206${name}.total_time.millis.count`))).toBe(80)
    const durations = named(distributions, `${name}.duration.micros`)
    expect(durations.map((one) => [tagsOf(one).error, weightOf(one), one.means])).toEqual(
      expect.arrayContaining([
        ['true', 10, [2000]],
        [undefined, 30, [2000]],
      ]),
    )
    expect(tagsOf(durations[0]!)).toMatchObject({
      operationName: 'GET /cart/{id}',
      component: 'proxy',
      cluster: 'none',
      shard: 'none',
    })
    const beats = named(points, '~component.heartbeat')
    expect(beats[0]).toMatchObject({ value: 1, source: 'host-1' })
    expect(tagsOf(beats[0]!)).toEqual({
      application: 'shop',
      cluster: 'none',
      service: 'sidecast',
      shard: 'none',
      component: 'sidecast',
    })
  })

  it('come out as spans with their phases as logs', async () => {
    const { spans, logs } = await send(5, (entry, k) => {
      entry.traceId = `0af7651916cd43dd8448eb211c8031${(10 + k).toString(16).padStart(2, '0')}`
      entry.spanId = 'b7ad6b7169203331'
      entry.code = k === 0 ? 503 : 200
      entry.responseCodeDetails = k === 0 ? 'upstream_reset' : 'via_upstream'
    })
    expect(spans).toHaveLength(5)
    expect(spans[0]).toMatchObject({ traceId: '0af76519-16cd-43dd-8448-eb211c80310a', source: 'host-1' })
    expect(tagsOf(spans[0]!)).toMatchObject({
      parent: '00000000-0000-0000-b7ad-6b7169203331',
      'http.method': 'GET',
      'http.status_code': '503',
      error: 'true',
      _spanLogs: 'true',
    })
    expect(tagsOf(spans[1]!).error).toBeUndefined()
    expect(logs.map(({ spanId }) => spanId)).toEqual(spans.map(({ spanId }) => spanId))
    const events = logs[0]!.logs!.map(({ fields }) => fields.event)
    expect(events).toContain('phase.upstream_wait')
    expect(logs[0]!.logs!.at(-1)!.fields).toEqual({ event: 'error', message: 'upstream_reset' })
    const phases = logs[1]!.logs!.reduce((sum, { fields }) => sum + Number(fields.duration_ns ?? 0), 0)
    expect(phases).toBe(1_000_000 + 250_000)
  })

  it('that were told a second time, by another way, are neither in metrics nor spans', async () => {
    // Each third is one; they would be seen by their code.
    const secondary: SecondaryRows = {
      mark(rows, _origins, _stream, _kind, marks) {
        for (let row = 0; row < rows; row++) marks[row] = row % 3 === 0 ? 1 : 0
        return true
      },
    }
    const fill = (entry: AccessEntry, k: number) => {
      entry.code = k % 3 === 0 ? 418 : 200
    }
    const { points, distributions, spans, logs, counters } = await send(300, fill, {}, [], secondary)
    const counts = named(points, '\u2206istio.requestcount.count')
    expect(counts.map((one) => [tagsOf(one).response_code, one.value])).toEqual([['200', 200]])
    expect(sumOf(points.filter(({ name }) => /^\u2206tracing.*invocation/.test(name!)))).toBe(200)
    expect(named(distributions, 'istio.requestduration').reduce((sum, one) => sum + weightOf(one), 0)).toBe(200)
    expect(spans).toHaveLength(200)
    expect(new Set(spans.map((span) => tagsOf(span)['http.status_code']))).toEqual(new Set(['200']))
    expect(logs).toHaveLength(200)
    expect(counters).toMatchObject({ lines_refused_total: 0 })
  })

  it('with hostile names are sent all the same, and none is lost', async () => {
    const names = ['a"b', 'C:\\', 'zwei\nZeilen', '  ', '\u0004', '∆x', 'ß 東京 😀', 'x'.repeat(400), '# = !M', '*']
    const { points, spans, counters } = await send(200, (entry, k) => {
      const name = names[k % names.length]!
      entry.destination.set('service', name)
      entry.route = name
      entry.pathTemplate = name
      entry.method = k % 3 === 0 ? 'GET' : 'POST'
      entry.path = `/${name}`
    })
    expect(sumOf(named(points, '\u2206istio.requestcount.count'))).toBe(200)
    expect(sumOf(points.filter(({ name }) => /^\u2206tracing.*invocation/.test(name!)))).toBe(200)
    expect(spans).toHaveLength(200)
    expect(Object.keys(counters).filter((name) => name.startsWith('lines_invalid'))).toEqual([])
  })

  it('past the bound on series go to the overflow series, and the sum is whole', async () => {
    const { points, counters } = await send(
      300,
      (entry, k) => {
        entry.destination.set('service', `svc-${k}`)
      },
      { seriesMax: 10, red: false },
    )
    const counts = named(points, '\u2206istio.requestcount.count')
    expect(sumOf(counts)).toBe(300)
    expect(counts).toHaveLength(11)
    const overflow = counts.find((one) => tagsOf(one).destination_service === 'overflow')
    expect(overflow).toMatchObject({ value: 290 })
    expect(counters).toMatchObject({ rows_overflow_total: 290 })
  })

  it('that a filter leaves out are counted and not sent; further columns become tags', async () => {
    const { points, counters } = await send(
      30,
      (entry, k) => {
        entry.method = k >= 20 ? 'GET' : 'POST'
        // What is left out takes no place among the series.
        entry.destination.set('service', k >= 20 ? 'checkout' : `other-${k}`)
      },
      { where: ['method=GET'], tags: ['method', 'node_id'], seriesMax: 10 },
    )
    const counts = named(points, '\u2206istio.requestcount.count')
    expect(sumOf(counts)).toBe(10)
    expect(tagsOf(counts[0]!)).toMatchObject({ method: 'GET', node_id: expect.stringContaining('web-1') })
    expect(counters).toMatchObject({ rows_read_total: 30, rows_filtered_total: 20, rows_overflow_total: 0 })
  })
})

it('spans that came by OTLP are sent on where that is asked for, with their events as logs', async () => {
  const startNs = BigInt(Date.now() - 5000) * 1_000_000n
  const received: Span = {
    traceId: Buffer.from('0af7651916cd43dd8448eb211c80319c', 'hex'),
    spanId: Buffer.from('b7ad6b7169203331', 'hex'),
    parentSpanId: Buffer.from('00f067aa0ba902b7', 'hex'),
    name: 'SELECT *',
    kind: 'client',
    service: 'cart',
    nodeId: 'n',
    scope: 's',
    startNs,
    endNs: startNs + 1_500_000n,
    status: 'error',
    statusMessage: '',
    attributes: [
      ['db.system', 'postgresql'],
      ['service', 'another'],
      ['component', 'jdbc'],
      ['with "quotes" \\', 'C:\\'],
    ],
    resource: [],
    events: JSON.stringify([
      { time_ns: String(startNs + 1_000_000n), name: 'retry', attributes: { 'why:': 'zwei\nZeilen' } },
      { trace_id: '00', span_id: '00' },
      { time_ns: String(startNs), name: 'huge', attributes: Object.fromEntries(bigAttributes()) },
    ]),
  }
  const { spans, logs } = await send(1, () => {}, { traces: { ...ALL, received: true } }, [received])
  expect(spans).toHaveLength(2)
  expect(spans[1]).toMatchObject({
    name: 'SELECT -',
    traceId: '0af76519-16cd-43dd-8448-eb211c80319c',
    spanId: '00000000-0000-0000-b7ad-6b7169203331',
    startMs: Number(startNs / 1_000_000n),
    durationMs: 1,
    tags: [
      ['parent', '00000000-0000-0000-00f0-67aa0ba902b7'],
      ['application', 'shop'],
      ['service', 'cart'],
      ['cluster', 'none'],
      ['shard', 'none'],
      ['component', 'jdbc'],
      ['span.kind', 'client'],
      ['error', 'true'],
      ['db.system', 'postgresql'],
      ['with--quotes---', 'C:-'],
      ['_spanLogs', 'true'],
    ],
  })
  // The second event made the line longer than a service takes.
  expect(logs[1]!.logs).toEqual([
    { timeUs: Number(startNs / 1000n) + 1000, fields: { event: 'retry', 'why-': 'zwei\nZeilen' } },
  ])
  const { spans: alone } = await send(1, () => {}, {}, [received])
  expect(alone).toHaveLength(1)
})

const ALL = { ...wavefrontConfig({}).traces, sample: 1 }
const bigAttributes = () => Array.from({ length: 20 }, (_, k) => [`k${k}`, 'v'.repeat(4000)])

it('TCP connections come out as bytes and connections', async () => {
  const { points, distributions, spans } = await send(50, (entry, k) => {
    entry.tcp = true
    entry.type = 3
    entry.method = ''
    entry.code = -1
    entry.requestBodyBytes = 1000 + k
    entry.responseBodyBytes = 5000
  })
  const value = (name: string): number => Number(named(points, name)[0]!.value)
  expect(named(points, '\u2206istio.requestcount.count')).toEqual([])
  expect(value('istio.tcpsentbytes.max')).toBe(5000)
  expect(value('istio.tcpreceivedbytes.min')).toBe(1000)
  expect(value('istio.tcpconnectionsclosed.count')).toBe(50)
  expect(value('istio.tcpconnectionsopened.mean')).toBe(1)
  expect(tagsOf(named(points, 'istio.tcpsentbytes.count')[0]!).response_code).toBeUndefined()
  expect(weightOf(named(distributions, 'istio.tcpsentbytes')[0]!)).toBe(50)
  expect(spans).toEqual([])
})
