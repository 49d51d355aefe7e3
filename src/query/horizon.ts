import type { Retention } from './ports.ts'
import { asProblem, type Question } from './question.ts'
import { DAY, MS, maxOf, type Nanos } from './time.ts'

/** From when on the store has everything that ever came, by table; 0 where nothing has expired. */
export interface Horizon {
  readonly rows: Nanos
  readonly minutes: Nanos
}

export interface HorizonReader {
  read(question: Question): Promise<Horizon>
}

const KEEP_MS = 5000

interface OldestRow {
  readonly kind: string
  /** Ns as text; '0' when the table is empty. */
  readonly oldest: string
  readonly rows: number
}

/**
 * Rows expire by age, parts of a day at a time, and by disk budget, whole days. What a coarser table has of an earlier
 * time, and the finer one has not, has expired there; where neither has anything, nothing has. Answered from the
 * metadata of the parts. `rowsDroppedBefore` (Unix ms) is what the store itself remembers of its budget.
 */
export function createHorizonReader(
  retention: Retention,
  nowMs: () => number,
  rowsDroppedBefore: (signal: AbortSignal) => Promise<number> = async () => 0,
): HorizonReader {
  let known: { readonly at: number; readonly horizon: Horizon } | undefined
  return {
    async read(question) {
      const now = nowMs()
      if (known !== undefined && now - known.at < KEEP_MS && now >= known.at) return known.horizon
      const found = await question.run<OldestRow>({ sql: OLDEST_SQL, params: {} }, 10, 'too_many_series')
      const oldest = (kind: string): Nanos | null => {
        const row = found.find((candidate) => candidate.kind === kind)
        return row === undefined || Number(row.rows) === 0 ? null : BigInt(row.oldest)
      }
      const droppedMs = await rowsDroppedBefore(question.signal).catch((error: unknown) => {
        throw asProblem(error, question.signal)
      })
      const dropped = BigInt(Math.max(0, Math.ceil(droppedMs))) * MS
      const [rows, minutes, hours] = [oldest('rows'), oldest('minutes'), oldest('hours')]
      const horizon = {
        rows: maxOf(dropped, expiredBefore(rows, earliest(minutes, hours), now, retention.rowsMs)),
        minutes: expiredBefore(minutes, hours, now, retention.minutesMs),
      }
      known = { at: now, horizon }
      return horizon
    },
  }
}

const OLDEST_SQL = [
  `SELECT 'rows' AS kind, toString(toUnixTimestamp64Nano(min(end_time))) AS oldest, count() AS rows FROM requests`,
  `SELECT 'minutes', toString(toUInt64(toUnixTimestamp(min(minute))) * 1000000000), count() FROM latency_1m`,
  `SELECT 'hours', toString(toUInt64(toUnixTimestamp(min(hour))) * 1000000000), count() FROM latency_1h`,
].join(' UNION ALL ')

function expiredBefore(fine: Nanos | null, coarse: Nanos | null, nowMs: number, keepMs: number | null): Nanos {
  if (coarse === null) return 0n
  const byAge = keepMs === null ? 0n : BigInt(Math.max(0, Math.floor(nowMs - keepMs))) * MS
  const coarseDay = coarse - (coarse % DAY)
  const fineDay = fine === null ? BigInt(Math.floor(nowMs)) * MS : fine - (fine % DAY)
  const byBudget = fineDay > coarseDay ? fineDay : 0n
  const boundary = byAge > byBudget ? byAge : byBudget
  return coarse < boundary ? boundary : 0n
}

function earliest(a: Nanos | null, b: Nanos | null): Nanos | null {
  if (a === null || b === null) return a ?? b
  return a < b ? a : b
}
