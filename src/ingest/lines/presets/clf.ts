import type { Instant } from '../unwrap/time.ts'

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const CLF = /^(\d\d)\/([A-Z][a-z]{2})\/(\d{4}):(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?: ([+-])(\d\d)(\d\d))?$/

/** `01/Jan/2026:00:00:00 +0000`, and HAProxy's with milliseconds and without a zone, which is then taken for UTC. */
export function clfInstant(text: string): Instant | null {
  const match = CLF.exec(text)
  if (match === null) return null
  const [, day, monthName, year, hour, minute, second, fraction = '', sign, zoneHours = '0', zoneMinutes = '0'] = match
  const month = MONTHS.indexOf(monthName!)
  if (month < 0 || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return null
  const ms = Date.UTC(Number(year), month, Number(day), Number(hour), Number(minute), Number(second))
  if (new Date(ms).getUTCMonth() !== month && Number(second) < 60) return null
  const offset = (Number(zoneHours) * 60 + Number(zoneMinutes)) * 60
  return { seconds: ms / 1000 - (sign === '-' ? -offset : offset), nanos: Number(fraction.padEnd(9, '0')) }
}
