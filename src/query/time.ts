import { HOUR, MINUTE, MS, type Nanos, readDuration, readTime, SECOND, TIME_MAX, UNITS } from '../lib/nanos.ts'
import { Problem, shown } from './problem.ts'

export { DAY, HOUR, MINUTE, MS, type Nanos, readDuration, readTime, SECOND, TIME_MAX } from '../lib/nanos.ts'

/** Half open: `from` is in, `to` is not. */
export interface Interval {
  readonly from: Nanos
  readonly to: Nanos
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
