/** Times and durations as texts and as whole nanoseconds. */

/** Nanoseconds, of a duration or since 1970: a double cannot hold them. */
export type Nanos = bigint

export const MS: Nanos = 1_000_000n
export const SECOND: Nanos = 1_000_000_000n
export const MINUTE: Nanos = 60n * SECOND
export const HOUR: Nanos = 60n * MINUTE
export const DAY: Nanos = 24n * HOUR

/** The store's times are Int64 nanoseconds: up to 2262-04-11T23:47:16Z. */
export const TIME_MAX: Nanos = 2n ** 63n - 1n

export const UNITS: Readonly<Record<string, Nanos>> = {
  ns: 1n,
  us: 1000n,
  µs: 1000n,
  ms: MS,
  s: SECOND,
  m: MINUTE,
  h: HOUR,
  d: 24n * HOUR,
  w: 168n * HOUR,
}
const DURATION = /^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d|w))+$/
const DURATION_PART = /(\d+)(?:\.(\d+))?(ns|us|µs|ms|s|m|h|d|w)/g

/** `30s`, `5m`, `1h30m`, `7d`, `250us` in ns; null when it is not a duration. Parts below 1 ns are cut off. */
export function readDuration(text: string): Nanos | null {
  if (text.length > 64 || !DURATION.test(text)) return null
  let total = 0n
  for (const [, whole, fraction = '', unit] of text.matchAll(DURATION_PART)) {
    const scale = UNITS[unit!]!
    total += BigInt(whole!) * scale
    if (fraction !== '') total += (BigInt(fraction) * scale) / 10n ** BigInt(fraction.length)
  }
  return total > TIME_MAX ? null : total
}

const RFC3339 =
  /^(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9})\d*)?)?(Z|z|[+\- ]\d{2}:?\d{2})?)?$/

/**
 * RFC 3339, a date alone, Unix seconds, epoch milliseconds (a whole number ≥ 10^11, which as seconds would be the year
 * 5138), `now`, `now-15m`, `-15m`; null when it is none of these. No zone means UTC.
 */
export function readTime(text: string, now: Nanos): Nanos | null {
  if (text.length > 64) return null
  const relative = /^(?:now)?\s*(?:([+-])\s*(.+))?$/.exec(text)
  if (relative !== null && text !== '') {
    const [, sign, amount] = relative
    if (amount === undefined) return sign === undefined ? now : null
    const duration = readDuration(amount)
    return duration === null ? null : inRange(sign === '-' ? now - duration : now + duration)
  }
  const number = /^(\d{1,18})(?:\.(\d{1,9})\d*)?$/.exec(text)
  if (number !== null) {
    const whole = BigInt(number[1]!)
    const fraction = number[2] ?? ''
    const unit = whole >= 100_000_000_000n ? MS : SECOND
    return inRange(whole * unit + (BigInt(fraction.padEnd(9, '0')) * unit) / SECOND)
  }
  return readRfc3339(text)
}

function readRfc3339(text: string): Nanos | null {
  const match = RFC3339.exec(text)
  if (match === null) return null
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => Number(part ?? 0))
  if (hour! > 23 || minute! > 59 || second! > 60) return null
  const date = Date.UTC(year!, month! - 1, day!)
  if (new Date(date).getUTCMonth() !== month! - 1 || new Date(date).getUTCDate() !== day!) return null
  const zone = match[8] ?? 'Z'
  let offsetMinutes = 0
  if (zone !== 'Z' && zone !== 'z') {
    const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(-2))]
    if (hours > 23 || minutes > 59) return null
    // A bare "+" in a query string arrives as a space.
    offsetMinutes = (hours * 60 + minutes) * (zone[0] === '-' ? -1 : 1)
  }
  const ms = date + ((hour! * 60 + minute! - offsetMinutes) * 60 + second!) * 1000
  return inRange(BigInt(ms) * MS + BigInt((match[7] ?? '').padEnd(9, '0')))
}

function inRange(time: Nanos): Nanos | null {
  return time < 0n || time > TIME_MAX ? null : time
}
