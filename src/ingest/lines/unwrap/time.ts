/** Seconds since the epoch and nanoseconds within the second. */
export interface Instant {
  readonly seconds: number
  readonly nanos: number
}

const RFC3339 =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?\s?(?:([Zz]|UTC)|([+-])(\d\d):?(\d\d)(?: UTC)?)?$/

/**
 * RFC 3339, to the nanosecond; also with a space instead of `T`, and without a zone, which is then UTC. Null when it is
 * anything else, or no date of the calendar.
 */
export function parseInstant(text: string): Instant | null {
  return parseZulu(text) ?? parseAny(text)
}

/**
 * `2026-01-01T00:00:00[.250…]Z`, what nearly every line has, without a regular expression: this is called for every line,
 * most of them of one day. Null: some other form, or no time.
 */
function parseZulu(text: string): Instant | null {
  const { length } = text
  if (length < 20 || length > 30 || text.charCodeAt(length - 1) !== 0x5a || text.charCodeAt(10) !== 0x54) return null
  if (text.charCodeAt(13) !== 0x3a || text.charCodeAt(16) !== 0x3a) return null
  const hour = twoDigits(text, 11)
  const minute = twoDigits(text, 14)
  const second = twoDigits(text, 17)
  if (hour > 23 || minute > 59 || second > 59 || hour < 0 || minute < 0 || second < 0) return null
  let nanos = 0
  if (length > 20) {
    if (text.charCodeAt(19) !== 0x2e || length === 21) return null
    let unit = 100_000_000
    for (let at = 20; at < length - 1; at++) {
      const digit = text.charCodeAt(at) - 48
      if (digit < 0 || digit > 9) return null
      nanos += digit * unit
      unit /= 10
    }
  }
  const midnight = midnightOf(text)
  return midnight < 0 ? null : { seconds: midnight + hour * 3600 + minute * 60 + second, nanos }
}

function twoDigits(text: string, at: number): number {
  const tens = text.charCodeAt(at) - 48
  const ones = text.charCodeAt(at + 1) - 48
  return tens < 0 || tens > 9 || ones < 0 || ones > 9 ? -1 : tens * 10 + ones
}

/** Seconds until the day that `text` begins with, by days since 1 March of year 0; −1: no date. */
function midnightOf(text: string): number {
  if (text.charCodeAt(4) !== 0x2d || text.charCodeAt(7) !== 0x2d) return -1
  const century = twoDigits(text, 0)
  const years = twoDigits(text, 2)
  const month = twoDigits(text, 5)
  const day = twoDigits(text, 8)
  if (century < 19 || years < 0 || month < 1 || month > 12 || day < 1) return -1
  const year = century * 100 + years
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
  if (day > (month === 2 && leap ? 29 : DAYS[month - 1]!)) return -1
  const from = month < 3 ? year - 1 : year
  const inYear = Math.floor((153 * (month < 3 ? month + 9 : month - 3) + 2) / 5) + day - 1
  const days = 365 * from + Math.floor(from / 4) - Math.floor(from / 100) + Math.floor(from / 400) + inYear - 719_468
  return days < 0 ? -1 : days * 86_400
}

const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

function parseAny(text: string): Instant | null {
  const match = RFC3339.exec(text)
  if (match === null) return null
  const [, year, month, day, hour, minute, second, fraction = '', , sign, offsetHours = '0', offsetMinutes = '0'] =
    match
  const ms = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second))
  const date = new Date(ms)
  // Date.UTC carries over (30 February is 1 or 2 March). A leap second, :60, is the next second.
  if (date.getUTCMonth() !== Number(month) - 1 && Number(second) < 60) return null
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return null
  const offset = (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60
  return { seconds: ms / 1000 - (sign === '-' ? -offset : offset), nanos: Number(fraction.padEnd(9, '0')) }
}

/** Epoch in seconds, milliseconds, microseconds or nanoseconds, told apart by size (until the year 5138). */
export function instantOfEpoch(value: number): Instant | null {
  if (!Number.isFinite(value) || value <= 0) return null
  const unit = value < 1e11 ? 1 : value < 1e14 ? 1e3 : value < 1e17 ? 1e6 : 1e9
  const seconds = Math.floor(value / unit)
  const nanos = Math.min(999_999_999, Math.round((value - seconds * unit) * (1e9 / unit)))
  return { seconds, nanos }
}
