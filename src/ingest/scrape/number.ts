/**
 * Reads a number of an exposition from its bytes, as Go's `strconv.ParseFloat` would, without hexadecimal and underscores
 * (Prometheus refuses those too). Whole numbers and short decimals, which is nearly all, need no text.
 */
export class NumberReader {
  /** Where the number ended; where it began when there was none. */
  end = 0

  /** The number at `at`, which ends at a blank, a line end or `limit`. NaN with `end` = `at` when there is none. */
  read(bytes: Uint8Array, at: number, limit: number): number {
    let k = at
    let negative = false
    const first = bytes[k]
    if (first === MINUS || first === PLUS) {
      negative = first === MINUS
      k++
    }
    let mantissa = 0
    let digits = 0
    let point = -1
    let byte = 0
    for (; k < limit; k++) {
      byte = bytes[k]!
      const digit = byte - ZERO
      if (digit >= 0 && digit <= 9) {
        mantissa = mantissa * 10 + digit
        // Zeros in front do not count.
        if (mantissa !== 0) digits++
      } else if (byte === POINT && point < 0) point = k
      else break
    }
    const pointed = point < 0 ? 0 : 1
    const length = k - at - (first === MINUS || first === PLUS ? 1 : 0) - pointed
    const whole = k === limit || byte === SPACE || byte === NEWLINE || byte === TAB || byte === RETURN
    if (whole && length > 0 && digits <= EXACT_DIGITS) {
      this.end = k
      const decimals = point < 0 ? 0 : k - point - 1
      if (decimals <= EXACT_POWER) {
        // Both are exact, so the quotient is the double nearest to the decimal number.
        const value = decimals === 0 ? mantissa : mantissa / POWERS[decimals]!
        return negative ? -value : value
      }
    }
    return this.#readText(bytes, at, limit)
  }

  #readText(bytes: Uint8Array, at: number, limit: number): number {
    let to = at
    while (to < limit && to - at <= TEXT_MAX && !isBlank(bytes[to]!)) to++
    this.end = at
    if (to === at || to - at > TEXT_MAX) return Number.NaN
    let text = ''
    for (let k = at; k < to; k++) text += String.fromCharCode(bytes[k]!)
    if (DECIMAL.test(text)) {
      this.end = to
      return Number(text)
    }
    const match = WORD.exec(text)
    if (match === null) return Number.NaN
    this.end = to
    if (match[2] !== undefined) return Number.NaN
    return match[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
  }
}

/** Whole numbers of so many digits are doubles, and so are powers of ten up to 10^22. */
const EXACT_DIGITS = 15
const EXACT_POWER = 22
const POWERS = Float64Array.from({ length: EXACT_POWER + 1 }, (_, k) => Number(`1e${k}`))
/** Longer numbers are nobody's. */
const TEXT_MAX = 400
const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/
const WORD = /^([+-]?)(?:inf|infinity|(nan))$/i

const ZERO = 0x30
const MINUS = 0x2d
const PLUS = 0x2b
const POINT = 0x2e
const SPACE = 0x20
const TAB = 0x09
const NEWLINE = 0x0a
const RETURN = 0x0d

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === NEWLINE || byte === TAB || byte === RETURN
}

/** The number that is the whole text; null when it is none. */
export function numberOf(text: string): number | null {
  if (text.length > TEXT_MAX) return null
  if (DECIMAL.test(text)) return Number(text)
  const match = WORD.exec(text)
  if (match === null) return null
  if (match[2] !== undefined) return Number.NaN
  return match[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
}
