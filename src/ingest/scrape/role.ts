import type { SeriesType } from '../../metrics/store.ts'
import type { HeadText } from './head-text.ts'
import { numberOf } from './number.ts'
import { type Family, type FamilyType, PART, type Page, type Rejection } from './page.ts'

/** What a sample is: a part of an item. */
export interface Role {
  readonly item: number
  readonly part: number
  readonly family: Family
}

/** What a family is stored as. */
export function seriesTypeOf(type: FamilyType): SeriesType {
  if (type === 'gaugehistogram') return 'histogram'
  return type === 'info' || type === 'stateset' ? 'gauge' : type
}

/** Suffixes of sample names, by the types of family that have them, and what the number then is. */
const PARTS: readonly (readonly [suffix: string, part: number, types: readonly FamilyType[]])[] = [
  ['_bucket', 0, ['histogram', 'gaugehistogram']],
  ['_sum', PART.sum, ['histogram', 'summary', 'gaugehistogram']],
  ['_count', PART.count, ['histogram', 'summary', 'gaugehistogram']],
  ['_total', PART.value, ['counter']],
  ['_created', PART.created, ['counter', 'histogram', 'summary']],
  ['_gsum', PART.sum, ['gaugehistogram']],
  ['_gcount', PART.count, ['gaugehistogram']],
  ['_info', PART.value, ['info']],
]

/**
 * Decides which part of which series a sample is, by the TYPE lines so far. A family of its own goes before a part of another:
 * `x_sum` with `# TYPE x_sum gauge` is a gauge. What is of no family is untyped, as in Prometheus.
 */
export function roleOf(page: Page, { name, labels }: HeadText, openMetrics: boolean): Role | Rejection {
  const own = page.knownFamily(name)
  if (own?.declared === true) {
    if (own.type === 'summary') {
      const quantile = take(labels, 'quantile')
      if (quantile !== null) return partRole(page, own, labels, quantile)
    }
    const type = seriesTypeOf(own.type)
    // A histogram has no sample of its own name: it is taken for what it is, one number.
    const single = type === 'histogram' || type === 'summary' ? 'untyped' : type
    return { item: page.item(name, labels, single, own), part: PART.value, family: own }
  }
  for (const [suffix, part, types] of PARTS) {
    if (!name.endsWith(suffix)) continue
    const family = page.knownFamily(name.slice(0, -suffix.length))
    if (family?.declared !== true || !types.includes(family.type)) continue
    if (suffix === '_created' && !openMetrics) continue
    if (suffix === '_bucket') {
      const bound = take(labels, 'le')
      return bound === null ? 'bucket' : partRole(page, family, labels, bound)
    }
    const type = seriesTypeOf(family.type)
    const isSingle = type === 'counter' || type === 'gauge'
    // The series of `x_created` is that of `x_total`, or of `x` with histograms and summaries.
    const ofName = !isSingle ? family.name : suffix === '_created' ? `${family.name}_total` : name
    return { item: page.item(ofName, labels, type, family), part, family }
  }
  const family = page.family(name)
  return { item: page.item(name, labels, 'untyped', family), part: PART.value, family }
}

function partRole(page: Page, family: Family, labels: HeadText['labels'], text: string): Role | Rejection {
  const bound = numberOf(text)
  if (bound === null || Number.isNaN(bound)) return 'bucket'
  const item = page.item(family.name, labels, seriesTypeOf(family.type), family)
  const part = page.part(page.items[item]!, bound)
  return part < 0 ? 'buckets_limit' : { item, part, family }
}

/** Takes a label out. */
function take(labels: HeadText['labels'], name: string): string | null {
  const at = labels.findIndex(([label]) => label === name)
  return at < 0 ? null : labels.splice(at, 1)[0]![1]
}
