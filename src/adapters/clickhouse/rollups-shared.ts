import { randomBytes } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { REPLICATED_DEDUPLICATION_WINDOW } from './ddl.ts'
import { insertRollup } from './rollup-insert.ts'
import { addSegmentSql, differingMinutesSql, segmentMinutesSql } from './rollup-sql.ts'
import type { Rollups, RollupsOptions } from './rollups.ts'
import { dateOf, partsOf, SECONDS_PER_DAY, tableOf } from './stored.ts'

/**
 * Rollups of replicated tables that others write into as well. Rows of a minute whose rollup is not there may be on their
 * way, by somebody else, so a minute is never corrected as a whole. Two things tell whether one's own rollup is stored:
 *
 *   token   Keeper has it together with the part, so a repeated INSERT is stored once, by whichever replica. For as long
 *           as it is remembered; it says nothing about parts that were lost after they were committed
 *   lack    what minutes lack of their rows (count, sums of duration, bytes, attempts: 320 bits). Nothing: all is there.
 *           What some of the segments in doubt come to: it is theirs, and added. Anything else: others are between their
 *           rows and their rollup, look again
 */
export function createSharedRollups(options: SharedRollupsOptions): Rollups {
  return new SharedRollups(options)
}

export interface SharedRollupsOptions extends RollupsOptions {
  readonly clock: Clock
}

/** Of the window's blocks, 33 in a second have come since: more than the 28 it is made for. */
const TOKEN_SURE_MS = (REPLICATED_DEDUPLICATION_WINDOW / 33) * 1000
/** Looks at what is in doubt; between them one segment is sent, so this is some minutes. Then it is said, and left. */
const LOOKS_MAX = 200
/** All sets of so many segments are tried; of more, the newest ones alone: a server loses what it was told last. */
const SETS_OF = 10

interface Doubt {
  readonly segment: Segment
  /** Minute → totals of the segment's rows in it. */
  readonly minutes: Totals
  looks: number
}

type Totals = ReadonlyMap<number, readonly bigint[]>

class SharedRollups implements Rollups {
  readonly #options: SharedRollupsOptions
  readonly #doubts = new Map<string, Doubt>()
  /** Segments whose rollup this process has sent, with the wall clock, ms. */
  readonly #sent = new Map<string, number>()

  constructor(options: SharedRollupsOptions) {
    this.#options = options
  }

  get doubtful(): number {
    return this.#doubts.size
  }

  async add(segment: Segment, signal: AbortSignal): Promise<void> {
    this.#sent.set(segment.id, this.#options.clock.now())
    await this.#insert(segment, '', signal)
    this.#sent.delete(segment.id)
  }

  /** Where the token is surely remembered it decides, for the hours as well. */
  async addIfMissing(segment: Segment, signal: AbortSignal): Promise<void> {
    const now = this.#options.clock.now()
    const firstMs = this.#sent.get(segment.id) ?? segment.sealedMs
    if (now - firstMs < TOKEN_SURE_MS) return await this.add(segment, signal)
    await this.doubtSegments([segment], signal)
    await this.settle(signal)
    this.#sent.delete(segment.id)
  }

  /** Minutes are not this object's unit: tables that others write into are never corrected by the minute. */
  doubt(_minutes: Iterable<number>): void {}

  async doubtSegments(segments: readonly Segment[], signal: AbortSignal): Promise<void> {
    for (const segment of segments) {
      if (tableOf(segment, 'requests') === undefined || this.#doubts.has(segment.id)) continue
      // Rows that expired at once cannot be counted.
      const minutes = await this.#totalsOf(segment, signal)
      if (minutes.size > 0) this.#doubts.set(segment.id, { segment, minutes, looks: 0 })
    }
  }

  async settle(signal: AbortSignal): Promise<void> {
    if (this.#doubts.size === 0) return
    const doubts = [...this.#doubts.values()]
    const missing = missingOf(doubts, await this.#lacks(doubts, signal))
    if (missing !== undefined) {
      for (const { segment } of missing) {
        await this.#addAnew(segment, signal)
        this.#doubts.delete(segment.id)
      }
      if (missing.length > 0) {
        this.#options.log.warn({ segments: missing.length }, 'Rollups of segments were missing and were added')
        this.#options.onCorrected(missing.length, 0)
      }
      this.#doubts.clear()
      return
    }
    for (const doubt of doubts) {
      if (++doubt.looks < LOOKS_MAX) continue
      this.#doubts.delete(doubt.segment.id)
      this.#options.log.error(
        { segment: doubt.segment.id },
        'Whether the rollup of a segment is stored could not be told: other writers are always at work in its minutes',
      )
    }
  }

  async #totalsOf(segment: Segment, signal: AbortSignal): Promise<Totals> {
    const { clickhouse, timeoutMs } = this.#options
    const days = [...tableOf(segment, 'requests')!.days.keys()].map(dateOf)
    const { rows } = await clickhouse.query<Row>(
      { sql: segmentMinutesSql(clickhouse.database), params: { segment: segment.id, days } },
      { signal, timeoutMs },
    )
    return totalsOf(rows)
  }

  /** What the minutes of the segments lack. */
  async #lacks(doubts: readonly Doubt[], signal: AbortSignal): Promise<Totals> {
    const { clickhouse, timeoutMs } = this.#options
    const minutes = [...new Set(doubts.flatMap((doubt) => [...doubt.minutes.keys()]))]
    const days = [...new Set(minutes.map((minute) => dateOf(Math.floor(minute / SECONDS_PER_DAY))))]
    const { rows } = await clickhouse.query<Row>(
      { sql: differingMinutesSql(clickhouse.database), params: { minutes, days } },
      { signal, timeoutMs },
    )
    return totalsOf(rows)
  }

  /** Under a new token: the old one may be known though its part is lost. */
  async #addAnew(segment: Segment, signal: AbortSignal): Promise<void> {
    const attempt = `/${randomBytes(6).toString('hex')}`
    if (tableOf(segment, 'latency_1m') !== undefined) return await this.#insert(segment, attempt, signal)
    const { clickhouse, inserts, keysMax, timeoutMs } = this.#options
    for (const days of partsOf(tableOf(segment, 'requests')!.days.keys())) {
      await inserts.select(
        { sql: addSegmentSql(clickhouse.database, keysMax), params: { segment: segment.id, days: days.map(dateOf) } },
        { signal, timeoutMs, settings: { optimize_on_insert: 0, insert_deduplicate: 0 } },
      )
    }
  }

  async #insert(segment: Segment, attempt: string, signal: AbortSignal): Promise<void> {
    const { inserts, timeoutMs } = this.#options
    await insertRollup(inserts, { segment, attempt, timeoutMs }, signal)
  }
}

interface Row {
  readonly minute: number
  /** `[n,…]`: totals, as text. */
  readonly lacks: string
}

function totalsOf(rows: readonly Row[]): Totals {
  return new Map(rows.map(({ minute, lacks }) => [Number(minute), lacks.match(/-?\d+/g)!.map(BigInt)]))
}

/** The segments whose rollups, together, are what is lacking. Undefined: there are none such. */
export function missingOf<Of extends { readonly minutes: Totals }>(
  doubts: readonly Of[],
  lacks: Totals,
): readonly Of[] | undefined {
  return candidates(doubts).find((set) => sameTotals(sumOf(set), lacks))
}

function candidates<Of>(all: readonly Of[]): (readonly Of[])[] {
  const sets: (readonly Of[])[] = [[], all]
  if (all.length > SETS_OF) {
    for (let from = 1; from < all.length; from++) sets.push(all.slice(from))
    for (const one of all) sets.push([one])
    return sets
  }
  for (let bits = 1; bits < 2 ** all.length; bits++) sets.push(all.filter((_, k) => (bits >> k) & 1))
  return sets
}

function sumOf(set: readonly { readonly minutes: Totals }[]): Totals {
  const sum = new Map<number, bigint[]>()
  for (const { minutes } of set) {
    for (const [minute, totals] of minutes) {
      const before = sum.get(minute)
      sum.set(
        minute,
        before === undefined ? [...totals] : before.map((total, k) => BigInt.asIntN(64, total + totals[k]!)),
      )
    }
  }
  return sum
}

function sameTotals(a: Totals, b: Totals): boolean {
  if (a.size !== b.size) return false
  for (const [minute, totals] of a) {
    const other = b.get(minute)
    if (other === undefined || totals.some((total, k) => total !== other[k])) return false
  }
  return true
}
