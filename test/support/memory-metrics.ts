import type { Distribution } from '../../src/metrics/distribution.ts'
import type { Exemplar, MetricStore, MetricStoreCounters, Series, SeriesIdentity } from '../../src/metrics/store.ts'

/**
 * A metric store of nothing but memory: what receivers do to it is there to be looked at. Counters add up as in the real one:
 * from 0 at the first increase, whatever was set before.
 */
export interface MemoryMetrics {
  readonly store: MetricStore
  /** By `name{label="value"}`, without `job` and `instance`. */
  readonly series: ReadonlyMap<string, Recorded>
  /** Times `series` was called. */
  lookups(): number
}

export interface Recorded {
  readonly series: Series
  readonly identity: SeriesIdentity
  value: number
  timeMs: number
  writes: number
  /** An increase has come. */
  accumulated: boolean
  /** Copies, in order. */
  readonly distributions: Distribution[]
  readonly exemplars: Exemplar[]
}

export function createMemoryMetrics(): MemoryMetrics {
  const series = new Map<string, Recorded>()
  const byObject = new Map<Series, Recorded>()
  let lookups = 0
  const recorded = (object: Series): Recorded => byObject.get(object)!
  const write = (object: Series, timeMs: number, value: number): void => {
    const record = recorded(object)
    record.value = value
    record.timeMs = timeMs
    record.writes++
  }
  const store: MetricStore = {
    name: 'recorder',
    start: async () => {},
    stop: async () => {},
    series(identity) {
      lookups++
      const { job, instance, name, type } = identity
      const labels = identity.labels.filter(([, value]) => value !== '').toSorted(([a], [b]) => (a < b ? -1 : 1))
      const key = `${name}{${labels.map(([label, value]) => `${label}="${value}"`).join(',')}}`
      const unique = series.has(key) && series.get(key)!.identity.instance !== instance ? `${key} of ${instance}` : key
      const known = series.get(unique)
      if (known !== undefined) return known.series
      const made: Series = { job, instance, name, labels, type, overflow: false }
      const record = {
        series: made,
        identity,
        value: 0,
        timeMs: 0,
        writes: 0,
        accumulated: false,
        distributions: [],
        exemplars: [],
      }
      series.set(unique, record)
      byObject.set(made, record)
      return made
    },
    setCounter: write,
    addCounter(object, timeMs, delta) {
      const record = recorded(object)
      write(object, timeMs, (record.accumulated ? record.value : 0) + delta)
      record.accumulated = true
    },
    setGauge: write,
    addGauge: (object, timeMs, delta) => write(object, timeMs, recorded(object).value + delta),
    distribution(object, timeMs, distribution) {
      recorded(object).distributions.push(structuredClone(distribution))
      recorded(object).timeMs = timeMs
      recorded(object).writes++
    },
    exemplars(object, exemplars) {
      recorded(object).exemplars.push(...exemplars)
      return exemplars.length
    },
    stale() {},
    synced: async () => {},
    latest: () => [],
    counters: {} as MetricStoreCounters,
  }
  return { store, series, lookups: () => lookups }
}
