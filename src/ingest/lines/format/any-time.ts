import { readNumber } from './digits.ts'
import { TimeReader, readZone as zoneOf } from './time.ts'

/**
 * Times of a format that is not known: RFC 3339 with `T` or a space, any number of digits in the fraction and any offset
 * (UTC where there is none), or a number of the epoch in seconds, ms, µs or ns, told apart by its size (until the year
 * 5138).
 */
export class TimeOfAnyForm {
  seconds = 0
  nanos = 0
  readonly #forms = ['T', 't', ' '].map((separator) => new TimeReader(`%Y-%m-%d${separator}%H:%M:%E*S`))
  readonly #zone = { zone: 0 }

  read(text: string): boolean {
    const digits = readNumber(text, 0, text.length)
    if (!Number.isNaN(digits)) return this.#epoch(digits, text)
    for (const form of this.#forms) {
      const end = form.read(text, 0)
      if (end < 0) continue
      this.#zone.zone = 0
      if (end < text.length && readZone(text, end, this.#zone) !== text.length) return false
      this.seconds = form.seconds - this.#zone.zone
      this.nanos = form.nanos
      return true
    }
    return false
  }

  #epoch(value: number, text: string): boolean {
    if (value <= 0) return false
    const unit = value < 1e11 ? 1 : value < 1e14 ? 1e3 : value < 1e17 ? 1e6 : 1e9
    this.seconds = Math.floor(value / unit)
    this.nanos = Math.min(999_999_999, Math.round((value - this.seconds * unit) * (1e9 / unit)))
    // Nanoseconds have more digits than a double: the rest is in the text.
    if (unit === 1e9 && /^\d{19}$/.test(text)) {
      this.seconds = Number(text.slice(0, 10))
      this.nanos = Number(text.slice(10))
    }
    return true
  }
}

function readZone(text: string, at: number, into: { zone: number }): number {
  if (text.startsWith(' UTC', at) || text.startsWith(' GMT', at)) return at + 4
  return zoneOf(text, text.charCodeAt(at) === 32 ? at + 1 : at, into)
}
