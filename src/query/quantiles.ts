import { Problem, shown } from './problem.ts'

/** A quantile as it was asked: its text is the key in the answer. */
export interface Quantile {
  readonly text: string
  readonly q: number
}

export const QUANTILES_MAX = 20
export const DEFAULT_QUANTILES = '0.5,0.9,0.99,0.999'

/** Six digits after the point: what `exactLevel` can keep apart. */
const SHAPE = /^(?:0(?:\.\d{1,6})?|1(?:\.0{1,6})?|\.\d{1,6})$/

export function parseQuantiles(text: string = DEFAULT_QUANTILES): readonly Quantile[] {
  const parts = text.split(',').map((part) => part.trim())
  if (parts.length > QUANTILES_MAX) {
    throw new Problem('bad_parameter', `q has ${parts.length} quantiles, ${QUANTILES_MAX} at most are allowed`, {
      parameter: 'q',
    })
  }
  return parts.map((part) => {
    if (!SHAPE.test(part)) {
      throw new Problem('bad_parameter', `${shown(part)} is not a quantile from 0 to 1 with at most 6 digits`, {
        parameter: 'q',
        help: 'write 0.99 for p99',
      })
    }
    return { text: part, q: Number(part) }
  })
}

/** Above this many values in one group, levels and counts could meet within rounding. */
export const EXACT_ROWS_MAX = 50_000_000
const SLIGHTLY = 1e-14

/**
 * The level at which ClickHouse's `quantileExact` gives the value of rank ⌈q·n⌉. It takes the element at index
 * ⌊level·n⌋ of the sorted values, counted from 0. A level lower than q by 1e-14 gives ⌈q·n⌉ − 1 for every n up to
 * 5·10^7: where q·n is whole, it falls just short of it; where it is not, its fraction is at least 1e-6, more than the
 * 5e-7 that are taken off; rounding errors are below both.
 */
export function exactLevel(q: number): string {
  return String(q <= SLIGHTLY ? 0 : q - SLIGHTLY)
}

/** The level of the smallest of the ⌈share·n⌉ highest values: index n − ⌈share·n⌉ = ⌊(1 − share)·n⌋. */
export function slowestLevel(share: number): string {
  return String(Math.min(1 - share + SLIGHTLY, 1 - SLIGHTLY))
}

/** q as a fraction of whole numbers, for ranks in SQL. */
export function fractionOf(q: number): { readonly numerator: bigint; readonly denominator: bigint } {
  return { numerator: BigInt(Math.round(q * 1e6)), denominator: 1_000_000n }
}
