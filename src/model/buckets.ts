import { createEdges } from './edges.ts'

/**
 * The one bucket rule of the product, for durations in whole nanoseconds.
 *
 * Base-2 exponential buckets of scale 6: bucket i holds (2^((i−1)/64), 2^(i/64)] **seconds**, upper edge inclusive, as in
 * Prometheus native histograms; so buckets downscale without loss to native histograms in seconds and, with the index
 * moved by one, to OTLP exponential histograms. In whole ns bucket i is E(i−1) < ns ≤ E(i), E(i) = ⌊10⁹·2^(i/64)⌋.
 * Zero has a bucket of its own, `ZERO_BUCKET`, directly below the bucket of 1 ns. Below about 90 ns edges are closer than
 * 1 ns, and some buckets are empty.
 *
 *   bucket   −1914   −1913  …  −1849  …    0        …  1479     …  2181
 *   holds    0 ns    1 ns      2 ns        (…, 1 s]    2^53 ns     the rest, up to 575 years
 *
 * `histogram-sql.ts` has the same rule as SQL; a test holds the two against each other at every edge ± 1 ns.
 */

/** Buckets per doubling are 2^SCALE. */
export const SCALE = 6
const PER_OCTAVE = 1 << SCALE

/** Bucket of 0 ns. Its code (see `codeOf`) is 0. */
export const ZERO_BUCKET = -1914
/** The last bucket takes everything above its lower edge; with it, bucket codes fit 12 bits. */
export const BUCKET_MAX = 2181
/** Codes are bucket − ZERO_BUCKET, 0 … 4095. */
export const BUCKET_CODES = BUCKET_MAX - ZERO_BUCKET + 1

/** Worst relative error of `representative`: (2^(1/64) − 1) / (2^(1/64) + 1) = 0.5415 %. */
export const RELATIVE_ERROR_MAX = (2 ** (1 / PER_OCTAVE) - 1) / (2 ** (1 / PER_OCTAVE) + 1)

const edges = createEdges({ scale: SCALE, unit: 1e9 })

/** E(i) for any i, exact: ⌊10⁹·2^(i/64)⌋. */
export const exactEdge = edges.at
/** For finding the bucket of a value by its mantissa; the SQL has the same tables. */
export const OCTAVE = edges.octave

const EDGES = Float64Array.from({ length: BUCKET_CODES }, (_, code) => roundDown(exactEdge(code + ZERO_BUCKET)))

/** Highest ns in bucket i (inclusive). Exact below 2^53 ns, that is up to bucket 1479; above, the next double below it. */
export function upperEdge(i: number): number {
  if (i >= ZERO_BUCKET && i <= BUCKET_MAX) return EDGES[i - ZERO_BUCKET]!
  return roundDown(exactEdge(i))
}

/** Highest ns below bucket i (exclusive). */
export function lowerEdge(i: number): number {
  return upperEdge(i - 1)
}

const BELOW = OCTAVE.below
const CELL_BITS = OCTAVE.cellBits
const FRACTION_31 = OCTAVE.fraction31
const FRACTION_52 = OCTAVE.fraction52
const double = new Float64Array(1)
const words = new Uint32Array(double.buffer)
const CODE_OF_ONE = OCTAVE.first - ZERO_BUCKET - PER_OCTAVE * OCTAVE.exponent

/**
 * Bucket code of a duration in whole ns, 0 … 4095: 0 for 0 (and below), else bucket + 1914. Exact for every integer that
 * a double holds. No logarithm: a few ns.
 */
export function codeOf(ns: number): number {
  if (ns <= 0) return 0
  if (ns < 4294967296) {
    const zeros = Math.clz32(ns)
    const mantissa = (ns << zeros) & 0x7fffffff
    const below = BELOW[mantissa >>> (31 - CELL_BITS)]!
    return CODE_OF_ONE + ((31 - zeros) << SCALE) + below + (mantissa > FRACTION_31[below]! ? 1 : 0)
  }
  double[0] = ns
  const high = words[1]!
  const mantissa = (high & 0xfffff) * 4294967296 + words[0]!
  const below = BELOW[(high >>> (20 - CELL_BITS)) & ((1 << CELL_BITS) - 1)]!
  const code = CODE_OF_ONE + (((high >>> 20) - 1023) << SCALE) + below + (mantissa > FRACTION_52[below]! ? 1 : 0)
  return code < BUCKET_CODES ? code : BUCKET_CODES - 1
}

/** Bucket of a duration in whole ns. */
export function bucketOf(ns: number): number {
  return codeOf(ns) + ZERO_BUCKET
}

/**
 * The value that stands for a bucket with values low … high: their harmonic mean, which has the least worst relative
 * error, (high − low) / (high + low).
 */
export function representative(low: number, high: number): number {
  return low === high ? low : (2 * low * high) / (low + high)
}

function roundDown(value: bigint): number {
  const bits = value.toString(2).length
  if (bits <= 53) return Number(value)
  const drop = BigInt(bits - 53)
  return Number((value >> drop) << drop)
}
