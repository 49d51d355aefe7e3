import { NOT_A_NUMBER, readDigits } from './digits.ts'

/**
 * Reads times as Envoy prints them: `strftime` as the C++ library and Abseil have it, and Envoy's own `%s` (seconds of the
 * epoch) and `%f`, `%1f` … `%9f` (digits of the fraction). Compiled once; reading makes no objects.
 */
export class TimeReader {
  /** Of the time read last: Unix seconds, nanoseconds within. */
  seconds = 0
  nanos = 0
  /** Resolution of what the format prints, ns. */
  readonly precisionNs: number
  readonly format: string
  readonly #steps: readonly Step[]
  /** Where the format says no zone: that of this machine instead of UTC. */
  readonly #local: boolean
  readonly #usual: boolean
  readonly #fields: Fields = emptyFields()

  constructor(format: string, options: { readonly local?: boolean } = {}) {
    const steps: Step[] = []
    compile(format, steps)
    this.#steps = steps
    this.format = format
    this.#usual = format === DEFAULT_TIME
    this.#local = options.local ?? false
    this.precisionNs = steps.reduce((finest, { precisionNs = 1e9 }) => Math.min(finest, precisionNs), 1e9)
  }

  /** Reads the time that begins at `at`; returns its end, −1 when there is none. */
  read(line: string, at: number): number {
    if (this.#usual) {
      const end = this.#readUsual(line, at)
      if (end >= 0) return end
    }
    const fields = this.#fields
    resetFields(fields)
    for (const step of this.#steps) {
      at = step.read(line, at, fields)
      if (at < 0) return -1
    }
    return this.#resolve(fields) ? at : -1
  }

  /** `YYYY-MM-DDTHH:MM:SS.mmmZ`, nearly always; −1 where there is anything else. */
  #readUsual(line: string, at: number): number {
    const end = at + 24
    if (end > line.length || line.charCodeAt(at + 10) !== 84 || line.charCodeAt(at + 23) !== 90) return -1
    if (line.charCodeAt(at + 4) !== 45 || line.charCodeAt(at + 7) !== 45 || line.charCodeAt(at + 13) !== 58) return -1
    if (line.charCodeAt(at + 16) !== 58 || line.charCodeAt(at + 19) !== 46) return -1
    const year = two(line, at) * 100 + two(line, at + 2)
    const month = two(line, at + 5)
    const day = two(line, at + 8)
    const hour = two(line, at + 11)
    const minute = two(line, at + 14)
    const second = two(line, at + 17)
    const last = two(line, at + 21)
    const ms = last < 0 ? -1 : two(line, at + 20) * 10 + (last % 10)
    if (!(year >= 1970 && month >= 1 && month <= 12 && day >= 1 && day <= 31)) return -1
    if (!(hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second <= 60 && ms >= 0)) return -1
    this.seconds = daysOf(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    this.nanos = ms * 1_000_000
    return end
  }

  #resolve(fields: Fields): boolean {
    this.nanos = fields.nanos
    if (fields.epoch !== NOT_A_NUMBER) {
      this.seconds = fields.epoch
      return true
    }
    const year = fields.year >= 0 ? fields.year : NO_YEAR
    const { month, day } = fields
    let { hour } = fields
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 24 || fields.minute > 59 || fields.second > 60) {
      return false
    }
    if (fields.afternoon >= 0) hour = (hour % 12) + 12 * fields.afternoon
    if (year === NO_YEAR) {
      this.seconds = 0
      this.nanos = 0
      return true
    }
    const days = fields.yearDay > 0 ? daysOf(year, 1, 1) + fields.yearDay - 1 : daysOf(year, month, day)
    const wall = days * 86_400 + hour * 3600 + fields.minute * 60 + fields.second
    if (fields.zone !== NOT_A_NUMBER) this.seconds = wall - fields.zone
    else this.seconds = this.#local ? wall + offsetOf(wall) : wall
    return true
  }
}

/** `2026-01-01T00:00:00.250Z`: what `%START_TIME%` prints. */
export const DEFAULT_TIME = '%Y-%m-%dT%H:%M:%E3SZ'

interface Fields {
  year: number
  month: number
  day: number
  yearDay: number
  hour: number
  minute: number
  second: number
  nanos: number
  /** 0 in the morning, 1 in the afternoon, −1: the hour has 24. */
  afternoon: number
  epoch: number
  /** Seconds east of Greenwich. */
  zone: number
}

const NO_YEAR = -1

function emptyFields(): Fields {
  const fields = {} as Fields
  resetFields(fields)
  return fields
}

function resetFields(fields: Fields): void {
  fields.year = -1
  fields.month = 1
  fields.day = 1
  fields.yearDay = 0
  fields.hour = 0
  fields.minute = 0
  fields.second = 0
  fields.nanos = 0
  fields.afternoon = -1
  fields.epoch = NOT_A_NUMBER
  fields.zone = NOT_A_NUMBER
}

interface Step {
  readonly read: (line: string, at: number, fields: Fields) => number
  readonly precisionNs?: number
}

const CONVERSION = /%(?:E(\d+|\*)?|O|[-_0^#]+)?(\d*)(.)/sy

function compile(format: string, steps: Step[]): void {
  for (let at = 0; at < format.length; ) {
    CONVERSION.lastIndex = at
    const match = CONVERSION.exec(format)
    if (match === null) {
      const percent = format.indexOf('%', at + 1)
      const end = percent < 0 ? format.length : percent
      steps.push(literal(format.slice(at, end)))
      at = end
      continue
    }
    at = CONVERSION.lastIndex
    const [text, extension, digits = '', letter = ''] = match
    if (text.startsWith('%E') && extension === undefined && letter === 'T') steps.push(literal('T'))
    else if (extension !== undefined && letter === 'S') {
      steps.push(number('second', 2), fraction(extension === '*' ? 0 : Number(extension), true))
    } else if (extension !== undefined && letter === 'f') {
      steps.push(fraction(extension === '*' ? 0 : Number(extension), false))
    } else if (letter === 'f') steps.push(fraction(Number(digits) || 9, false))
    // `%s%3f` is ms of the epoch: ten digits of seconds until the year 2286.
    else if (letter === 's' && /^%\d?f/.test(format.slice(at))) steps.push(number('epoch', 10))
    else conversion(letter, steps)
  }
}

/** What letters stand for that are short for others. */
const COMPOSED: Readonly<Record<string, string>> = {
  T: '%H:%M:%S',
  X: '%H:%M:%S',
  R: '%H:%M',
  r: '%I:%M:%S %p',
  D: '%m/%d/%y',
  x: '%m/%d/%y',
  F: '%Y-%m-%d',
  c: '%a %b %e %H:%M:%S %Y',
  v: '%e-%b-%Y',
}
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const MONTHS_LONG = [
  'january',
  'february',
  'march',
  'april',
  'may',
  'june',
  'july',
  'august',
  'september',
  'october',
  'november',
  'december',
]

function conversion(letter: string, steps: Step[]): void {
  const composed = COMPOSED[letter]
  if (composed !== undefined) {
    compile(composed, steps)
    return
  }
  switch (letter) {
    case 'Y':
      steps.push(number('year', 4))
      break
    case 'y':
      steps.push({ read: (line, at, fields) => readShortYear(line, at, fields) })
      break
    case 'm':
      steps.push(number('month', 2))
      break
    case 'b':
    case 'h':
    case 'B':
      steps.push({ read: readMonth })
      break
    case 'd':
    case 'e':
      steps.push(number('day', 2))
      break
    case 'j':
      steps.push(number('yearDay', 3))
      break
    case 'H':
    case 'I':
    case 'k':
    case 'l':
      steps.push(number('hour', 2))
      break
    case 'M':
      steps.push(number('minute', 2))
      break
    case 'S':
      steps.push(number('second', 2))
      break
    case 's':
      steps.push(number('epoch', 12))
      break
    case 'p':
    case 'P':
      steps.push({ read: readHalf })
      break
    case 'z':
      steps.push({ read: readZone })
      break
    case 'Z':
      steps.push({ read: readZoneName })
      break
    case 'a':
    case 'A':
      steps.push({ read: (line, at) => skipWhile(line, at, isLetter, 1) })
      break
    case 'n':
      steps.push(literal('\n'))
      break
    case 't':
      steps.push(literal('\t'))
      break
    case '%':
      steps.push(literal('%'))
      break
    default:
      // Weeks and centuries, which say nothing that the rest does not.
      steps.push({ read: (line, at) => skipWhile(line, at, isDigit, 1) })
  }
}

function literal(text: string): Step {
  return { read: (line, at) => (line.startsWith(text, at) ? at + text.length : -1) }
}

/** Up to `digits` digits; blanks before them stand for zeros. */
function number(field: keyof Fields, digits: number): Step {
  return {
    read(line, at, fields) {
      while (digits === 2 && line.charCodeAt(at) === 32) at++
      let end = at
      while (end < at + digits && isDigit(line.charCodeAt(end))) end++
      if (end === at) return -1
      fields[field] = readDigits(line, at, end)
      return end
    },
  }
}

/** Digits of the fraction, `width` of them (0: as many as there are), after a point when it is one of seconds. */
function fraction(width: number, point: boolean): Step {
  const precisionNs = 10 ** (9 - Math.min(width || 9, 9))
  return {
    precisionNs,
    read(line, at, fields) {
      if (point) {
        if (line.charCodeAt(at) !== 46) return width === 0 ? at : -1
        at++
      }
      let end = at
      const limit = at + (width || 18)
      while (end < limit && isDigit(line.charCodeAt(end))) end++
      if (end === at || (width > 0 && end - at !== width)) return -1
      const digits = Math.min(end - at, 9)
      fields.nanos = readDigits(line, at, at + digits) * 10 ** (9 - digits)
      return end
    },
  }
}

function readShortYear(line: string, at: number, fields: Fields): number {
  const year = readDigits(line, at, at + 2)
  if (year === NOT_A_NUMBER) return -1
  fields.year = year < 69 ? 2000 + year : 1900 + year
  return at + 2
}

function readMonth(line: string, at: number, fields: Fields): number {
  const end = skipWhile(line, at, isLetter, 3)
  if (end < 0) return -1
  const name = line.slice(at, end).toLowerCase()
  const month = name.length === 3 ? MONTHS.indexOf(name) : MONTHS_LONG.indexOf(name)
  if (month < 0) return -1
  fields.month = month + 1
  return end
}

function readHalf(line: string, at: number, fields: Fields): number {
  const letter = line.charCodeAt(at) | 32
  if ((letter !== 97 && letter !== 112) || (line.charCodeAt(at + 1) | 32) !== 109) return -1
  fields.afternoon = letter === 112 ? 1 : 0
  return at + 2
}

/** `+0100`, `+01:00`, `+01:00:00`, `Z`. */
export function readZone(line: string, at: number, fields: { zone: number }): number {
  const sign = line.charCodeAt(at)
  if (sign === 90 || sign === 122) {
    fields.zone = 0
    return at + 1
  }
  if (sign !== 43 && sign !== 45) return -1
  let zone = 0
  let unit = 3600
  let end = at + 1
  while (unit >= 1) {
    const part = readDigits(line, end, end + 2)
    if (part === NOT_A_NUMBER) break
    zone += part * unit
    unit /= 60
    end += 2
    if (line.charCodeAt(end) === 58 && readDigits(line, end + 1, end + 3) !== NOT_A_NUMBER) end++
    else if (!isDigit(line.charCodeAt(end))) break
  }
  if (end < at + 3) return -1
  fields.zone = sign === 45 ? -zone : zone
  return end
}

/** `UTC`, `GMT`; other names do not say how far they are from it. */
function readZoneName(line: string, at: number, fields: Fields): number {
  const end = skipWhile(line, at, isLetter, 1)
  if (end < 0) return readZone(line, at, fields)
  const name = line.slice(at, end)
  if (name === 'UTC' || name === 'GMT' || name === 'Z') fields.zone = 0
  return end
}

function skipWhile(line: string, at: number, accepts: (unit: number) => boolean, least: number): number {
  let end = at
  while (end < line.length && accepts(line.charCodeAt(end))) end++
  return end - at < least ? -1 : end
}

export const isDigit = (unit: number): boolean => unit >= 48 && unit <= 57
const isLetter = (unit: number): boolean => (unit | 32) >= 97 && (unit | 32) <= 122

/** Two digits; −1e6 when they are none, so that no sum of them is in any range. */
function two(line: string, at: number): number {
  const tens = line.charCodeAt(at) - 48
  const ones = line.charCodeAt(at + 1) - 48
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : -1e6
}

/** Days since 1970-01-01 in the Gregorian calendar, by counting years from March. */
export function daysOf(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  return era * 146_097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719_468
}

/** Seconds to add to a wall clock of this machine's zone; asked again for every quarter of an hour. */
let offsetKey = Number.NaN
let offset = 0
function offsetOf(wall: number): number {
  const key = Math.floor(wall / 900)
  if (key !== offsetKey) {
    offsetKey = key
    const asUtc = new Date(wall * 1000)
    const local = new Date(
      asUtc.getUTCFullYear(),
      asUtc.getUTCMonth(),
      asUtc.getUTCDate(),
      asUtc.getUTCHours(),
      asUtc.getUTCMinutes(),
    )
    offset = Math.round(local.getTimezoneOffset() * 60)
  }
  return offset
}
