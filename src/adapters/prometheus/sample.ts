import { FAMILIES } from './families.ts'
import type { Labels } from './labels.ts'
import { HISTOGRAMS, type SeriesTable, TCP } from './series.ts'

/** One label set as it stands, for whoever stores what a scrape would see. */
export interface MeshSeries {
  /** Stays the same as long as the label set is there, then may be another's: see `createdMs`. */
  readonly number: number
  readonly createdMs: number
  /** Requests, or connections: as long as it is the same nothing has changed. */
  readonly count: number
  labels(): Labels
  /** Metrics of it, by name. */
  metrics(): readonly MeshMetric[]
}

export type MeshMetric = { readonly name: string; readonly help: string; readonly unit: string } & (
  | { readonly type: 'counter'; readonly value: number }
  | {
      readonly type: 'histogram'
      /** Upper bounds without +Inf, and observations of each bucket alone. */
      readonly bounds: readonly number[]
      readonly counts: Float64Array
      readonly sum: number
    }
)

export function* sampleSeries(table: SeriesTable, bounds: readonly number[]): Generator<MeshSeries> {
  for (let number = 0; number < table.end; number++) {
    if (!table.isUsed(number)) continue
    yield {
      number,
      createdMs: table.created[number]!,
      count: table.counts[number]!,
      labels: () => [...table.identityLabelsOf(table.whoOfSeries(number)), ...table.answerLabelsOf(number)],
      metrics: () => metricsOf(table, bounds, number),
    }
  }
}

function metricsOf(table: SeriesTable, bounds: readonly number[], number: number): MeshMetric[] {
  const tcp = table.protocolOf(number) === TCP
  return FAMILIES.filter((family) => family.tcp === tcp).map((family): MeshMetric => {
    const { name, help, unit = '' } = family
    if (family.type === 'counter') return { name, help, unit, type: 'counter', value: family.value(table, number) }
    const counts = Float64Array.from({ length: bounds.length + 1 }, (_, k) => table.bucket(number, family.histogram, k))
    const sum = table.sums[number * HISTOGRAMS + family.histogram]! / family.scale
    return { name, help, unit, type: 'histogram', bounds, counts, sum }
  })
}
