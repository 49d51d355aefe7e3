import type { Distribution } from '../../src/metrics/distribution.ts'
import type { LatestSample, MetricStore, MetricStoreCounters, Series, SeriesIdentity } from '../../src/metrics/store.ts'

/** A write to the metric store, as a receiver made it. */
export interface Written {
  /** `job/instance name{label="value"}`. */
  readonly series: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly type: string
  readonly write: 'setCounter' | 'addCounter' | 'setGauge' | 'addGauge' | 'distribution' | 'exemplars' | 'stale'
  readonly timeMs: number
  readonly value: number
  readonly startMs?: number
  readonly distribution?: Distribution
}

export interface MetricRecorder extends MetricStore {
  readonly written: Written[]
  /** The last number written to a series without labels other than job and instance, or with those given. */
  last(name: string, labels?: Readonly<Record<string, string>>): Written | undefined
  readonly identities: SeriesIdentity[]
}

/** Keeps every write, for tests of what a receiver makes of its input. */
export function recordMetrics(): MetricRecorder {
  const byKey = new Map<string, Series>()
  const written: Written[] = []
  const identities: SeriesIdentity[] = []
  const counters: MetricStoreCounters = {
    ...({} as MetricStoreCounters),
  }
  const note = (
    write: Written['write'],
    series: Series,
    timeMs: number,
    value: number,
    more: Partial<Written> = {},
  ) => {
    const labels = Object.fromEntries(series.labels.filter(([name]) => name !== 'job' && name !== 'instance'))
    const text = Object.entries(labels)
      .map(([name, label]) => `${name}="${label}"`)
      .join(',')
    const id = `${series.job}/${series.instance} ${series.name}{${text}}`
    written.push({ series: id, name: series.name, labels, type: series.type, write, timeMs, value, ...more })
  }
  return {
    name: 'metrics',
    written,
    identities,
    counters,
    async start() {},
    async stop() {},
    async synced() {},
    exemplars(series, exemplars) {
      for (const { timeMs, value } of exemplars) note('exemplars', series, timeMs, value)
      return exemplars.length
    },
    series(identity) {
      const labels = [...identity.labels.filter(([, value]) => value !== '')].sort(([a], [b]) => (a < b ? -1 : 1))
      const { job, instance, name, type } = identity
      const key = JSON.stringify([job, instance, name, labels])
      let series = byKey.get(key)
      if (series === undefined) {
        const all = [...labels, ['job', job] as const, ['instance', instance] as const]
        series = { job, instance, name, type, labels: all, overflow: false }
        byKey.set(key, series)
        identities.push(identity)
      }
      return series
    },
    setCounter(series, timeMs, value, startMs) {
      note('setCounter', series, timeMs, value, startMs === undefined ? {} : { startMs })
    },
    addCounter: (series, timeMs, delta) => note('addCounter', series, timeMs, delta),
    setGauge: (series, timeMs, value) => note('setGauge', series, timeMs, value),
    addGauge: (series, timeMs, delta) => note('addGauge', series, timeMs, delta),
    distribution: (series, timeMs, distribution) =>
      note('distribution', series, timeMs, distribution.kind === 'values' ? 0 : (distribution.count ?? Number.NaN), {
        distribution,
      }),
    stale: (series, timeMs) => note('stale', series, timeMs, Number.NaN),
    *latest(): Iterable<LatestSample> {},
    last(name, labels) {
      const matches = (one: Written): boolean =>
        one.name === name && Object.entries(labels ?? {}).every(([label, value]) => one.labels[label] === value)
      return written.findLast(matches)
    },
  }
}
