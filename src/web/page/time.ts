/** Times and windows. The page prints one zone, UTC or the reader's own, and names it once. */
export type Zone = 'utc' | 'local'

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}

/** `-15m`, `now`, Unix seconds or ms, or RFC 3339, as Unix ms; null when it is none of them. */
export function parseTime(text: string, nowMs: number): number | null {
  if (text === 'now') return nowMs
  const relative = /^-((?:\d+(?:ms|[smhdw]))+)$/.exec(text)
  if (relative !== null) return nowMs - durationMs(relative[1] ?? '')
  if (/^\d+(\.\d+)?$/.test(text)) {
    const value = Number(text)
    return value >= 1e11 ? value : value * 1_000
  }
  const parsed = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(parsed) ? null : parsed
}

function durationMs(text: string): number {
  let total = 0
  for (const [, value, unit] of text.matchAll(/(\d+)(ms|[smhdw])/g)) total += Number(value) * UNIT_MS[unit ?? 's']!
  return total
}

/** Steps of time charts. The server is asked for the first one that gives at most `points`. */
const STEPS = ['1s', '5s', '10s', '30s', '1m', '2m', '5m', '10m', '30m', '1h', '3h', '6h', '12h', '1d', '7d'] as const

export function stepFor(rangeMs: number, points: number): { readonly text: string; readonly ms: number } {
  for (const text of STEPS) {
    const ms = durationMs(text)
    if (rangeMs / ms <= points) return { text, ms }
  }
  return { text: '7d', ms: durationMs('7d') }
}

/** `14:05:10`, with milliseconds or the date where asked. */
export function clock(
  ms: number,
  zone: Zone,
  options: { readonly millis?: boolean; readonly date?: boolean } = {},
): string {
  const at = new Date(zone === 'utc' ? ms : ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString()
  const time = at.slice(11, options.millis ? 23 : 19)
  return options.date ? `${at.slice(0, 10)} ${time}` : time
}

/** Name of the zone, as it stands in the header. */
export function zoneName(zone: Zone, atMs: number): string {
  if (zone === 'utc') return 'UTC'
  const minutes = -new Date(atMs).getTimezoneOffset()
  const sign = minutes < 0 ? '−' : '+'
  const two = (value: number) => String(Math.floor(Math.abs(value))).padStart(2, '0')
  return `UTC${sign}${two(minutes / 60)}:${two(minutes % 60)}`
}

/** `Last 15 min`, or both ends. */
export function windowText(from: string, to: string, nowMs: number, zone: Zone): string {
  const relative = to === 'now' ? /^-(\d+)(m|h|d)$/.exec(from) : null
  if (relative !== null) return `Last ${relative[1]} ${{ m: 'min', h: 'h', d: 'd' }[relative[2] as 'm' | 'h' | 'd']}`
  const start = parseTime(from, nowMs)
  const end = parseTime(to, nowMs)
  if (start === null || end === null) return `${from} to ${to}`
  const sameDay = clock(start, zone, { date: true }).slice(0, 10) === clock(end, zone, { date: true }).slice(0, 10)
  return `${clock(start, zone, { date: true })} – ${clock(end, zone, { date: !sameDay })}`
}

/** The window moved by its own length, or made wider (2) or narrower (0.5) about its middle. Absolute times come out. */
export function moveWindow(fromMs: number, toMs: number, by: number): { from: string; to: string } {
  const length = toMs - fromMs
  return { from: iso(fromMs + by * length), to: iso(toMs + by * length) }
}

export function zoomWindow(fromMs: number, toMs: number, factor: number): { from: string; to: string } {
  const middle = (fromMs + toMs) / 2
  const half = ((toMs - fromMs) * factor) / 2
  return { from: iso(middle - half), to: iso(middle + half) }
}

export function iso(ms: number): string {
  return new Date(Math.round(ms)).toISOString()
}
