import type { Distribution } from '../../metrics/distribution.ts'
import { ofCumulative } from '../../metrics/distribution.ts'
import type { Label, MetricStore, SeriesIdentity } from '../../metrics/store.ts'
import type { Item, NativeRun, Page, Parts } from './page.ts'

/** Job, instance and labels of a series of the page, after the target's own labels have been joined to it. */
export type Attach = (labels: readonly Label[]) => Pick<SeriesIdentity, 'job' | 'instance' | 'labels'>

export interface CommitOptions {
  readonly store: MetricStore
  readonly attach: Attach
  /** When the scrape began: the time of samples that have none of their own. */
  readonly timeMs: number
}

/** Hands the numbers of a page that was read as a whole to the store. */
export function commitPage(page: Page, { store, attach, timeMs }: CommitOptions): void {
  const { seen, seenCount, items, values, times, starts } = page
  for (let k = 0; k < seenCount; k++) {
    const number = seen[k]!
    const item = items[number]!
    item.series ??= store.series(identityOf(item, attach))
    const own = times[number]!
    const time = Number.isNaN(own) ? timeMs : own
    const start = starts[number]!
    switch (item.type) {
      case 'counter':
        if (Number.isNaN(start)) store.setCounter(item.series, time, values[number]!)
        else store.setCounter(item.series, time, values[number]!, start)
        break
      case 'histogram':
        store.distribution(item.series, time, item.native === null ? classic(item.parts!, start) : native(item, start))
        break
      case 'summary':
        store.distribution(item.series, time, summary(item.parts!, start))
        break
      default:
        store.setGauge(item.series, time, values[number]!)
    }
  }
}

function identityOf(item: Item, attach: Attach): SeriesIdentity {
  const { name, type, family } = item
  return {
    ...attach(item.labels),
    name,
    type,
    ...(family.unit === '' ? {} : { unit: family.unit }),
    ...(family.help === '' ? {} : { help: family.help }),
  }
}

function figures(parts: Parts, start: number) {
  return {
    temporality: 'cumulative' as const,
    ...(Number.isNaN(parts.sum) ? {} : { sum: parts.sum }),
    ...(Number.isNaN(start) ? {} : { startMs: start }),
  }
}

/** A page gives the count of each bucket with all below it. */
function classic(parts: Parts, start: number): Distribution {
  const { bounds, order } = ascending(parts)
  const last = parts.bounds.indexOf(Number.POSITIVE_INFINITY)
  const infinite = last < 0 ? Number.NaN : parts.figures[last]!
  const cumulative = new Float64Array(bounds.length + 1)
  for (let k = 0; k < bounds.length; k++) cumulative[k] = parts.figures[order[k]!]!
  const below = bounds.length === 0 ? 0 : cumulative[bounds.length - 1]!
  // Without a +Inf bucket the count says how many there are.
  const all = Number.isNaN(infinite) ? (Number.isNaN(parts.count) ? below : parts.count) : infinite
  cumulative[bounds.length] = all
  const count = Number.isNaN(parts.count) ? all : parts.count
  return { kind: 'explicit', bounds, counts: ofCumulative(cumulative), count, ...figures(parts, start) }
}

function summary(parts: Parts, start: number): Distribution {
  const { bounds, order } = allQuantiles(parts)
  const quantiles = bounds.map((quantile, k) => [quantile, parts.figures[order[k]!]!] as const)
  const count = Number.isNaN(parts.count) ? {} : { count: parts.count }
  return { kind: 'summary', quantiles, ...count, ...figures(parts, start) }
}

function native(item: Item, start: number): Distribution {
  const { scale, zeroThreshold, zeroCount, positive, negative } = item.native!
  const parts = item.parts!
  const runs: { positive: NativeRun; negative?: NativeRun } = { positive }
  if (negative.counts.length > 0) runs.negative = negative
  const count = { count: parts.count }
  return { kind: 'exponential', scale, zeroCount, zeroThreshold, ...runs, ...count, ...figures(parts, start) }
}

/** Finite bounds that this scrape has, in order, as the same array until others come. */
function ascending(parts: Parts): NonNullable<Parts['ascending']> {
  const { bounds, figures: values } = parts
  const isThere = (k: number): boolean => bounds[k] !== Number.POSITIVE_INFINITY && !Number.isNaN(values[k]!)
  let present = 0
  for (let k = 0; k < bounds.length; k++) if (isThere(k)) present++
  const known = parts.ascending
  if (known !== null && known.order.length === present && known.order.every(isThere)) return known
  parts.ascending = sorted(bounds, isThere)
  return parts.ascending
}

/** All quantiles that were ever there: one without a value is NaN, as that of no observations. */
function allQuantiles(parts: Parts): NonNullable<Parts['ascending']> {
  if (parts.ascending?.order.length !== parts.bounds.length) parts.ascending = sorted(parts.bounds, () => true)
  return parts.ascending!
}

function sorted(bounds: readonly number[], isThere: (k: number) => boolean) {
  const order = Int32Array.from([...bounds.keys()].filter(isThere)).sort((a, b) => bounds[a]! - bounds[b]!)
  return { bounds: Array.from(order, (k) => bounds[k]!), order }
}
