import type { NativeBlockColumns, NumberMap } from '../../model/native-read.ts'
import type { KnownSeries, SeriesLog } from './known-series.ts'
import {
  type Bucket,
  boundText,
  type OutExemplar,
  type OutHistogram,
  type OutLabel,
  type OutMetadata,
  type OutSeries,
} from './series.ts'

/** Makes series of the rows of `series`, `samples` and `histograms`, as a scrape of the page would have stored them. */
export interface RowsOptions {
  readonly known: SeriesLog
  readonly jobs: ReadonlySet<string>
  /** Added to every series that has not the label. */
  readonly externalLabels: readonly OutLabel[]
  /** By id of the series, in order of time: taken out where they go. */
  readonly exemplars: Map<string, OutExemplar[]>
}

/** Of one segment; some 300 bytes each. */
const EXEMPLARS_MAX = 50_000

/** Exemplars of a block. How many had no room. */
export function collectExemplars(block: NativeBlockColumns, { known, exemplars }: RowsOptions): number {
  const ids = block.words('series')
  const times = block.numbers('time')
  const values = block.numbers('value')
  const labels = block.textMap('labels')
  let room = EXEMPLARS_MAX
  for (const list of exemplars.values()) room -= list.length
  let dropped = 0
  for (let row = 0; row < block.rows; row++) {
    const id = idOf(ids, row)
    if (known.get(id) === undefined) continue
    if (room-- <= 0) {
      dropped++
      continue
    }
    const own: OutLabel[] = []
    for (let k = row === 0 ? 0 : labels.ends[row - 1]!; k < labels.ends[row]!; k++) {
      own.push([labels.keys.texts[labels.keys.codes[k]!]!, labels.value(k)])
    }
    const list = exemplars.get(id) ?? []
    exemplars.set(id, list)
    list.push({ labels: own.sort(([a], [b]) => (a < b ? -1 : 1)), value: values[row]!, timeMs: times[row]! })
  }
  for (const list of exemplars.values()) list.sort((a, b) => a.timeMs - b.timeMs)
  return dropped
}

/** Series of exemplars whose series has no value in the segment. */
export function seriesOfExemplars(options: RowsOptions): OutSeries[] {
  const out = new Grouped(options)
  for (const id of [...options.exemplars.keys()]) {
    const known = options.known.get(id)
    if (known !== undefined) addExemplars(out, id, known, options)
  }
  return out.series()
}

/** Where Prometheus has them: at the bucket of a classic histogram, else at the series itself. */
function addExemplars(out: Grouped, id: string, known: KnownSeries, { exemplars }: RowsOptions): void {
  const list = exemplars.get(id)
  if (list === undefined) return
  exemplars.delete(id)
  for (const exemplar of list) {
    if (known.type === 'histogram' && known.bounds !== undefined) {
      const bound = known.bounds.find((bound) => exemplar.value <= bound) ?? Number.POSITIVE_INFINITY
      out.of(id, known, `${known.name}_bucket`, [['le', boundText(bound)]]).exemplars.push(exemplar)
    } else if (known.type !== 'summary') out.of(id, known, known.name).exemplars.push(exemplar)
  }
}

const MS_PER_DAY = 86_400_000

/** Remembers the series of a block that are to be sent. */
export function learn(block: NativeBlockColumns, { known, jobs }: RowsOptions): void {
  const ids = block.words('id')
  const job = block.dictionary('job')
  const wanted = job.texts.map((text) => jobs.has(text) || jobs.has('*'))
  const labels = block.textMap('labels')
  const times = block.numbers('time')
  for (let row = 0; row < block.rows; row++) {
    if (wanted[job.codes[row]!] !== true) continue
    const own: OutLabel[] = []
    for (let k = row === 0 ? 0 : labels.ends[row - 1]!; k < labels.ends[row]!; k++) {
      own.push([labels.keys.texts[labels.keys.codes[k]!]!, labels.value(k)])
    }
    const id = idOf(ids, row)
    const before = known.get(id)
    known.set(id, {
      name: block.text('name', row),
      labels: own.sort(([a], [b]) => (a < b ? -1 : 1)),
      type: block.text('type', row),
      unit: block.text('unit', row),
      help: block.text('help', row),
      day: Math.floor(times[row]! / MS_PER_DAY),
      ...(before?.bounds === undefined ? {} : { bounds: before.bounds }),
      ...(before?.native === undefined ? {} : { native: before.native }),
    })
  }
}

export function seriesOfSamples(block: NativeBlockColumns, options: RowsOptions): OutSeries[] {
  const ids = block.words('series')
  const times = block.numbers('time')
  const values = block.numbers('value')
  const starts = block.numbers('start')
  const stale = block.numbers('stale')
  const out = new Grouped(options)
  for (let row = 0; row < block.rows; row++) {
    const id = idOf(ids, row)
    const known = options.known.get(id)
    if (known === undefined) continue
    out.of(id, known, known.name).samples.push({
      value: values[row]!,
      timeMs: times[row]!,
      startMs: starts[row]!,
      stale: stale[row] === 1,
    })
    addExemplars(out, id, known, options)
  }
  return out.series()
}

export function seriesOfHistograms(block: NativeBlockColumns, options: RowsOptions): OutSeries[] {
  const ids = block.words('series')
  const out = new Grouped(options)
  const reader = histogramReader(block)
  for (let row = 0; row < block.rows; row++) {
    const id = idOf(ids, row)
    let known = options.known.get(id)
    if (known === undefined) continue
    const one = reader(row)
    if (one.bounds.length > 0 && !sameNumbers(known.bounds, one.bounds)) {
      known = { ...known, bounds: one.bounds }
      options.known.set(id, known)
    }
    if (known.type === 'summary') addSummary(out, id, known, one)
    else if (known.bounds !== undefined) addClassic(out, id, known, one)
    if (known.type === 'histogram' && isNative(known, one)) {
      if (known.native !== true) options.known.set(id, { ...known, native: true })
      out.of(id, known, known.name).histograms.push(nativeOf(one))
    }
    addExemplars(out, id, known, options)
  }
  return out.series()
}

interface HistogramRow {
  readonly timeMs: number
  readonly startMs: number
  readonly stale: boolean
  readonly count: number
  readonly sum: number
  readonly scale: number
  readonly zeroThreshold: number
  readonly zeroCount: number
  positive(): Bucket[]
  negative(): Bucket[]
  readonly bounds: readonly number[]
  readonly boundCounts: readonly number[]
  readonly quantiles: readonly number[]
  readonly quantileValues: readonly number[]
}

function histogramReader(block: NativeBlockColumns): (row: number) => HistogramRow {
  const numbers = (name: string) => block.numbers(name)
  const [times, starts, stale, counts, sums] = ['time', 'start', 'stale', 'count', 'sum'].map(numbers)
  const [scales, thresholds, zeros] = ['scale', 'zero_threshold', 'zero_count'].map(numbers)
  const list = (name: string) => {
    const { ends, values } = block.arrays(name)
    return (row: number): number[] =>
      Array.prototype.slice.call(values, row === 0 ? 0 : ends[row - 1]!, ends[row]!) as number[]
  }
  const [bounds, boundCounts, quantiles, quantileValues] = [
    'bounds',
    'bound_counts',
    'quantiles',
    'quantile_values',
  ].map(list)
  const positive = block.numberMap('buckets')
  const negative = block.numberMap('negative_buckets')
  return (row) => ({
    timeMs: times![row]!,
    startMs: starts![row]!,
    stale: stale![row] === 1,
    count: counts![row]!,
    sum: sums![row]!,
    scale: scales![row]!,
    zeroThreshold: thresholds![row]!,
    zeroCount: zeros![row]!,
    positive: () => bucketsOf(positive, row),
    negative: () => bucketsOf(negative, row),
    bounds: bounds!(row),
    boundCounts: boundCounts!(row),
    quantiles: quantiles!(row),
    quantileValues: quantileValues!(row),
  })
}

function bucketsOf({ ends, keys, values }: NumberMap, row: number): Bucket[] {
  const buckets: Bucket[] = []
  for (let k = row === 0 ? 0 : ends[row - 1]!; k < ends[row]!; k++) {
    if (values[k]! > 0) buckets.push([keys[k]!, values[k]!])
  }
  return buckets.sort(([a], [b]) => a - b)
}

/** `_bucket` for every bound and +Inf, `_sum`, `_count`. A marker of the end ends them all. */
function addClassic(out: Grouped, id: string, known: KnownSeries, row: HistogramRow): void {
  const { timeMs, startMs, stale } = row
  const bounds = known.bounds!
  const add = (suffix: string, value: number, le?: string): void => {
    const more: readonly OutLabel[] = le === undefined ? [] : [['le', le]]
    out.of(id, known, known.name + suffix, more).samples.push({ value, timeMs, startMs, stale })
  }
  let cumulative = 0
  bounds.forEach((bound, k) => {
    cumulative += row.boundCounts[k] ?? 0
    add('_bucket', cumulative, boundText(bound))
  })
  add('_bucket', row.count, '+Inf')
  add('_sum', row.sum)
  add('_count', row.count)
}

function addSummary(out: Grouped, id: string, known: KnownSeries, row: HistogramRow): void {
  const { timeMs, startMs, stale } = row
  row.quantiles.forEach((quantile, k) => {
    const value = row.quantileValues[k]!
    const labels: readonly OutLabel[] = [['quantile', boundText(quantile)]]
    out.of(id, known, known.name, labels).samples.push({ value, timeMs, startMs: 0, stale })
  })
  out.of(id, known, `${known.name}_sum`).samples.push({ value: row.sum, timeMs, startMs, stale })
  out.of(id, known, `${known.name}_count`).samples.push({ value: row.count, timeMs, startMs, stale })
}

/**
 * Beside bounds of the source the buckets are native ones where they have a zero bucket: others only say where the bounds
 * are. Prometheus knows no schema below −4.
 */
function isNative(known: KnownSeries, { scale, zeroThreshold, stale }: HistogramRow): boolean {
  if (stale) return known.native === true
  return scale >= SCHEMA_MIN && (known.bounds === undefined || zeroThreshold > 0)
}

function nativeOf(row: HistogramRow): OutHistogram {
  const { count, sum, scale, zeroCount, timeMs, startMs, stale } = row
  const zeroThreshold = row.zeroThreshold > 0 ? row.zeroThreshold : ZERO_THRESHOLD
  const [positive, negative] = [row.positive(), row.negative()]
  return { count, sum, scale, zeroThreshold, zeroCount, positive, negative, timeMs, startMs, stale }
}
const SCHEMA_MIN = -4
/** Prometheus's default, 2^−128. */
const ZERO_THRESHOLD = 2 ** -128

/** Series of one block, each once, in the order in which they came. */
class Grouped {
  readonly #options: RowsOptions
  readonly #byKey = new Map<string, OutSeries>()

  constructor(options: RowsOptions) {
    this.#options = options
  }

  of(id: string, known: KnownSeries, name: string, more: readonly OutLabel[] = []): OutSeries {
    const key = `${id}${name}\0${more[0]?.[1] ?? ''}`
    let series = this.#byKey.get(key)
    if (series === undefined) {
      const { name: family, type, unit, help } = known
      const metadata: OutMetadata = { family, type, unit, help }
      series = { labels: this.#labels(known, name, more), metadata, samples: [], histograms: [], exemplars: [] }
      this.#byKey.set(key, series)
    }
    return series
  }

  series(): OutSeries[] {
    return [...this.#byKey.values()]
  }

  #labels(known: KnownSeries, name: string, more: readonly OutLabel[]): OutLabel[] {
    const labels = new Map<string, string>([...this.#options.externalLabels, ...known.labels, ...more])
    labels.set('__name__', name)
    return [...labels].filter(([, value]) => value !== '').sort(([a], [b]) => (a < b ? -1 : 1))
  }
}

/** An id as text: its four words. */
function idOf(words: Uint32Array, row: number): string {
  const at = 4 * row
  return String.fromCharCode(
    words[at]! >>> 16,
    words[at]! & 0xffff,
    words[at + 1]! >>> 16,
    words[at + 1]! & 0xffff,
    words[at + 2]! >>> 16,
    words[at + 2]! & 0xffff,
    words[at + 3]! >>> 16,
    words[at + 3]! & 0xffff,
  )
}

const sameNumbers = (a: readonly number[] | undefined, b: readonly number[]): boolean =>
  a !== undefined && a.length === b.length && a.every((value, k) => value === b[k])
