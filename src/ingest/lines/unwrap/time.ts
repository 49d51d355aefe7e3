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
