/**
 * Numbers as a person reads them. A value never has a digit that its bounds do not support, a missing one is a dash and
 * never 0, and NaN or infinity are never printed. Digits are grouped by a thin space, `1 234 567`.
 */
export const MISSING = '–'
const THIN_SPACE = '\u2009'
const NO_BREAK_SPACE = '\u00a0'
/** Most significant digits of a duration. */
const SIGNIFICANT_MAX = 3
const PERCENT_DECIMALS_MAX = 3
/** In a column with one unit: more would be noise beside the larger values. */
const BARE_DECIMALS_MAX = 3

/** Durations are in ms everywhere in the page. */
export interface Bounded {
  readonly value: number
  readonly low: number
  readonly high: number
}

export type DurationUnit = 'ns' | 'µs' | 'ms' | 's' | 'min' | 'h'
const MS_PER: Readonly<Record<DurationUnit, number>> = {
  ns: 1e-6,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
}

/**
 * The unit that a column or an axis with these values is printed in: the largest one in which the median is at least 1,
 * so that most cells read well, and no cell needs a unit of its own.
 */
export function unitFor(valuesMs: readonly (number | null | undefined)[]): DurationUnit {
  const known = valuesMs.filter((value): value is number => isNumber(value) && value > 0).sort((a, b) => a - b)
  const median = known[Math.floor(known.length / 2)]
  if (median === undefined) return 'ms'
  if (median < MS_PER.µs) return 'ns'
  if (median < MS_PER.ms) return 'µs'
  if (median < MS_PER.s) return 'ms'
  if (median < 2 * MS_PER.min) return 's'
  return median < 2 * MS_PER.h ? 'min' : 'h'
}

/** A duration with no more digits than its bounds, the source's precision and three significant digits support. */
export function duration(value: number | Bounded | null | undefined, options: DurationOptions = {}): string {
  if (value === null || value === undefined) return MISSING
  const bounded = typeof value === 'number' ? { value, low: value, high: value } : value
  if (!isNumber(bounded.value)) return MISSING
  const unit = options.unit ?? unitFor([bounded.value])
  const scaled = bounded.value / MS_PER[unit]
  const doubt = doubtOf(bounded, options.precisionNs ?? 1) / MS_PER[unit]
  const decimals = Math.min(decimalsFor(scaled, doubt), options.bare ? BARE_DECIMALS_MAX : Number.POSITIVE_INFINITY)
  const rounded = roundTo(scaled, doubt).toFixed(decimals)
  const below = scaled > 0 && Number(rounded) === 0
  const text = scaled === 0 ? '0' : below ? `<${(10 ** -decimals).toFixed(decimals)}` : group(rounded)
  return options.bare ? text : `${text}${NO_BREAK_SPACE}${unit}`
}

export interface DurationOptions {
  readonly unit?: DurationUnit
  /** Resolution of the coarsest source, ns. */
  readonly precisionNs?: number
  /** Without the unit: it stands in the column's head. */
  readonly bare?: boolean
}

/** `409…414 ms`, or '' for a value that is exact. */
export function boundsText({ value, low, high }: Bounded, options: DurationOptions = {}): string {
  if (low === high) return ''
  const unit = options.unit ?? unitFor([value])
  const doubt = doubtOf({ value, low, high }, options.precisionNs ?? 1) / MS_PER[unit]
  // One digit more than the value: the ends would often read the same otherwise.
  const decimals = Math.min(9, decimalsFor(value / MS_PER[unit], doubt) + 1)
  const end = (ms: number) => group((ms / MS_PER[unit]).toFixed(decimals))
  return `${end(low)}…${end(high)}${NO_BREAK_SPACE}${unit}`
}

/** `±0.5 %`, or 'exact'. */
export function doubtText({ value, low, high }: Bounded): string {
  if (low === high) return 'exact'
  if (value <= 0) return `±${duration(Math.max(high - value, value - low))}`
  const share = Math.max(high - value, value - low) / value
  return `±${(share * 100).toFixed(share < 0.1 ? 1 : 0)}${NO_BREAK_SPACE}%`
}

/** How many decimals to print: down to the first digit that the doubt reaches, at most three significant digits. */
export function decimalsFor(value: number, doubt: number): number {
  const rounded = Number(value.toPrecision(SIGNIFICANT_MAX))
  const magnitude = rounded === 0 ? 0 : Math.floor(Math.log10(Math.abs(rounded)))
  const significant = SIGNIFICANT_MAX - 1 - magnitude
  const reached = doubt > 0 ? -Math.floor(Math.log10(doubt)) : significant
  return Math.max(0, Math.min(significant, reached, 9))
}

/** `12 345`; from 100 000 on three significant digits and a letter: `123 k`, `2.94 M`. */
export function count(value: number | null | undefined): string {
  if (!isNumber(value)) return MISSING
  if (Math.abs(value) < 100_000) return group(String(Math.round(value)))
  return short(value)
}

/** Per second: `812`, `1.2 k`, `0.05`. */
export function rate(value: number | null | undefined): string {
  if (!isNumber(value)) return MISSING
  if (value === 0) return '0'
  if (value >= 1_000) return short(value)
  return value < 0.01 ? '<0.01' : value.toFixed(decimalsFor(value, 0))
}

/** A share of `n` requests: no digit finer than one request makes, and never `0 %` or `100 %` when it is not that. */
export function percent(ratio: number | null | undefined, n = Number.POSITIVE_INFINITY): string {
  if (!isNumber(ratio)) return MISSING
  const value = ratio * 100
  const whole = value === 0 || value === 100
  let decimals = whole ? 0 : Math.min(PERCENT_DECIMALS_MAX, decimalsFor(value, 100 / n))
  let text = value.toFixed(decimals)
  while (!whole && decimals < PERCENT_DECIMALS_MAX && (Number(text) === 0 || Number(text) === 100)) {
    text = value.toFixed(++decimals)
  }
  if (!whole && Number(text) === 0) text = `<${(10 ** -decimals).toFixed(decimals)}`
  return `${text}${NO_BREAK_SPACE}%`
}

/** `2.1 GB`. */
export function bytes(value: number | null | undefined): string {
  if (!isNumber(value)) return MISSING
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let scaled = value
  let unit = 0
  for (; scaled >= 1_000 && unit < units.length - 1; unit++) scaled /= 1_000
  return `${unit === 0 ? String(Math.round(scaled)) : scaled.toFixed(decimalsFor(scaled, scaled / 20))}${NO_BREAK_SPACE}${units[unit]}`
}

/** `3 s`, `14 min`, `2 h`, `5 d`: how long ago, roughly. */
export function span(ms: number): string {
  const seconds = Math.max(0, ms / 1000)
  const [value, unit] =
    seconds < 100
      ? [seconds, 's']
      : seconds < 6_000
        ? [seconds / 60, 'min']
        : seconds < 172_800
          ? [seconds / 3_600, 'h']
          : [seconds / 86_400, 'd']
  return `${Math.round(value)}${NO_BREAK_SPACE}${unit}`
}

/** Rounds before the decimal point too, where the doubt reaches there: 412 ± 100 is 400. */
function roundTo(value: number, doubt: number): number {
  if (doubt < 10) return value
  const place = 10 ** Math.floor(Math.log10(doubt))
  return Math.round(value / place) * place
}

function doubtOf({ value, low, high }: Bounded, precisionNs: number): number {
  const precision = precisionNs > 1 ? precisionNs * MS_PER.ns : 0
  return Math.max(high - value, value - low, precision)
}

function short(value: number): string {
  const units = ['', 'k', 'M', 'G', 'T']
  let scaled = value
  let unit = 0
  for (; Math.abs(scaled) >= 999.5 && unit < units.length - 1; unit++) scaled /= 1_000
  return `${scaled.toFixed(decimalsFor(scaled, 0))}${units[unit] === '' ? '' : NO_BREAK_SPACE}${units[unit]}`
}

function group(digits: string): string {
  const [whole = '', fraction] = digits.split('.')
  const grouped = whole.length > 3 ? whole.replace(/\B(?=(\d{3})+$)/g, THIN_SPACE) : whole
  return fraction === undefined ? grouped : `${grouped}.${fraction}`
}

function isNumber(value: number | null | undefined): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}
