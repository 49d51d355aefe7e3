import type { Label, Series, SeriesType } from '../../metrics/store.ts'
import { HeadTable } from './head-table.ts'

/**
 * What is known of one target's page, from one scrape to the next: its families, its series, and for every line's head (name and
 * labels) which part of which series the number behind it is. A parser fills in the numbers of one scrape; `commit.ts` hands
 * them to the store when the whole page was read, so that half a page is never stored.
 *
 *   head number ─► item (series) and part (value, bucket, sum, …)        item ─► values of this scrape
 *
 * Memory is bounded by the limits: what does not fit is rejected, by reason.
 */
export type FamilyType = SeriesType | 'gaugehistogram' | 'info' | 'stateset'

export interface Family {
  readonly name: string
  readonly number: number
  type: FamilyType
  /** Whether a TYPE line said so. */
  declared: boolean
  unit: string
  help: string
}

export interface PageLimits {
  /** Samples of one page: lines with a number; of a protobuf page the lines it would have in text. */
  readonly samplesMax: number
  readonly labelsMax: number
  readonly labelNameBytesMax: number
  readonly labelValueBytesMax: number
  /** Buckets of one histogram, quantiles of one summary. */
  readonly bucketsMax: number
}

export const PAGE_LIMITS: PageLimits = {
  samplesMax: 200_000,
  labelsMax: 64,
  labelNameBytesMax: 512,
  labelValueBytesMax: 4096,
  bucketsMax: 1024,
}

export interface Exemplar {
  readonly labels: readonly Label[]
  readonly value: number
  /** Seconds; NaN when it has none. */
  readonly time: number
}

/** What a head's number is of its series. Numbers ≥ 0: a bucket, or a quantile. */
export const PART = { value: -1, sum: -2, count: -3, created: -4, comment: -5, rejected: -6 } as const

export interface Item {
  readonly number: number
  readonly name: string
  readonly labels: readonly Label[]
  readonly type: SeriesType
  readonly family: Family
  /** Made by the store when the item is first committed. */
  series: Series | null
  /** Null of counters, gauges and untyped ones. */
  readonly parts: Parts | null
  /** Of a protobuf page: buckets by exponent. In place of `parts.figures`. */
  native: Native | null
}

/** Histogram or summary: figures by bound or quantile, in the order in which they were first seen. */
export interface Parts {
  readonly bounds: number[]
  /** NaN: not in this scrape. Cumulative counts of a histogram, values of a summary. */
  figures: Float64Array
  sum: number
  count: number
  /** `bounds` in ascending order and where each is, made when first needed; the same array as long as nothing changes. */
  ascending: { readonly bounds: readonly number[]; readonly order: Int32Array } | null
}

/** Buckets next to each other from `offset` on, observations of each alone. */
export interface NativeRun {
  readonly offset: number
  readonly counts: Float64Array
}
export interface Native {
  readonly scale: number
  readonly zeroThreshold: number
  readonly zeroCount: number
  readonly positive: NativeRun
  readonly negative: NativeRun
}

/** Reasons for which a part of a page is not stored. */
export type Rejection =
  | 'syntax'
  | 'name'
  | 'value'
  | 'timestamp'
  | 'duplicate'
  | 'duplicate_label'
  | 'labels_limit'
  | 'label_length'
  | 'bucket'
  | 'buckets_limit'
  | 'native'
  | 'utf8'
  | 'exemplar'

/** Why a whole page is not stored. */
export type PageFailure = 'sample_limit' | 'no_eof' | 'malformed' | 'not_exposition'

export interface PageResult {
  /** Samples read, without rejected ones. */
  samples: number
  /** Parts rejected. */
  rejected: number
  /** Of the first one that was rejected: reason and place, bytes from the start of the page. */
  firstReason: Rejection | null
  firstOffset: number
  exemplars: number
  failure: PageFailure | null
}

/** What names of samples have behind the name of their family. */
export const SUFFIXES = ['_bucket', '_sum', '_count', '_total', '_created', '_gsum', '_gcount', '_info'] as const

export class Page {
  readonly heads = new HeadTable()
  readonly limits: PageLimits
  /** Of the process: see `hashOf`. */
  readonly hashSeed: number
  readonly families: Family[] = []
  readonly items: Item[] = []
  /** By head number. */
  headItem = new Int32Array(64)
  headPart = new Int32Array(64)
  headFamily = new Int32Array(64)
  headVersion = new Int32Array(64)
  /** By family number: goes up when its type changes, and what was made of its lines before is void. */
  familyVersion = new Int32Array(64)
  /** By item number, of the scrape in which `seenIn` says so. Times in ms, NaN: the sample has none. */
  values = new Float64Array(64)
  times = new Float64Array(64)
  starts = new Float64Array(64)
  seenIn = new Int32Array(64)
  /** Items of this scrape in the order of the page. */
  seen = new Int32Array(64)
  seenCount = 0
  scrape = 0
  result: PageResult = emptyResult()
  readonly rejections = new Map<Rejection, number>()
  /** Called for each exemplar when set; without it they are skipped. */
  onExemplar: ((item: Item, exemplar: Exemplar) => void) | null = null
  readonly #familyByName = new Map<string, Family>()
  readonly #itemByKey = new Map<string, number>()

  constructor(limits: PageLimits = PAGE_LIMITS, hashSeed = 0x1234_5678) {
    this.limits = limits
    this.hashSeed = hashSeed
  }

  /** Memory that repeated lines hold, about, bytes. */
  get bytes(): number {
    return this.heads.bytes + 16 * this.headItem.length + 400 * this.items.length
  }

  begin(): void {
    this.scrape++
    this.seenCount = 0
    this.result = emptyResult()
    this.rejections.clear()
    this.heads.rewind()
  }

  reject(reason: Rejection, offset: number, count = 1): void {
    const { result } = this
    if (result.rejected === 0) {
      result.firstReason = reason
      result.firstOffset = offset
    }
    result.rejected += count
    this.rejections.set(reason, (this.rejections.get(reason) ?? 0) + count)
  }

  // ---- families

  family(name: string): Family {
    let family = this.#familyByName.get(name)
    if (family === undefined) {
      const number = this.families.length
      family = { name, number, type: 'untyped', declared: false, unit: '', help: '' }
      if (number === this.familyVersion.length) this.familyVersion = resized(this.familyVersion, 2 * number)
      this.families.push(family)
      this.#familyByName.set(name, family)
    }
    return family
  }

  knownFamily(name: string): Family | undefined {
    return this.#familyByName.get(name)
  }

  declare(family: Family, type: FamilyType): void {
    if (family.declared && family.type === type) return
    family.declared = true
    family.type = type
    // Lines that were taken for something else are looked at again: those of the family, `x_sum` that came before a TYPE of
    // `x`, and `x_sum` that was a part of `x` before a TYPE of its own.
    this.familyVersion[family.number]!++
    for (const suffix of SUFFIXES) {
      this.#void(family.name + suffix)
      if (family.name.endsWith(suffix)) this.#void(family.name.slice(0, -suffix.length))
    }
  }

  #void(name: string): void {
    const family = this.#familyByName.get(name)
    if (family !== undefined) this.familyVersion[family.number]!++
  }

  // ---- heads

  /** Notes what the head with this number, which is new or void, stands for. */
  assign(head: number, item: number, part: number, family: number): void {
    if (head >= this.headItem.length) {
      const length = 2 * Math.max(head, this.headItem.length)
      this.headItem = resized(this.headItem, length)
      this.headPart = resized(this.headPart, length)
      this.headFamily = resized(this.headFamily, length)
      this.headVersion = resized(this.headVersion, length)
    }
    this.headItem[head] = item
    this.headPart[head] = part
    this.headFamily[head] = family
    this.headVersion[head] = family < 0 ? 0 : this.familyVersion[family]!
  }

  /** Whether what is noted of the head still holds. */
  holds(head: number): boolean {
    const family = this.headFamily[head]!
    return family < 0 || this.headVersion[head] === this.familyVersion[family]
  }

  // ---- items

  /** The series with this name and these labels, which are sorted by name here. */
  item(name: string, labels: Label[], type: SeriesType, family: Family): number {
    labels.sort(byName)
    let key = `${type}\0${name}`
    for (const [label, value] of labels) key += `\0${label}\0${value}`
    const known = this.#itemByKey.get(key)
    if (known !== undefined) return known
    const number = this.items.length
    if (number === this.values.length) this.#growItems()
    const composite = type === 'histogram' || type === 'summary'
    this.items.push({
      number,
      name,
      labels,
      type,
      family,
      series: null,
      parts: composite
        ? { bounds: [], figures: new Float64Array(4), sum: Number.NaN, count: Number.NaN, ascending: null }
        : null,
      native: null,
    })
    this.starts[number] = Number.NaN
    this.#itemByKey.set(key, number)
    return number
  }

  /** The number of a bound or quantile of a histogram or summary; −1 when there are too many. */
  part(item: Item, bound: number): number {
    const parts = item.parts!
    const known = parts.bounds.indexOf(bound)
    if (known >= 0) return known
    if (parts.bounds.length >= this.limits.bucketsMax) return -1
    parts.bounds.push(bound)
    if (parts.bounds.length > parts.figures.length) {
      const figures = new Float64Array(2 * parts.figures.length).fill(Number.NaN)
      figures.set(parts.figures)
      parts.figures = figures
    }
    parts.figures[parts.bounds.length - 1] = Number.NaN
    parts.ascending = null
    return parts.bounds.length - 1
  }

  /** The item appears in this scrape, for the first time. */
  see(number: number, time: number): void {
    this.seenIn[number] = this.scrape
    this.seen[this.seenCount++] = number
    this.times[number] = time
    const item = this.items[number]!
    if (item.parts !== null) {
      item.parts.figures.fill(Number.NaN)
      item.parts.sum = Number.NaN
      item.parts.count = Number.NaN
      item.native = null
    }
  }

  /**
   * Puts the number of a line where it belongs. False: it was there already. The second number of a series with another
   * time counts as there already, too: one page is one moment.
   */
  put(number: number, part: number, value: number, time: number): boolean {
    const isNew = this.seenIn[number] !== this.scrape
    if (part === PART.value) {
      if (!isNew) return false
      this.see(number, time)
      this.values[number] = value
      return true
    }
    if (part === PART.created) {
      this.starts[number] = value * 1000
      return true
    }
    if (isNew) this.see(number, time)
    const parts = this.items[number]!.parts!
    if (part >= 0) {
      if (!Number.isNaN(parts.figures[part]!)) return false
      parts.figures[part] = value
      return true
    }
    if (part === PART.sum) {
      if (!Number.isNaN(parts.sum)) return false
      parts.sum = value
      return true
    }
    if (!Number.isNaN(parts.count)) return false
    parts.count = value
    return true
  }

  /**
   * Whether most of what is kept is of lines that no longer come: then a page made by `compacted` should take its place.
   */
  get isMostlyOld(): boolean {
    const kept = Math.max(this.items.length, this.families.length, this.heads.size / 32)
    return kept > 1000 && kept > 4 * Math.max(this.seenCount, 1)
  }

  /** A page that knows the series of the last scrape and nothing else. */
  compacted(): Page {
    const page = new Page(this.limits, this.hashSeed)
    page.onExemplar = this.onExemplar
    page.scrape = this.scrape
    for (let k = 0; k < this.seenCount; k++) {
      const old = this.seen[k]!
      const { name, labels, type, family, series } = this.items[old]!
      const known = page.family(family.name)
      Object.assign(known, { type: family.type, declared: family.declared, unit: family.unit, help: family.help })
      const number = page.item(name, [...labels], type, known)
      page.items[number]!.series = series
      page.see(number, this.times[old]!)
    }
    return page
  }

  #growItems(): void {
    const length = 2 * this.values.length
    this.values = resizedFloats(this.values, length)
    this.times = resizedFloats(this.times, length)
    this.starts = resizedFloats(this.starts, length)
    this.seenIn = resized(this.seenIn, length)
    this.seen = resized(this.seen, length)
  }
}

function emptyResult(): PageResult {
  return { samples: 0, rejected: 0, firstReason: null, firstOffset: 0, exemplars: 0, failure: null }
}

function byName(a: Label, b: Label): number {
  return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0
}

function resized(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(length)
  copy.set(array)
  return copy
}

function resizedFloats(array: Float64Array<ArrayBuffer>, length: number): Float64Array<ArrayBuffer> {
  const copy = new Float64Array(length)
  copy.set(array)
  return copy
}
