/** What `readDigits` returns for what is not all digits: below every number of seconds there is. */
export const NOT_A_NUMBER = -1e15

/** The number that `line[from … to − 1]` is, all digits; exact up to 15 of them. */
export function readDigits(line: string, from: number, to: number): number {
  if (to > line.length || from >= to) return NOT_A_NUMBER
  let value = 0
  for (let at = from; at < to; at++) {
    const digit = line.charCodeAt(at) - 48
    if (digit < 0 || digit > 9) return NOT_A_NUMBER
    value = value * 10 + digit
  }
  return value
}

/**
 * The number that `line[from … to − 1]` is: digits, perhaps with sign, fraction and exponent. `NaN` when it is anything
 * else.
 */
export function readNumber(line: string, from: number, to: number): number {
  if (to - from < 16) {
    const digits = readDigits(line, from, to)
    if (digits !== NOT_A_NUMBER) return digits
  }
  if (to - from > 64) return Number.NaN
  const text = line.slice(from, to)
  const value = NUMBER.test(text) ? Number(text) : Number.NaN
  return Number.isFinite(value) ? value : Number.NaN
}

const NUMBER = /^[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d{1,3})?$/
