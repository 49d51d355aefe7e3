import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createStatsdCollector, type StatsdCollectorOptions } from '../../../src/ingest/statsd/collector.ts'
import { parseMapping } from '../../../src/ingest/statsd/mapping.ts'
import { createEnvoyNames } from '../../../src/metrics/envoy-names.ts'
import { createMemoryMetrics } from '../../support/memory-metrics.ts'

const NOW = 1_795_231_460_000

function setUp(options: Partial<StatsdCollectorOptions> = {}) {
  const recorder = createMemoryMetrics()
  const clock = { now: NOW }
  const collector = createStatsdCollector({
    metrics: recorder.store,
    mapper: null,
    names: createEnvoyNames(),
    envoyPrefixes: ['envoy'],
    instanceTag: '',
    clock: () => clock.now,
    ...options,
  })
  const send = (text: string, sender = '10.0.0.1'): void => {
    const bytes = Buffer.from(text)
    collector.take(bytes, 0, bytes.length, sender)
  }
  const value = (series: string): number | undefined => {
    collector.flush()
    return recorder.series.get(series)?.value
  }
  return { recorder, collector, send, value, clock }
}

const datagrams = (name: string): string[] =>
  readFileSync(new URL(`../../fixtures/statsd/${name}`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as string)

test('recorded StatsD and DogStatsD of one Envoy: every line is taken, and both say the same of every metric', () => {
  const plain = setUp()
  for (const datagram of datagrams('statsd.txt')) plain.send(datagram)
  plain.collector.flush()
  const tagged = setUp()
  for (const datagram of datagrams('dogstatsd.txt')) tagged.send(datagram)
  tagged.collector.flush()
  for (const { collector } of [plain, tagged]) expect(collector.counters.rejected.size).toBe(0)
  expect(plain.collector.counters.lines).toBe(2252)

  // The two recordings end at different moments of the same run: what both have, they have under the same name.
  const types = new Map(
    [
      ...readFileSync(new URL('../../fixtures/stats/stats-prometheus.txt', import.meta.url), 'utf8').matchAll(
        /^# TYPE (\S+) (\S+)$/gm,
      ),
    ].map(([, name, type]) => [name!, type!]),
  )
  for (const { recorder } of [plain, tagged]) {
    expect(recorder.series.size).toBeGreaterThan(300)
    for (const { identity } of recorder.series.values()) {
      expect(identity).toMatchObject({ job: 'envoy-statsd', instance: '10.0.0.1', type: types.get(identity.name) })
    }
  }
  const both = [...plain.recorder.series.keys()].filter((key) => tagged.recorder.series.has(key))
  expect(both.length).toBeGreaterThan(0.9 * Math.min(plain.recorder.series.size, tagged.recorder.series.size))
  expect(both).toContain('envoy_cluster_membership_change{envoy_cluster_name="renamed|up;b"}')
})

test('counters, with sample rates and packed values', () => {
  const { send, value } = setUp()
  send('a:1|c\na:2|c|@0.5\r\na:3:4|c\n\n')
  expect(value('a{}')).toBe(12)
})

test('gauges are set and changed', () => {
  const { send, value } = setUp()
  send('g:10|g\ng:+5|g\ng:-2|g')
  expect(value('g{}')).toBe(13)
  send('g:-3|g')
  expect(value('g{}')).toBe(10)
})

test('observations are kept with their weight, by metric and tags, whoever sends them from whatever port', () => {
  const { send, collector, recorder } = setUp()
  send('t:41|ms|#a:b\nt:42|ms|#a:b\nt:7:8|ms|@0.1|#a:b')
  send('t:9|h|#a:c')
  collector.flush()
  expect(recorder.series.get('t{a="b"}')!.distributions).toEqual([
    { kind: 'values', values: [41, 42], weight: 1 },
    { kind: 'values', values: [7, 8], weight: 10 },
  ])
  expect(recorder.series.get('t{a="c"}')!.distributions).toEqual([{ kind: 'values', values: [9], weight: 1 }])
  expect(recorder.series.size).toBe(2)
})

test('a metric that comes a thousand times costs one look-up and one write', () => {
  const { send, collector, recorder } = setUp()
  for (let k = 0; k < 1000; k++) send('a:1|c|#b:c\nother:1|c')
  collector.flush()
  expect(recorder.lookups()).toBe(2)
  expect(recorder.series.get('a{b="c"}')).toMatchObject({ value: 1000, writes: 1 })
})

test("Envoy's names are found by tag extraction, taken from tags, or from Graphite's", () => {
  const { send, value, recorder } = setUp()
  send('envoy.cluster.web.upstream_rq_200:3|c')
  expect(value('envoy_cluster_upstream_rq{envoy_cluster_name="web",envoy_response_code="200"}')).toBe(3)
  send('envoy.cluster.upstream_rq:4|c|#envoy.response_code:200,envoy.cluster_name:web', '10.0.0.2')
  send('envoy.cluster.upstream_rq;envoy.response_code=200;envoy.cluster_name=web:5|c', '10.0.0.3')
  expect(value('envoy_cluster_upstream_rq{envoy_cluster_name="web",envoy_response_code="200"} of 10.0.0.2')).toBe(4)
  expect(value('envoy_cluster_upstream_rq{envoy_cluster_name="web",envoy_response_code="200"} of 10.0.0.3')).toBe(5)
  expect([...recorder.series.values()].map(({ identity }) => identity.job)).toEqual([
    'envoy-statsd',
    'envoy-statsd',
    'envoy-statsd',
  ])
})

test('what is not from Envoy has its own name, made valid', () => {
  const { send, value, recorder } = setUp()
  send('shop.orders-placed:2|c|#env:prod,canary,9th:x\n5xx:1|ms')
  expect(value('shop_orders_placed{_9th="x",canary="true",env="prod"}')).toBe(2)
  expect([...recorder.series.values()].map(({ identity }) => [identity.job, identity.unit])).toEqual([
    ['statsd', undefined],
    ['statsd', 'ms'],
  ])
})

test('who sent it: a tag, a container, or the address', () => {
  const { send, collector, recorder } = setUp({ instanceTag: 'pod' })
  send('a:1|c|#pod:web-1,x:y|c:ci-123\nb:1|c|c:ci-123\nc:1|c')
  collector.flush()
  expect([...recorder.series.values()].map(({ identity }) => [identity.instance, identity.labels])).toEqual([
    ['web-1', [['x', 'y']]],
    ['123', []],
    ['10.0.0.1', []],
  ])
})

test('lines that say when they were keep their time', () => {
  const { send, collector, recorder } = setUp()
  send('a:5|c|T1656581400\ng:7|g|#x:y|T1656581401')
  collector.flush()
  expect(recorder.series.get('a{}')).toMatchObject({ value: 5, timeMs: 1_656_581_400_000 })
  expect(recorder.series.get('g{x="y"}')).toMatchObject({ value: 7, timeMs: 1_656_581_401_000 })
})

test('the last of two equal tags counts', () => {
  const { send, value } = setUp()
  send('a:1|c|#x:1,x:2')
  expect(value('a{x="2"}')).toBe(1)
})

test('mapping rules: name, labels, scale, drop', () => {
  const result = parseMapping(`
mappings:
  - { match: 'shop.*.time', name: 'shop_seconds', scale: 0.001, labels: { shop: '$1', x: 'rule' } }
  - { match: 'noise.*', action: drop }
`)
  if ('errors' in result) throw new Error(result.errors[0])
  const { send, collector, recorder } = setUp({ mapper: result.mapper })
  send('shop.a.time:250|ms|#x:sent\nnoise.a:1|c\nnoise.a:1|c')
  collector.flush()
  expect([...recorder.series.keys()]).toEqual(['shop_seconds{shop="a",x="rule"}'])
  expect(recorder.series.get('shop_seconds{shop="a",x="rule"}')!.distributions[0]).toMatchObject({ values: [0.25] })
  expect(collector.counters.mappedAway).toBe(2)
})

test('a bad line is counted by reason and costs nothing else', () => {
  const { send, value, collector } = setUp()
  send('a:1|c\nbad\na:x|c\na:1|q\nu:1|s\n_e{1,1}:a|b\n_sc|a|0\nd:-1|c\na:1|c')
  expect(value('a{}')).toBe(2)
  expect([...collector.counters.rejected]).toEqual([
    ['no_value', 1],
    ['bad_value', 1],
    ['bad_type', 1],
  ])
  expect(collector.counters).toMatchObject({ lines: 4, events: 1, serviceChecks: 1, negative: 1 })
  expect(collector.rejected()[0]).toMatchObject({ peer: '10.0.0.1', reason: 'no_value' })
})

test('sets are how many different values came in an interval, then 0, then nothing', () => {
  const { send, value, clock, collector, recorder } = setUp()
  const other = 'users{} of 10.0.0.2'
  send('users:alice|s\nusers:bob:alice:7|s\nusers:alice|s|@0.1')
  // Each address is an instance of its own.
  send('users:carol|s', '10.0.0.2')
  const writes = () => recorder.series.get('users{}')!.writes
  collector.flush()
  expect(collector.counters.setValues).toBe(4)
  clock.now += 9999
  collector.flush()
  expect(writes()).toBe(0)
  clock.now += 1
  expect([value('users{}'), value(other)]).toEqual([3, 1])
  expect(collector.counters.setValues).toBe(0)
  send('users:alice|s', '10.0.0.2')
  send('users:dave|s', '10.0.0.2')
  clock.now += 10_000
  expect([value('users{}'), value(other)]).toEqual([0, 2])
  expect(writes()).toBe(2)
  clock.now += 10_000
  expect(value(other)).toBe(0)
  expect(writes()).toBe(2)
  expect(collector.counters).toMatchObject({ lines: 6, values: 8, setValues: 0, setValuesDropped: 0 })
})

test('those who send as one are one set, and labels tell sets apart', () => {
  const { send, value, clock } = setUp({ instanceTag: 'node' })
  send('users:alice|s|#node:n,kind:a')
  send('users:alice|s|#kind:a,node:n', '10.0.0.2')
  send('users:bob|s|#node:n,kind:a', '10.0.0.3')
  send('users:bob|s|#node:n,kind:b', '10.0.0.3')
  expect(value('users{kind="a"}')).toBe(0)
  clock.now += 10_000
  expect(value('users{kind="a"}')).toBe(2)
  expect(value('users{kind="b"}')).toBe(1)
})

test('sets are bounded, and what had no room is counted', () => {
  const { send, value, clock, collector } = setUp({ limits: { setValuesMax: 100, valuesMax: 150 } })
  for (let k = 0; k < 130; k++) send(`a:${k}|s\na:${k}|s`)
  for (let k = 0; k < 130; k++) send(`b:${k}|s`)
  collector.flush()
  expect(collector.counters).toMatchObject({ setValues: 150, setValuesDropped: 60 + 80 })
  clock.now += 10_000
  expect(value('a{}')).toBe(100)
  expect(value('b{}')).toBe(50)
})

test('a set of many is counted exactly, and one that is stopped is told', () => {
  const { send, value, collector } = setUp()
  for (let k = 0; k < 20_000; k += 500) {
    send(Array.from({ length: 1000 }, (_, n) => `many:user-${(k + n) % 20_000}|s`).join('\n'))
  }
  collector.stop()
  expect(value('many{}')).toBe(20_000)
})

test('memory is bounded over senders and over metrics, and nothing is lost by it', () => {
  const { send, collector, recorder } = setUp({ limits: { sendersMax: 10, metricsMax: 50 } })
  for (let k = 0; k < 100; k++) send('a:1|c', `10.0.0.${k}`)
  expect(collector.counters).toMatchObject({ senders: 10, metrics: 10, forgotten: 90 })
  for (let k = 0; k < 200; k++) send(`m${k}:1|c`, '10.0.0.99')
  expect(collector.counters.metrics).toBeLessThanOrEqual(50)
  collector.flush()
  let sum = 0
  for (const { value } of recorder.series.values()) sum += value
  expect(sum).toBe(300)
})
