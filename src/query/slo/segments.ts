import type { Horizon } from '../horizon.ts'
import { ceilTo, floorTo, HOUR, type Interval, MINUTE, type Nanos } from '../time.ts'
import { BURN_WINDOWS, WINDOW_NS } from './windows.ts'

/**
 * The time of an objective in pieces that do not overlap, so that every window, and the period, is the sum of the last
 * ones, and each request is read once:
 *
 *   at − period ────────── at − 3d ───── at − 1d ── at − 6h ─ … ─ at − 5m ─ at
 *
 * Where rows have expired, a cut moves down to its minute, and where minutes have, to its hour; the end of the rows is a
 * cut too. So rollups alone answer a piece, or rows can.
 */
export function segmentsOf(at: Nanos, period: Nanos, horizon: Horizon): Interval[] {
  const wanted = [...BURN_WINDOWS.map((window) => WINDOW_NS[window]).filter((width) => width < period), period]
  const cuts = new Set([0n, ...wanted].map((width) => cutAt(at - width, horizon)))
  const [first, last] = [cutAt(at - period, horizon), cutAt(at, horizon)]
  const rowsFrom = ceilTo(horizon.rows, HOUR)
  if (rowsFrom > first && rowsFrom < last) cuts.add(rowsFrom)
  const sorted = [...cuts].sort((a, b) => (a < b ? -1 : 1))
  return sorted.slice(1).map((to, k) => ({ from: sorted[k]!, to }))
}

/** Where a cut that was asked for at that time really is. */
export function cutAt(time: Nanos, horizon: Horizon): Nanos {
  const cut = time < 0n ? 0n : time
  const hour = floorTo(cut, HOUR)
  if (hour < horizon.minutes) return hour
  const minute = floorTo(cut, MINUTE)
  return minute < horizon.rows ? minute : cut
}
