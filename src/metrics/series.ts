import { hash } from 'node:crypto'
import type { HistogramState } from './accumulate.ts'
import type { Label, LatestSelector, Series, SeriesIdentity, SeriesType } from './store.ts'

/** A series with what is known of it; the mutable side of `Series`. */
export class SeriesState implements Series {
  readonly job: string
  readonly instance: string
  readonly name: string
  readonly labels: readonly Label[]
  readonly type: SeriesType
  readonly overflow: boolean
  readonly unit: string
  readonly help: string
  /** Key in the registry. */
  readonly key: string
  /** The id as words, the lowest first. */
  readonly id: Uint32Array
  readonly sender: Sender
  /** Not in the registry any more; comes back when it is written to. */
  forgotten = false
  /** Time of the last value, as the sender has it; −1 before the first. */
  timeMs = -1
  /** Of a histogram: its count. */
  value = 0
  /** When it was 0; 0 when not known. */
  startMs = 0
  resets = 0
  stale = false
  /** Values are added up here, and not the sender's own totals. */
  accumulated = false
  /** Time of the last increase that was added; −1 before the first. */
  addedMs = -1
  /** The zero that it began with is no row yet. */
  zeroDue = false
  /** Has changes that are no row yet. */
  dirty = false
  /** Time of the last row. */
  rowMs = -1
  /** Time of the latest exemplar. */
  exemplarMs = -1
  /** Wall clock of the last row. */
  writtenMs = 0
  /** Wall clock of the last write. */
  touchedMs = 0
  /** Days (since the epoch) that `series` has a row for, the newest two. */
  day = -1
  dayBefore = -1
  histogram: HistogramState | null = null

  constructor(
    identity: SeriesIdentity,
    labels: readonly Label[],
    key: string,
    sender: Sender,
    {
      overflow = false,
      ofName = nameHash(identity.name),
    }: { readonly overflow?: boolean; readonly ofName?: number } = {},
  ) {
    this.job = identity.job
    this.instance = identity.instance
    this.name = identity.name
    this.type = identity.type
    this.unit = identity.unit ?? ''
    this.help = identity.help ?? ''
    this.labels = labels
    this.key = key
    this.id = seriesId(ofName, key)
    this.sender = sender
    this.overflow = overflow
  }
}

/** A job's instance: whether it still sends. */
export interface Sender {
  /** Wall clock, ms. */
  seenMs: number
}

/**
 * 128 bits of what identifies a series. The upper 32 are of the name alone, so that series of one name are stored next to
 * each other.
 */
export function seriesId(ofName: number, key: string): Uint32Array {
  const whole = hash('md5', key, 'buffer')
  return Uint32Array.of(whole.readUInt32LE(0), whole.readUInt32LE(4), whole.readUInt32LE(8), ofName)
}

function nameHash(name: string): number {
  return hash('md5', name, 'buffer').readUInt32LE(0)
}

/** The same id as the store prints it. */
export function idText(id: Uint32Array): string {
  let value = 0n
  for (let k = 3; k >= 0; k--) value = (value << 32n) | BigInt(id[k]!)
  return value.toString()
}

/** Between the parts of a key; values, which may have it, stand with their length. */
const SEPARATOR = '\u0000'

/** Name and sorted labels as one text, different for different series. */
export function seriesKey(name: string, labels: readonly Label[]): string {
  let key = name
  for (const [label, value] of labels) key += keyPart(label, value)
  return key
}

const keyPart = (label: string, value: string): string =>
  `${SEPARATOR}${label}${SEPARATOR}${value.length}${SEPARATOR}${value}`

/** The key of an identity whose labels are sorted and whole, without making them so; null for others. */
export function keyOfSorted({ name, job, instance, labels }: SeriesIdentity): string | null {
  if (job === '' || instance === '') return null
  let key = name
  let last = ''
  let left = 2
  for (const [label, value] of labels) {
    if (label <= last || value === '' || label === 'instance' || label === 'job') return null
    last = label
    if (left === 2 && label > 'instance') {
      key += keyPart('instance', instance)
      left = 1
    }
    if (left === 1 && label > 'job') {
      key += keyPart('job', job)
      left = 0
    }
    key += keyPart(label, value)
  }
  if (left === 2) key += keyPart('instance', instance)
  return left === 0 ? key : key + keyPart('job', job)
}

/** Labels with `job` and `instance`, sorted by name, without empty values; of a name that comes twice the last counts. */
export function canonicalLabels({ job, instance, labels }: SeriesIdentity): readonly Label[] {
  const byName = new Map<string, string>()
  for (const [name, value] of labels) byName.set(name, value)
  byName.set('job', job)
  byName.set('instance', instance)
  return [...byName].filter(([, value]) => value !== '').sort(([a], [b]) => (a < b ? -1 : 1))
}

/**
 * All series that are written to, each once. Bounded by number: what does not fit shares one series for each job, to which
 * writes are dropped and counted.
 */
export class SeriesRegistry {
  readonly #seriesMax: number
  readonly #byKey = new Map<string, SeriesState>()
  readonly #byName = new Map<string, Set<SeriesState>>()
  readonly #senders = new Map<string, Sender>()
  readonly #overflow = new Map<string, SeriesState>()

  constructor(seriesMax: number) {
    this.#seriesMax = seriesMax
  }

  get size(): number {
    return this.#byKey.size
  }

  series(identity: SeriesIdentity): SeriesState {
    const quick = keyOfSorted(identity)
    const found = quick === null ? undefined : this.#byKey.get(quick)
    if (found !== undefined) return found
    const labels = canonicalLabels(identity)
    const key = seriesKey(identity.name, labels)
    const known = this.#byKey.get(key)
    if (known !== undefined) return known
    if (this.#byKey.size >= this.#seriesMax) return this.#overflowOf(identity)
    const [sibling] = this.#byName.get(identity.name) ?? []
    const more = sibling === undefined ? {} : { ofName: sibling.id[3]! }
    const series = new SeriesState(identity, labels, key, this.#sender(identity), more)
    this.#add(series)
    return series
  }

  /** Puts a forgotten series back. False when there is no room, or its place was taken by another object. */
  restore(series: SeriesState): boolean {
    if (this.#byKey.size >= this.#seriesMax || this.#byKey.has(series.key)) return false
    series.forgotten = false
    this.#add(series)
    return true
  }

  /** The object that now has the identity of a forgotten series. */
  successor(series: SeriesState): SeriesState | undefined {
    return this.#byKey.get(series.key)
  }

  forget(series: SeriesState): void {
    series.forgotten = true
    series.histogram = null
    series.accumulated = false
    series.addedMs = -1
    this.#byKey.delete(series.key)
    const named = this.#byName.get(series.name)
    named?.delete(series)
    if (named?.size === 0) this.#byName.delete(series.name)
  }

  forgetSenders(seenBeforeMs: number): void {
    for (const [key, sender] of this.#senders) if (sender.seenMs < seenBeforeMs) this.#senders.delete(key)
  }

  all(): Iterable<SeriesState> {
    return this.#byKey.values()
  }

  *select({ name, job, instance, labels }: LatestSelector): Iterable<SeriesState> {
    const wanted = labels === undefined ? [] : Object.entries(labels)
    for (const series of this.#byName.get(name) ?? []) {
      if (job !== undefined && series.job !== job) continue
      if (instance !== undefined && series.instance !== instance) continue
      if (wanted.every(([label, value]) => labelOf(series, label) === value)) yield series
    }
  }

  #add(series: SeriesState): void {
    this.#byKey.set(series.key, series)
    const named = this.#byName.get(series.name)
    if (named === undefined) this.#byName.set(series.name, new Set([series]))
    else named.add(series)
  }

  #sender({ job, instance }: SeriesIdentity): Sender {
    const key = `${job}${SEPARATOR}${instance}`
    let sender = this.#senders.get(key)
    if (sender === undefined) {
      sender = { seenMs: 0 }
      this.#senders.set(key, sender)
    }
    return sender
  }

  #overflowOf({ job, type }: SeriesIdentity): SeriesState {
    let series = this.#overflow.get(type)
    if (series === undefined) {
      const identity = { job, instance: '', name: 'overflow', labels: [], type }
      series = new SeriesState(identity, [], '', { seenMs: 0 }, { overflow: true })
      this.#overflow.set(type, series)
    }
    return series
  }
}

/** Value of a label; '' when the series does not have it. */
export function labelOf(series: Series, name: string): string {
  for (const [label, value] of series.labels) if (label === name) return value
  return ''
}
