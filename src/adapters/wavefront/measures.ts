import { codeOf, ZERO_BUCKET } from '../../model/buckets.ts'
import { Histogram } from '../../model/histogram.ts'
import { CODE_BITS, CODE_MASK, GROUP_MASK, GROUPS_MAX, METRIC_SHIFT, RollupLog } from '../../pipeline/rollup-log.ts'

/**
 * Histograms of a few metrics for each series and minute. Observations are whole numbers ≥ 0 (ns, µs, bytes) and go to a
 * log of words, which is sorted and counted when it is full: 8 bytes for each bucket in use, whatever its place.
 *
 *   (series, minute) ─► group ─► sums, extremes
 *                            └─► log of (metric, group, bucket)
 */
export interface Measures {
  /** Group of a series and minute; null when there is no room for a further one. Some room is kept for `spare` ones. */
  groupOf(series: number, minute: number, spare?: boolean): number | null
  observe(group: number, metric: number, value: number): void
  /** Buckets in use; all observations are counted into them first. */
  cells(): number
  readonly groups: number
  /** Groups by series, in the order in which both came. Until the next observation. */
  bySeries(): ReadonlyMap<number, readonly Group[]>
}

export interface Group {
  /** Unix time in minutes. */
  readonly minute: number
  /** Made anew for each call, since all at one time would be hundreds of MB; null where nothing was observed. */
  histogram(metric: number): Histogram | null
}

export interface MeasuresOptions {
  /** At most 8. */
  readonly metrics: number
  readonly logMax?: number
}

const LOG_MAX = 1 << 18
const FIRST_GROUPS = 1024
/** Overflow series, of each minute that an interval was sealed in. */
const GROUPS_SPARE = 4096
/** Minutes since 1970 fit 26 bits until 2097. */
const MINUTES = 2 ** 26

export function createMeasures({ metrics, logMax = LOG_MAX }: MeasuresOptions): Measures {
  const log = new RollupLog(logMax)
  const groups = new Map<number, number>()
  const keys: number[] = []
  let sums = new Float64Array(FIRST_GROUPS * metrics)
  let mins = new Float64Array(FIRST_GROUPS * metrics).fill(Number.POSITIVE_INFINITY)
  let maxs = new Float64Array(FIRST_GROUPS * metrics).fill(-1)
  /** The group that was asked for last, by series: rows of a series come in the order of time, nearly. */
  let lastKey = -1
  let lastGroup = 0

  function grow(): void {
    const length = 2 * sums.length
    sums = grown(sums, length, 0)
    mins = grown(mins, length, Number.POSITIVE_INFINITY)
    maxs = grown(maxs, length, -1)
  }

  return {
    groupOf(series, minute, spare = false) {
      const key = series * MINUTES + minute
      if (key === lastKey) return lastGroup
      let group = groups.get(key)
      if (group === undefined) {
        if (keys.length >= (spare ? GROUPS_MAX : GROUPS_MAX - GROUPS_SPARE)) return null
        group = keys.push(key) - 1
        groups.set(key, group)
        if (keys.length * metrics > sums.length) grow()
      }
      lastKey = key
      lastGroup = group
      return group
    },
    observe(group, metric, value) {
      const at = group * metrics + metric
      sums[at]! += value
      if (value < mins[at]!) mins[at] = value
      if (value > maxs[at]!) maxs[at] = value
      if (log.length === log.capacity) log.count()
      log.words[log.length++] = ((metric << METRIC_SHIFT) | (group << CODE_BITS) | codeOf(value)) >>> 0
    },
    cells: () => log.count().length,
    get groups() {
      return keys.length
    },
    bySeries() {
      const { words, counts, length } = log.count()
      /** First of the buckets of each metric and group, and of what follows the last. */
      const firsts = new Uint32Array(metrics * keys.length + 1)
      let next = 0
      for (let at = 0; at < length; at++) {
        const place = (words[at]! >>> METRIC_SHIFT) * keys.length + ((words[at]! >>> CODE_BITS) & GROUP_MASK)
        while (next <= place) firsts[next++] = at
      }
      firsts.fill(length, next)
      const histogram = (group: number, metric: number): Histogram | null => {
        const place = metric * keys.length + group
        const [from, to] = [firsts[place]!, firsts[place + 1]!]
        if (from === to) return null
        const at = group * metrics + metric
        return Histogram.from({
          buckets: Array.from(words.subarray(from, to), (word) => (word & CODE_MASK) + ZERO_BUCKET),
          counts: counts.subarray(from, to),
          sum: BigInt(sums[at]!),
          min: mins[at]!,
          max: maxs[at]!,
        })
      }
      const bySeries = new Map<number, Group[]>()
      keys.forEach((key, group) => {
        const series = Math.floor(key / MINUTES)
        const list = bySeries.get(series)
        const one: Group = { minute: key % MINUTES, histogram: (metric) => histogram(group, metric) }
        if (list === undefined) bySeries.set(series, [one])
        else list.push(one)
      })
      return bySeries
    },
  }
}

function grown(before: Float64Array<ArrayBuffer>, length: number, fill: number): Float64Array<ArrayBuffer> {
  const after = new Float64Array(length).fill(fill, before.length)
  after.set(before)
  return after
}
