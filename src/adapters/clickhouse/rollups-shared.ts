import { randomBytes } from 'node:crypto'
import { ROLLUP_COLUMNS } from '../../model/rollup-columns.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { quoteName } from './ddl.ts'
import { addSegmentSql, differingMinutesSql, rollupNames, segmentMinutesSql } from './rollup-sql.ts'
import type { Rollups, RollupsOptions } from './rollups.ts'
import { dateOf, partsOf, tableOf } from './stored.ts'

/**
 * Rollups where others write as well. Rows of a minute whose rollup is not there may be on their way, by somebody else,
 * so a minute is never corrected as a whole; but whether the rollup of one segment is missing can be told:
 *
 *   what its minutes lack of their rows (count, sums of duration, bytes, attempts: 320 bits)
 *     nothing                         ─► it is there
 *     exactly what its own rows are   ─► it is not: add it
 *     anything else                   ─► others are between their rows and their rollup: look again
 *
 * Which of its servers' tables are replicated does not matter for that; where they are, the token decides too.
 */
export function createSharedRollups(options: SharedRollupsOptions): Rollups {
  return new SharedRollups(options)
}

export interface SharedRollupsOptions extends RollupsOptions {
  readonly shared?: { readonly replicated: boolean }
}

const NAMES = rollupNames('latency_1m')
const STRUCTURE = ROLLUP_COLUMNS.map((column) => `${quoteName(column.name)} ${column.nativeType}`).join(', ')
/** Looks at one segment; between them one segment is sent, so this is some minutes. Then it is said, and left. */
const LOOKS_MAX = 200

type Verdict = 'there' | 'missing' | 'undecided'

class SharedRollups implements Rollups {
  readonly #options: SharedRollupsOptions
  readonly #doubtful = new Map<string, { readonly segment: Segment; looks: number }>()

  constructor(options: SharedRollupsOptions) {
    this.#options = options
  }

  get doubtful(): number {
    return this.#doubtful.size
  }

  async add(segment: Segment, signal: AbortSignal): Promise<void> {
    await this.#insert(segment, '', signal)
  }

  /** Undecided is left to `settle`, except where the token is surely still known: then it decides. */
  async addIfMissing(segment: Segment, signal: AbortSignal): Promise<void> {
    const verdict = await this.#verdict(segment, signal)
    if (verdict === 'missing') await this.#addAnew(segment, signal)
    else if (verdict === 'undecided' && this.#options.shared?.replicated === true) await this.add(segment, signal)
    else if (verdict === 'undecided') this.#remember(segment)
  }

  /** Minutes are not this object's unit: nothing that shares its tables is corrected by the minute. */
  doubt(_minutes: Iterable<number>): void {}

  async doubtSegments(segments: readonly Segment[], _signal: AbortSignal): Promise<void> {
    for (const segment of segments) if (tableOf(segment, 'requests') !== undefined) this.#remember(segment)
  }

  async settle(signal: AbortSignal): Promise<void> {
    for (const [id, doubt] of [...this.#doubtful]) {
      const verdict = await this.#verdict(doubt.segment, signal)
      if (verdict === 'missing') {
        await this.#addAnew(doubt.segment, signal)
        this.#options.log.warn({ segment: id }, 'The rollup of a segment was missing and was added')
        this.#options.onCorrected(1, 0)
      }
      doubt.looks++
      if (verdict !== 'undecided') this.#doubtful.delete(id)
      else if (doubt.looks >= LOOKS_MAX) {
        this.#doubtful.delete(id)
        this.#options.log.error({ segment: id }, 'Whether the rollup of a segment is stored could not be told')
      }
    }
  }

  #remember(segment: Segment): void {
    if (!this.#doubtful.has(segment.id)) this.#doubtful.set(segment.id, { segment, looks: 0 })
  }

  async #verdict(segment: Segment, signal: AbortSignal): Promise<Verdict> {
    const rows = tableOf(segment, 'requests')
    if (rows === undefined) return 'there'
    const { clickhouse, timeoutMs } = this.#options
    const days = [...rows.days.keys()].map(dateOf)
    const own = await clickhouse.query<{ minute: number; lacks: string }>(
      { sql: segmentMinutesSql(clickhouse.database), params: { segment: segment.id, days } },
      { signal, timeoutMs },
    )
    // Rows that expired at once cannot be counted.
    if (own.rows.length === 0) return 'there'
    const minutes = own.rows.map(({ minute }) => Number(minute))
    const differing = await clickhouse.query<{ minute: number; lacks: string }>(
      {
        sql: differingMinutesSql(clickhouse.database),
        params: { minutes, days: [...new Set(minutes.map((minute) => dateOf(Math.floor(minute / 86_400))))] },
      },
      { signal, timeoutMs },
    )
    if (differing.rows.length === 0) return 'there'
    const lacks = new Map(differing.rows.map(({ minute, lacks }) => [Number(minute), lacks]))
    const same = own.rows.every(({ minute, lacks: wanted }) => lacks.get(Number(minute)) === wanted)
    return same && lacks.size === own.rows.length ? 'missing' : 'undecided'
  }

  /** A recovered segment has no rollup of its own: it is made of its rows. */
  async #addAnew(segment: Segment, signal: AbortSignal): Promise<void> {
    const attempt = `/${randomBytes(6).toString('hex')}`
    if (tableOf(segment, 'latency_1m') !== undefined) return await this.#insert(segment, attempt, signal)
    const { clickhouse, inserts, keysMax, timeoutMs } = this.#options
    for (const days of partsOf(tableOf(segment, 'requests')!.days.keys())) {
      await inserts.select(
        {
          sql: addSegmentSql(clickhouse.database, keysMax),
          params: { segment: segment.id, days: days.map(dateOf) },
        },
        { signal, timeoutMs, settings: { optimize_on_insert: 0, insert_deduplicate: 0 } },
      )
    }
  }

  async #insert(segment: Segment, attempt: string, signal: AbortSignal): Promise<void> {
    const block = tableOf(segment, 'latency_1m')
    if (block === undefined) return
    const { inserts, timeoutMs } = this.#options
    const parts = partsOf(block.days.keys())
    for (const [index, days] of parts.entries()) {
      await inserts.file(
        {
          table: 'latency_1m',
          path: block.file,
          columns: NAMES,
          structure: STRUCTURE,
          token: `${segment.id}/latency_1m/${index}${attempt}`,
          timeoutMs,
          ...(parts.length === 1 ? {} : { only: { condition: IN_DAYS, params: { days: days.map(dateOf) } } }),
          ...(segment.hold === undefined ? {} : { hold: segment.hold }),
        },
        signal,
      )
    }
  }
}

const IN_DAYS = 'toDate(minute) IN (SELECT arrayJoin({days:Array(Date)}))'
