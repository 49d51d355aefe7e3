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
    const rows = await question.run<DayRow>({ sql: DIFFERING_SQL, params }, DAYS_MAX, 'too_many_points')
    return longestRuns(
      runsBetween(
        whole,
        rows.map(({ day }) => BigInt(day) * SECOND),
      ),
    )
  } catch (error) {
    // Whoever writes to the store is of an older version, and will make the table when it is not.
    if (error instanceof Problem && engineCode(error) === UNKNOWN_TABLE) return []
    throw error
  }
}

const IN_RANGE = (column: string) =>
  `${column} >= toDateTime({from:Int64}, 'UTC') AND ${column} < toDateTime({to:Int64}, 'UTC')`
/** Sums add modulo 2^64, and corrections are negative ones. */
const DIFFERING_SQL = `SELECT toUnixTimestamp(d) AS day FROM (
    SELECT toStartOfDay(hour) AS d, sum(n) AS rows, sum(total_sum) AS ns FROM latency_1h WHERE ${IN_RANGE('hour')} GROUP BY d
    UNION ALL
    SELECT day AS d, toUInt64(negate(sum(n))) AS rows, toUInt64(negate(sum(total_sum))) AS ns FROM latency_1d WHERE ${IN_RANGE('day')} GROUP BY d
  ) GROUP BY d HAVING sum(rows) != 0 OR sum(ns) != 0 ORDER BY d`

/** What lies between days that are left out. */
function runsBetween({ from, to }: Interval, without: readonly Nanos[]): readonly Interval[] {
  const starts = [from, ...without.map((day) => day + DAY)]
  return [...without, to].map((end, k) => ({ from: starts[k]!, to: end })).filter((run) => run.from < run.to)
}

function longestRuns(runs: readonly Interval[]): readonly Interval[] {
  const longest = runs.toSorted((a, b) => Number(b.to - b.from - (a.to - a.from))).slice(0, RUNS_MAX)
  return longest.toSorted((a, b) => Number(a.from - b.from))
}
