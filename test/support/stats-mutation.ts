import { createMessageReader } from '../../src/ingest/metrics-service/decode.ts'
import { createStatsdCollector } from '../../src/ingest/statsd/collector.ts'
import { seededRandom } from '../../src/lib/random.ts'
import { createEnvoyNames } from '../../src/metrics/envoy-names.ts'
import type { MetricStore, MetricStoreCounters, Series } from '../../src/metrics/store.ts'
import { type FamilyParts, metricFamily } from './metrics-message.ts'
import type { MutationRound, MutationRoundReport } from './mutation-campaign.ts'
import { bytes } from './wire.ts'

/** A part of `whole`, damaged: bytes changed, taken out, put in, doubled or cut off. */
function damaged(whole: Buffer, next: () => number, below: (n: number) => number): Buffer {
  const at = below(whole.length)
  const length = Math.min(1 + below(8), whole.length - at)
  const head = whole.subarray(0, at)
  const tail = whole.subarray(at + length)
  switch (below(6)) {
    case 0: {
      const changed = Buffer.from(whole)
      changed[at] = changed[at]! ^ (1 << below(8))
      return changed
    }
    case 1:
      return Buffer.concat([head, tail])
    case 2:
      return Buffer.concat([head, Buffer.from(Array.from({ length }, () => below(256))), whole.subarray(at)])
    case 3:
      return Buffer.concat([head, whole.subarray(at, at + length), whole.subarray(at)])
    case 4:
      return Buffer.from(head)
    default:
      return Buffer.concat([head, Buffer.alloc(length, next() < 0.5 ? 0xff : 0x00), tail])
  }
}

const NAMES = [
  'cluster.a|b;c.upstream_rq_200',
  'http.edge.downstream_rq_xx',
  'server.live',
  'listener.0.0.0.0_80.x',
  'é',
]
const TAIL = [
  '',
  '|@0.5',
  '|#x:y,z',
  '|#envoy.cluster_name:outbound|80||w',
  '|c:ci-1',
  '|#a:b|T1656581400|e:x|card:low',
]

/**
 * Datagrams of several lines, one of them damaged: nothing may throw, every other line is taken with its value, and what is
 * refused is counted. Values are written down by name; each line has a name of its own.
 */
export function createStatsdMutationRun(): (round: MutationRound) => MutationRoundReport {
  const written = new Map<string, number>()
  const store: MetricStore = {
    name: 'written',
    start: async () => {},
    stop: async () => {},
    series: ({ job, instance, name, labels, type }): Series => ({ job, instance, name, labels, type, overflow: false }),
    setCounter: ({ name }, _timeMs, value) => void written.set(name, value),
    addCounter: ({ name }, _timeMs, delta) => void written.set(name, (written.get(name) ?? 0) + delta),
    setGauge: ({ name }, _timeMs, value) => void written.set(name, value),
    addGauge: ({ name }, _timeMs, delta) => void written.set(name, (written.get(name) ?? 0) + delta),
    distribution({ name }, _timeMs, distribution) {
      if (distribution.kind === 'values') written.set(name, distribution.values[0] ?? Number.NaN)
    },
    exemplars: () => 0,
    stale() {},
    synced: async () => {},
    latest: () => [],
    counters: {} as MetricStoreCounters,
  }
  const collector = createStatsdCollector({
    metrics: store,
    mapper: null,
    names: createEnvoyNames({ cacheMax: 1000 }),
    envoyPrefixes: ['envoy'],
    instanceTag: '',
    limits: { metricsMax: 2000, sendersMax: 4 },
  })
  return ({ seed, count, onMessage }) => {
    const next = seededRandom(seed)
    const below = (n: number): number => Math.floor(next() * n)
    let compared = 0
    const rejectedBefore = rejectedOf(collector.counters.rejected)
    for (let k = 0; k < count; k++) {
      onMessage(k)
      written.clear()
      const bad = below(4)
      const expected = new Map<string, number>()
      const lines = Array.from({ length: 4 }, (_, at) => {
        const type = ['c', 'g', 'ms', 'h'][below(4)]!
        const value = below(1000)
        const tail = TAIL[below(TAIL.length)]!
        const text = `line${at}:${value}|${type}${tail}`
        if (at !== bad) {
          expected.set(`line${at}`, type === 'c' && tail === '|@0.5' ? value * 2 : value)
          return Buffer.from(text)
        }
        return damaged(Buffer.from(`envoy.${NAMES[below(NAMES.length)]}:${value}|${type}${tail}`), next, below)
      })
      const datagram = Buffer.concat(lines.flatMap((line, at) => (at === 0 ? [line] : [Buffer.from('\n'), line])))
      collector.take(datagram, 0, datagram.length, `10.0.0.${below(6)}`)
      collector.flush()
      for (const [name, value] of expected) {
        if (written.get(name) === value) compared++
        else {
          const failure = `message ${k} of seed ${seed}: ${name} is ${written.get(name)}, not ${value}, in ${JSON.stringify(datagram.toString('latin1'))}`
          return { rejected: 0, compared, failure }
        }
      }
    }
    return { rejected: rejectedOf(collector.counters.rejected) - rejectedBefore, compared, failure: null }
  }
}

function rejectedOf(rejected: ReadonlyMap<string, number>): number {
  let sum = 0
  for (const n of rejected.values()) sum += n
  return sum
}

/**
 * Messages of several families, one of them damaged inside: nothing may throw, and every other family is read as it was. (Damage to the
 * length in front of a family is damage to all that follows: then those before it must be there.)
 */
export function createMetricsMutationRun(): (round: MutationRound) => MutationRoundReport {
  const reader = createMessageReader()
  return ({ seed, count, onMessage }) => {
    const next = seededRandom(seed)
    const below = (n: number): number => Math.floor(next() * n)
    let compared = 0
    let rejected = 0
    for (let k = 0; k < count; k++) {
      onMessage(k)
      const bad = below(4)
      const inside = next() < 0.7
      const parts = Array.from({ length: 4 }, (_, at) => {
        const family = metricFamily(anyFamily(at, below))
        if (at !== bad) return bytes(2, family)
        return inside
          ? bytes(2, damaged(Buffer.from(family), next, below))
          : damaged(Buffer.from(bytes(2, family)), next, below)
      })
      const message = Buffer.concat(parts)
      const seen: string[] = []
      const result = reader.read(message, 0, message.length, {
        onIdentifier() {},
        onMetric: (metric) =>
          seen.push(`${metric.bytes.subarray(metric.nameFrom, metric.nameTo)} ${metric.value + metric.count}`),
      })
      rejected += result.rejected
      for (let at = 0; at < (inside ? 4 : bad); at++) {
        if (at === bad) continue
        if (seen.includes(`family${at} ${at + 1}`)) compared++
        else {
          return {
            rejected,
            compared,
            failure: `message ${k} of seed ${seed}: family${at} is missing in ${message.toString('base64')}`,
          }
        }
      }
    }
    return { rejected, compared, failure: null }
  }
}

function anyFamily(at: number, below: (n: number) => number): FamilyParts {
  const type = (['counter', 'gauge', 'summary', 'untyped', 'histogram'] as const)[below(5)]!
  const labels = Array.from({ length: below(4) }, (_, k) => [`envoy.label_${k}`, 'v'.repeat(below(40))] as const)
  const points = Array.from({ length: below(20) }, (_, k) => [k, k] as const)
  return {
    name: `family${at}`,
    type,
    labels,
    value: at + 1,
    count: at + 1,
    sum: 1,
    points,
    timestampMs: 1_795_231_460_000,
  }
}
