import { Problem } from './problem.ts'
import { engineCode, type Question } from './question.ts'
import { ceilTo, DAY, floorTo, type Interval, type Nanos, SECOND } from './time.ts'

/** Runs of days that a plan uses, the longest ones: each is a condition of the statement. */
const RUNS_MAX = 10
/** 30 years. */
const DAYS_MAX = 11_000
const UNKNOWN_TABLE = 60

interface DayRow {
  /** Unix seconds. */
  readonly day: number
  /** 1: as its hours say. */
  readonly same: number
}

/**
 * Runs of whole UTC days inside the interval that `latency_1d` may answer for: those whose rows and durations in it add up
 * to what `latency_1h` says now. Others are made in the background, or made anew, and are read from hours until then. So
 * a day is right whatever became of the statement that made it. Reads three columns of hours, and no histogram.
 */
export async function readWholeDays(
  question: Question,
  interval: Interval,
  step: Nanos | null,
): Promise<readonly Interval[]> {
  const whole = { from: ceilTo(interval.from, DAY), to: floorTo(interval.to, DAY) }
  if (whole.from >= whole.to || (step !== null && step % DAY !== 0n)) return []
  try {
    const params = { from: Number(whole.from / SECOND), to: Number(whole.to / SECOND) }
    const days = await question.run<DayRow>({ sql: DAYS_SQL, params }, DAYS_MAX, 'too_many_points')
    return longestOf(runsOf(days))
  } catch (error) {
    // Whoever writes to the store is of an older version, and will make the table when it is not.
    if (error instanceof Problem && engineCode(error) === UNKNOWN_TABLE) return []
    throw error
  }
}

const IN_RANGE = (column: string) =>
  `${column} >= toDateTime({from:Int64}, 'UTC') AND ${column} < toDateTime({to:Int64}, 'UTC')`
/** Days of which anything is stored. Sums add modulo 2^64, and corrections are negative ones. */
const DAYS_SQL = `SELECT toUnixTimestamp(d) AS day, sum(rows) = 0 AND sum(ns) = 0 AS same FROM (
    SELECT toStartOfDay(hour) AS d, sum(n) AS rows, sum(total_sum) AS ns FROM latency_1h WHERE ${IN_RANGE('hour')} GROUP BY d
    UNION ALL
    SELECT day AS d, toUInt64(negate(sum(n))) AS rows, toUInt64(negate(sum(total_sum))) AS ns FROM latency_1d WHERE ${IN_RANGE('day')} GROUP BY d
  ) GROUP BY d ORDER BY d`

/** From the first to the last day that is the same; days of which nothing is stored may lie between. */
function runsOf(days: readonly DayRow[]): readonly Interval[] {
  const runs: Interval[] = []
  let run: Interval | undefined
  for (const { day, same } of days) {
    const from = BigInt(day) * SECOND
    if (Number(same) === 1) {
      run = { from: run?.from ?? from, to: from + DAY }
    } else if (run !== undefined) {
      runs.push(run)
      run = undefined
    }
  }
  return run === undefined ? runs : [...runs, run]
}

function longestOf(runs: readonly Interval[]): readonly Interval[] {
  const longest = runs.toSorted((a, b) => Number(b.to - b.from - (a.to - a.from))).slice(0, RUNS_MAX)
  return longest.toSorted((a, b) => Number(a.from - b.from))
}
