import { Problem, shown } from './problem.ts'

/** Times are bigint nanoseconds since the epoch: a double cannot hold them. */
export type Nanos = bigint

export const MS: Nanos = 1_000_000n
export const SECOND: Nanos = 1_000_000_000n
export const MINUTE: Nanos = 60n * SECOND
export const HOUR: Nanos = 60n * MINUTE

/** The store's times are Int64 nanoseconds: up to 2262-04-11T23:47:16Z. */
export const TIME_MAX: Nanos = 2n ** 63n - 1n

/** Half open: `from` is in, `to` is not. */
export interface Interval {
  readonly from: Nanos
  readonly to: Nanos
}

const UNITS: Readonly<Record<string, Nanos>> = {
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

const TIME_HELP = 'write RFC 3339, Unix seconds, epoch milliseconds, now, or a relative time such as -15m'
const DURATION_HELP = 'write a duration such as 30s, 5m, 1h30m or 7d'

export function parseTime(text: string, parameter: string, now: Nanos): Nanos {
  const time = readTime(text, now)
  if (time === null) throw new Problem('bad_time', `${shown(text)} is not a time`, { parameter, help: TIME_HELP })
  return time
}

export function parseDuration(text: string, parameter: string): Nanos {
  const duration = readDuration(text)
  if (duration === null || duration === 0n) {
    throw new Problem('bad_time', `${shown(text)} is not a duration above zero`, { parameter, help: DURATION_HELP })
  }
  return duration
}

export interface IntervalParameters {
  readonly from?: string
  readonly to?: string
  readonly around?: string
  readonly width?: string
}

/** `from`, `to`, or `around` and `width`; the last hour when nothing is given. `width` is the whole width, 10 min by default. */
export function parseInterval(query: IntervalParameters, now: Nanos): Interval {
  if (query.around !== undefined) {
    if (query.from !== undefined || query.to !== undefined) {
      const parameter = query.from === undefined ? 'to' : 'from'
      throw new Problem('bad_range', 'around and from or to are given together', {
        parameter,
        help: 'give around and width, or from and to',
      })
    }
    const around = parseTime(query.around, 'around', now)
    const width = query.width === undefined ? 10n * MINUTE : parseDuration(query.width, 'width')
    const from = around - width / 2n
    return checked({ from: from < 0n ? 0n : from, to: from + width }, 'width')
  }
  if (query.width !== undefined) {
    throw new Problem('bad_range', 'width is given without around', { parameter: 'width', help: 'add around=TIME' })
  }
  const to = query.to === undefined ? now : parseTime(query.to, 'to', now)
  const from = query.from === undefined ? maxOf(to - HOUR, 0n) : parseTime(query.from, 'from', now)
  return checked({ from, to }, query.from === undefined ? 'to' : 'from')
}

/** `FROM/TO`, or a relative duration that moves `base`: `-7d` is the same interval one week before. */
export function parseOtherInterval(text: string, parameter: string, base: Interval, now: Nanos): Interval {
  const slash = text.indexOf('/')
  if (slash >= 0) {
    const from = parseTime(text.slice(0, slash), parameter, now)
    return checked({ from, to: parseTime(text.slice(slash + 1), parameter, now) }, parameter)
  }
  const shift = text.startsWith('-') ? readDuration(text.slice(1)) : null
  if (shift === null || shift === 0n) {
    throw new Problem('bad_time', `${shown(text)} is neither a shift nor FROM/TO`, {
      parameter,
      help: 'write -7d for one week before, or FROM/TO',
    })
  }
  return checked({ from: base.from - shift, to: base.to - shift }, parameter)
}

function checked(interval: Interval, parameter: string): Interval {
  if (interval.from < 0n || interval.to > TIME_MAX) {
    throw new Problem('bad_range', 'the interval lies outside 1970 to 2262', { parameter })
  }
  if (interval.from >= interval.to) {
    const found = `from ${formatTime(interval.from)} is not before to ${formatTime(interval.to)}`
    throw new Problem('bad_range', found, { parameter, help: 'from is in the interval and to is not: from < to' })
  }
  return interval
}

/** RFC 3339 in UTC with as many of 0, 3, 6 or 9 digits as the time needs. */
export function formatTime(time: Nanos): string {
  const seconds = new Date(Number(time / SECOND) * 1000).toISOString().slice(0, 19)
  let fraction = String(time % SECOND).padStart(9, '0')
  while (fraction.endsWith('000')) fraction = fraction.slice(0, -3)
  return fraction === '' ? `${seconds}Z` : `${seconds}.${fraction}Z`
}

/** RFC 3339 in UTC of Unix milliseconds. */
export function formatMs(ms: number): string {
  return formatTime(BigInt(Math.trunc(ms)) * MS)
}

/** The shortest writing of a duration: `1h30m`, `90d`, `500ms`. */
export function formatDuration(duration: Nanos): string {
  let rest = duration
  let text = ''
  for (const unit of ['d', 'h', 'm', 's', 'ms', 'us', 'ns']) {
    const amount = rest / UNITS[unit]!
    if (amount > 0n) text += `${amount}${unit}`
    rest %= UNITS[unit]!
  }
  return text === '' ? '0s' : text
}

export function floorTo(time: Nanos, unit: Nanos): Nanos {
  return time - (time % unit)
}

export function ceilTo(time: Nanos, unit: Nanos): Nanos {
  const rest = time % unit
  return rest === 0n ? time : time + unit - rest
}

export function maxOf(a: Nanos, b: Nanos): Nanos {
  return a > b ? a : b
}

export function minOf(a: Nanos, b: Nanos): Nanos {
  return a < b ? a : b
}
