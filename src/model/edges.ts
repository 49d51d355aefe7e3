/**
 * Exact edges of base-2 exponential buckets in whole nanoseconds: E(i) = ⌊unit·2^(i / 2^scale)⌋, for any unit and scale.
 *
 * Powers are kept as integers with 256 bits after the point, good to better than 240; a floor that those could not decide
 * would be an error, and does not occur: the edges are irrational, but for whole powers of two, which are exact.
 */
export interface Edges {
  readonly scale: number
  /** E(i). */
  at(i: number): bigint
  /** Edges of one octave of values, for finding buckets by mantissa. */
  readonly octave: OctaveTable
}

/**
 * A value v in [2^e, 2^(e+1)) meets the 2^scale edges i = (e − exponent)·2^scale + first + j, j = 0 … 2^scale − 1 of its
 * octave. Normalised to [1, 2) they are the same in every octave. An integer's mantissa, as a double has it, ends within
 * 52 bits after the point (31 for one below 2^32), so comparing it with an edge rounded down to as many bits is exact.
 */
export interface OctaveTable {
  readonly first: number
  readonly exponent: number
  /** Edges as fractions of 2^31 and of 2^52, without the leading one; and one more, which no mantissa exceeds. */
  readonly fraction31: Int32Array
  readonly fraction52: Float64Array
  /** How many edges lie below the start of each of 2^cellBits equal cells of [1, 2); a cell holds at most one edge. */
  readonly below: Uint16Array
  readonly cellBits: number
}

const POINT = 256n
/** Bound on the error of a power, in units of the last bit: every multiplication and root adds less than two. */
const SLACK = 1n << 12n

export function createEdges(options: { readonly scale: number; readonly unit: number }): Edges {
  const { scale } = options
  const unit = BigInt(options.unit)
  const perOctave = 1 << scale
  let root = 2n << POINT
  for (let halvings = 0; halvings < scale; halvings++) root = integerSquareRoot(root << POINT)
  const powers: bigint[] = [1n << POINT]
  for (let k = 1; k < perOctave; k++) powers.push((powers[k - 1]! * root) >> POINT)

  const at = (i: number): bigint => {
    const octave = Math.floor(i / perOctave)
    const k = i - octave * perOctave
    const shift = POINT - BigInt(octave)
    if (shift < 0n) throw new RangeError(`edge ${i} is out of range`)
    const scaled = unit * powers[k]!
    const edge = scaled >> shift
    const slack = k === 0 ? 0n : unit * SLACK
    if ((scaled + slack) >> shift !== edge || (scaled - slack) >> shift !== edge)
      throw new Error(`edge ${i} is not decided`)
    return edge
  }
  return { scale, at, octave: octaveTable(options.unit, perOctave, at) }
}

function octaveTable(unit: number, perOctave: number, at: (i: number) => bigint): OctaveTable {
  const exponent = Math.floor(Math.log2(unit))
  // The first edge that is not below 2^exponent.
  let first = 0
  while (at(first - 1 + perOctave * 52) >= 1n << BigInt(exponent + 52)) first--
  // Half the distance of two edges at least fits between them: 2^(1/n) − 1 > 0.69/n > 1/2n.
  const cellBits = Math.log2(perOctave) + 1
  const fraction31 = new Int32Array(perOctave + 1)
  const fraction52 = new Float64Array(perOctave + 1)
  for (let j = 0; j < perOctave; j++) {
    fraction31[j] = Number(at(first + j + perOctave * (31 - exponent)) - 2n ** 31n)
    fraction52[j] = Number(at(first + j + perOctave * (52 - exponent)) - 2n ** 52n)
  }
  fraction31[perOctave] = 2 ** 31 - 1
  fraction52[perOctave] = 2 ** 52
  const below = new Uint16Array(1 << cellBits)
  for (let cell = 0, j = 0; cell < below.length; cell++) {
    while (j < perOctave && fraction52[j]! < cell * 2 ** (52 - cellBits)) j++
    below[cell] = j
  }
  return { first, exponent, fraction31, fraction52, below, cellBits }
}

/** ⌊√n⌋ by Newton's method from above. */
function integerSquareRoot(n: bigint): bigint {
  let root = 1n << BigInt((n.toString(2).length + 1) >> 1)
  for (;;) {
    const next = (root + n / root) >> 1n
    if (next >= root) return root
    root = next
  }
}
