import { BUCKET_CODES, OCTAVE, SCALE, ZERO_BUCKET } from './buckets.ts'

/**
 * The bucket rule of `buckets.ts` as a ClickHouse expression, for rebuilding rollups from rows and for histograms of
 * filtered rows. Same method: the mantissa of the value picks one of 128 cells, a cell has at most one edge, one exact
 * comparison of 52-bit integers decides. About 0.03 µs a value; constant arrays are looked up in place, while an array
 * bound to a name in WITH is copied per block and costs four times as much.
 */

const FRACTION_BITS = 52
const EXPONENT_BIAS = 1023
const PER_OCTAVE = 1 << SCALE
const CELL_BITS = OCTAVE.cellBits
const BELOW_SQL = `[${OCTAVE.below.join(',')}]`
const EDGES_SQL = `[${Array.from(OCTAVE.fraction52, (edge) => `toUInt64(${edge})`).join(',')}]`
const CODE_OF_ONE = OCTAVE.first - ZERO_BUCKET - PER_OCTAVE * (OCTAVE.exponent + EXPONENT_BIAS)

/** Bucket code (UInt16, 0 … 4095; see `codeOf`) of a UInt64 expression in ns. `ns` is repeated: pass a column or a name. */
export function bucketCodeSql(ns: string): string {
  const bits = `reinterpretAsUInt64(toFloat64(${ns}))`
  const mantissa = `bitAnd(${bits}, ${2n ** 52n - 1n})`
  const exponent = `bitShiftRight(${bits}, ${FRACTION_BITS})`
  const cell = `bitShiftRight(${mantissa}, ${FRACTION_BITS - CELL_BITS})`
  const below = `arrayElement(${BELOW_SQL}, ${cell} + 1)`
  const above = `(${mantissa} > arrayElement(${EDGES_SQL}, ${below} + 1))`
  const code = `toInt64(${exponent}) * ${PER_OCTAVE} + ${below} + ${above} + (${CODE_OF_ONE})`
  return `if(${ns} = 0, toUInt16(0), toUInt16(least(${code}, ${BUCKET_CODES - 1})))`
}

/** Bucket (Int16, −1914 … 2181; see `bucketOf`) of a UInt64 expression in ns. */
export function bucketSql(ns: string): string {
  return `toInt16(toInt16(${bucketCodeSql(ns)}) + (${ZERO_BUCKET}))`
}
