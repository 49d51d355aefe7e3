import { randomBytes } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import type { Segment, SegmentTable } from '../../pipeline/segment.ts'
import type { Outcome, SegmentSink } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { ClickHouse } from './client.ts'
import { type Copy, SEGMENT_OF, sourceOf } from './copies.ts'
import { quoteName } from './ddl.ts'
import { isPoison, storeError } from './failure.ts'
import { createInserts, type Inserts } from './insert.ts'
import { dateOf, partsOf } from './stored.ts'

/**
 * Puts segments into tables that are not ours. Tried again, a segment whose rows can be found is taken out and sent anew;
 * of one whose rows cannot, the same INSERT is sent again with the same token, and the table's own deduplication decides.
 *
 *   first try ─► INSERT (token)
 *   again     ─► statements of ours are over? ─► rows of the segment? ─┬─ none ─► INSERT (new token)
 *                                                                      └─ some ─► DELETE them ─► INSERT (new token)
 */
export interface CopySink extends SegmentSink {
  readonly counters: Readonly<CopyCounters>
}

export interface CopyCounters {
  segments: number
  rows: number
  retries: number
  /** Segments of which something was there when they were tried again. */
  takenOut: number
}

export interface CopySinkOptions {
  readonly clickhouse: ClickHouse
  readonly copies: readonly Copy[]
  /** Makes tables, or looks whether they are there. Called before the first segment, again after a failure. */
  readonly prepare: (signal: AbortSignal) => Promise<readonly Copy[]>
  readonly readsFiles?: boolean
  readonly insertTimeoutMs: number
  readonly clock: Pick<Clock, 'now'>
  readonly log: Log
}

export function createCopySink(options: CopySinkOptions): CopySink {
  return new Sink(options)
}

class Sink implements CopySink {
  readonly name = 'clickhouse-copies'
  readonly counters: CopyCounters = { segments: 0, rows: 0, retries: 0, takenOut: 0 }
  readonly #options: CopySinkOptions
  readonly #inserts: Inserts
  /** Segments that a process before this one, or this one, may have sent in part. */
  readonly #tried = new Set<string>()
  #startedMs = 0
  #copies: readonly Copy[] | undefined

  constructor(options: CopySinkOptions) {
    this.#options = options
    const { clickhouse, readsFiles = false } = options
    this.#inserts = createInserts({ clickhouse, readsFiles, endsByItself: true })
  }

  async start(): Promise<void> {
    this.#startedMs = this.#options.clock.now()
  }

  async stop(_deadline: AbortSignal): Promise<void> {
    await this.#options.clickhouse.close()
  }

  async send(segment: Segment, signal: AbortSignal): Promise<Outcome> {
    try {
      await this.#send(segment, signal)
      return { status: 'accepted' }
    } catch (error) {
      const failure = storeError(error, `segment ${segment.id} cannot be copied`)
      if (isPoison(failure)) return { status: 'rejected', error: failure }
      this.counters.retries++
      return { status: 'retry', error: failure }
    }
  }

  async #send(segment: Segment, signal: AbortSignal): Promise<void> {
    this.#copies ??= await this.#options.prepare(signal)
    const again = this.#tried.has(segment.id) || segment.openedMs <= this.#startedMs
    if (again && !(await this.#inserts.quiet(signal))) throw new Error('an earlier insert may still be running')
    this.#tried.add(segment.id)
    const due = this.#copies.flatMap((copy) => {
      const file = segment.tables.find(({ table }) => table === copy.from)
      return file === undefined ? [] : [{ copy, file }]
    })
    if (again) for (const copy of tablesOf(due.map(({ copy }) => copy))) await this.#takeOut(copy, segment, signal)
    const attempt = again ? `/${randomBytes(6).toString('hex')}` : ''
    for (const { copy, file } of due) {
      await this.#insert(copy, segment, file, copy.segmentColumn === null ? '' : attempt, signal)
      this.counters.rows += file.rows
    }
    this.#tried.delete(segment.id)
    this.counters.segments++
  }

  /** Everything of the segment in the table, by whichever copy. */
  async #takeOut(copy: Copy, segment: Segment, signal: AbortSignal): Promise<void> {
    const { clickhouse, insertTimeoutMs: timeoutMs, log } = this.#options
    const target = `${quoteName(copy.into.database)}.${quoteName(copy.into.table)}`
    const condition = `${quoteName(copy.segmentColumn!)} = {segment:String}`
    const params = { segment: segment.id }
    const { rows } = await clickhouse.query<{ n: number }>(
      { sql: `SELECT count() AS n FROM ${target} WHERE ${condition}`, params },
      { signal, timeoutMs },
    )
    if (Number(rows[0]?.n ?? 0) === 0) return
    this.counters.takenOut++
    log.info({ segment: segment.id, table: copy.into.table }, 'A segment was copied in part; it is sent again')
    await clickhouse.execute(
      { sql: `ALTER TABLE ${target} DELETE WHERE ${condition}`, params },
      { signal, timeoutMs, settings: { mutations_sync: 1 } },
    )
  }

  async #insert(copy: Copy, segment: Segment, file: SegmentTable, attempt: string, signal: AbortSignal): Promise<void> {
    const source = sourceOf(copy.from)
    const parts = partsOf(file.days.keys())
    for (const [index, days] of parts.entries()) {
      const conditions = [
        ...(parts.length === 1 ? [] : [`${source.day} IN (SELECT arrayJoin({days:Array(Date)}))`]),
        ...(copy.where === '' ? [] : [`(${copy.where})`]),
      ]
      await this.#inserts.file(
        {
          database: copy.into.database,
          table: quoteName(copy.into.table),
          path: file.file,
          columns: copy.columns.map(({ name }) => quoteName(name)),
          structure: source.structure,
          select: { expressions: copy.columns.map(({ sql }) => expressionOf(sql, segment)), computed: source.computed },
          token: `${segment.id}/${copy.name}/${index}${attempt}`,
          timeoutMs: this.#options.insertTimeoutMs,
          ...(conditions.length === 0
            ? {}
            : {
                only: {
                  condition: conditions.join(' AND '),
                  params: parts.length === 1 ? {} : { days: days.map(dateOf) },
                },
              }),
          ...(segment.hold === undefined ? {} : { hold: segment.hold }),
        },
        signal,
      )
    }
  }
}

/** One copy for each table in which a segment can be found. */
function tablesOf(copies: readonly Copy[]): Copy[] {
  const found = copies.filter(({ segmentColumn }) => segmentColumn !== null)
  return [...new Map(found.map((copy) => [`${copy.into.database}.${copy.into.table}`, copy])).values()]
}

/** Rollups have no column with the segment: its id stands in the statement. It is made of digits, letters and dashes. */
const expressionOf = (sql: string, segment: Segment): string =>
  sql === SEGMENT_OF ? `'${segment.id.replaceAll(/[^0-9A-Za-z-]/g, '')}'` : sql
