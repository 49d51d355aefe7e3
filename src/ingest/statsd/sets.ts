import type { MetricStore, Series } from '../../metrics/store.ts'
import { hashOf } from '../scrape/head-table.ts'

/**
 * Sets: how many different values came in each interval, as a gauge. Values are kept as hashes of 53 bits until the interval
 * ends, by series and not by sender, so that those who send as one are counted as one.
 *
 *   `users:alice|s` ─► hash ─► set of the series ──interval──► gauge: its size; 0 once when none came
 *
 * Two values of 65 536 share a hash with a probability of 1 in 4 million.
 */
export interface SetCounter {
  /** One value of a set. */
  add(series: Series, bytes: Uint8Array, from: number, to: number): void
  /** Writes what intervals have come to their end. */
  flush(now: number): void
  /** Writes everything, though the interval has not ended. */
  end(now: number): void
  readonly counters: SetCounters
}

export interface SetCounters {
  /** Different values at hand. */
  setValues: number
  /** Values that had no room: the gauge is then too low. */
  setValuesDropped: number
}

export interface SetLimits {
  /** Different values of one set in one interval. */
  readonly setValuesMax: number
  /** Of all sets together, some 40 bytes each. */
  readonly valuesMax: number
}

export interface SetOptions {
  readonly metrics: MetricStore
  readonly intervalMs: number
  readonly limits?: Partial<SetLimits>
}

const LIMITS: SetLimits = { setValuesMax: 65_536, valuesMax: 1_000_000 }

export function createSetCounter(options: SetOptions): SetCounter {
  const { metrics, limits } = options
  const intervalMs = Math.max(1, options.intervalMs)
  const { setValuesMax, valuesMax } = { ...LIMITS, ...limits }
  const counters: SetCounters = { setValues: 0, setValuesDropped: 0 }
  const sets = new Map<Series, Set<number>>()
  const [high, low] = [seed(), seed()]
  /** End of the interval, wall clock, ms; ends lie at multiples of its width. */
  let endsMs = 0

  function write(atMs: number): void {
    for (const [series, values] of sets) {
      metrics.setGauge(series, atMs, values.size)
      // One interval without values is told as such.
      if (values.size === 0) sets.delete(series)
      else sets.set(series, new Set())
    }
    counters.setValues = 0
  }

  return {
    counters,
    add(series, bytes, from, to) {
      let values = sets.get(series)
      if (values === undefined) {
        values = new Set()
        sets.set(series, values)
      }
      const before = values.size
      const hash = (hashOf(bytes, from, to, high) >>> 0) * 2 ** 21 + (hashOf(bytes, from, to, low) & 0x1fffff)
      const hasRoom = before < setValuesMax && counters.setValues < valuesMax
      if (hasRoom) values.add(hash)
      else if (!values.has(hash)) counters.setValuesDropped++
      counters.setValues += values.size - before
    },
    flush(now) {
      if (sets.size === 0) return
      // A clock that was set back begins a new interval.
      if (endsMs === 0 || now < endsMs - intervalMs) endsMs = now - (now % intervalMs) + intervalMs
      if (now < endsMs) return
      write(now)
      endsMs = now - (now % intervalMs) + intervalMs
    },
    end(now) {
      write(now)
      sets.clear()
    },
  }
}

function seed(): number {
  return (Math.random() * 2 ** 32) | 0
}
