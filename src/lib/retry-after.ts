/** Who asks for more is asked again after it. */
const MOST_MS = 3_600_000

/**
 * How long an HTTP answer asks to wait, in ms: `Retry-After` in seconds or as a date (RFC 9110 §10.2.3), an hour at most.
 * Undefined when there is none, or it cannot be read; 0 when the date has passed.
 */
export function retryAfterMs(header: string | readonly string[] | null | undefined, nowMs: number): number | undefined {
  const text = (typeof header === 'string' ? header : header?.[0])?.trim()
  if (text === undefined || text === '') return undefined
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, MOST_MS)
  // Date.parse takes far more than HTTP's date, such as "1.5" or "-3": a day's name has to be in front.
  const at = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? undefined : Math.min(Math.max(0, at - nowMs), MOST_MS)
}
