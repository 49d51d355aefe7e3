import type { KnownColumn } from './columns.ts'
import type { Distribution, DoubtedNs, Group } from './distribution.ts'
import type { Quantile } from './quantiles.ts'
import type { BoundedFigure, QuantileFigure } from './schemas.ts'

/** ns in one of each unit. */
const NS_PER = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 } as const
export type DurationUnit = keyof typeof NS_PER

/** Writes ns in the unit of the answer. */
export function inUnit(unit: DurationUnit): (ns: number) => number {
  const per = NS_PER[unit]
  return (ns) => ns / per
}

export function labelsOf(group: Group, columns: readonly KnownColumn[]): Record<string, string> {
  return Object.fromEntries(columns.map((column, k) => [column.name, group.labels[k]!]))
}

export function meanOf(distribution: Distribution): number {
  return Number(distribution.sum) / distribution.n
}

export function quantilesOf<Figure>(
  distribution: Distribution,
  asked: readonly Quantile[],
  figure: (quantile: DoubtedNs) => Figure,
): Record<string, Figure> {
  return Object.fromEntries(distribution.quantiles.map((quantile, k) => [asked[k]!.text, figure(quantile)]))
}

export function boundedFigure({ value, low, high }: DoubtedNs, write: (ns: number) => number): BoundedFigure {
  return { value: write(value), low: write(low), high: write(high) }
}

export function quantileFigure(quantile: DoubtedNs, write: (ns: number) => number): QuantileFigure {
  const { lossLow, lossHigh, ciLow, ciHigh, cutShort } = quantile
  const end = (ns: number | null) => (ns === null ? null : write(ns))
  return {
    ...boundedFigure(quantile, write),
    ...(lossLow === undefined || lossHigh === undefined ? {} : { loss_low: end(lossLow), loss_high: end(lossHigh) }),
    ...(ciLow === undefined || ciHigh === undefined ? {} : { ci_low: end(ciLow), ci_high: end(ciHigh) }),
    ...(cutShort === undefined ? {} : { cut_short: cutShort }),
  }
}
