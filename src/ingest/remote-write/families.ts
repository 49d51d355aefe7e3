import type { SeriesType } from '../../metrics/store.ts'
import type { Metadata } from './series.ts'

/** What senders said of families, in requests of their own (version 1.0). Bounded: what does not fit is not remembered. */
export class Families {
  readonly #byName = new Map<string, Metadata>()

  get size(): number {
    return this.#byName.size
  }

  remember(family: string, metadata: Metadata): void {
    if (family === '' || family.length > NAME_MAX) return
    if (this.#byName.size >= FAMILIES_MAX && !this.#byName.has(family)) return
    const { type, help, unit } = metadata
    this.#byName.set(family, { type, help: help.slice(0, HELP_MAX), unit: unit.slice(0, UNIT_MAX) })
  }

  /** Of the family that a series of this name belongs to. */
  of(name: string): Metadata | undefined {
    const own = this.#byName.get(name)
    if (own !== undefined) return own
    const suffix = PARTS.exec(name)
    return suffix === null ? undefined : this.#byName.get(name.slice(0, suffix.index))
  }
}

const FAMILIES_MAX = 20_000
const NAME_MAX = 256
const HELP_MAX = 512
const UNIT_MAX = 64
/** What names of series have behind the name of their family: parts of histograms and summaries, and OpenMetrics's counters. */
export const PARTS = /_(?:bucket|count|sum|total)$/
const COUNTED = /_(?:bucket|count|sum)$/

/** The type of one series of numbers: those of a classic histogram, and sum and count of a summary, are counters. */
export function typeOfSamples(name: string, metadata: Metadata | undefined): SeriesType {
  switch (metadata?.type) {
    case 'counter':
      return 'counter'
    case 'gauge':
    case 'info':
    case 'stateset':
      return 'gauge'
    case 'histogram':
      return 'counter'
    case 'summary':
      return COUNTED.test(name) ? 'counter' : 'gauge'
    case 'gaugehistogram':
      return 'gauge'
    default:
      return name.endsWith('_total') ? 'counter' : 'untyped'
  }
}
