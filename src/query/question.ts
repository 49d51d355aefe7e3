import { createSemaphore } from '../lib/semaphore.ts'
import type { QueryStore, Statement, StatementOptions } from '../model/query.ts'
import type { QueryLimits } from './ports.ts'
import { Problem } from './problem.ts'

/**
 * The way of one question to the store: its statements wait for a free place, run under the limits, are cancelled when
 * the client leaves, and what they cost is added up. Errors of the store become problems.
 */
export interface Question {
  /** Aborted when the client leaves or the server stops. */
  readonly signal: AbortSignal
  readonly cost: Cost
  /** Rows of one statement; more than `rowsMax` of them are a problem of this code. */
  run<Row>(statement: Statement, rowsMax: number, tooMany: 'too_many_series' | 'too_many_points'): Promise<Row[]>
  /** Rows as they come; leaving the loop cancels the statement. */
  stream<Row>(statement: Statement): AsyncGenerator<Row[], void>
}

export interface Cost {
  statements: number
  rowsRead: number
  /** Time in the store, and time waiting for a place there, ms. */
  storeMs: number
  waitMs: number
}

export interface Questions {
  /** Lets a question in, or throws 429. Call `close` once when it is answered. */
  open(signal: AbortSignal): Question & { close(): void }
  readonly running: number
}

/** ClickHouse exception codes that mean a limit was reached; `src/Common/ErrorCodes.cpp`. */
const LIMIT_CODES: ReadonlyMap<number, 'query_timeout' | 'query_memory' | 'query_rows'> = new Map([
  [158, 'query_rows'],
  [307, 'query_rows'],
  [396, 'query_rows'],
  [159, 'query_timeout'],
  [160, 'query_timeout'],
  [209, 'query_timeout'],
  [241, 'query_memory'],
  [173, 'query_memory'],
])
/** CANNOT_COMPILE_REGEXP, and BAD_ARGUMENTS of a pattern that is not UTF-8 or has zero bytes. */
const PATTERN_CODE = 427

const HELP: Readonly<Record<'query_timeout' | 'query_memory' | 'query_rows', string>> = {
  query_timeout: 'ask for a shorter interval, fewer groups, or method=histogram',
  query_memory: 'ask for a shorter interval, fewer groups, or method=histogram',
  query_rows: 'ask for a shorter interval, or filter by more',
}

export function createQuestions(store: QueryStore, limits: QueryLimits, now: () => number): Questions {
  const places = createSemaphore(limits.statementsMax)
  let running = 0

  return {
    get running() {
      return running
    },
    open(signal) {
      if (running >= limits.queriesMax) {
        throw new Problem('too_many_queries', `${running} queries run or wait, ${limits.queriesMax} are allowed`, {
          help: 'try again in a second',
          retryAfter: 1,
        })
      }
      running++
      let open = true
      const cost: Cost = { statements: 0, rowsRead: 0, storeMs: 0, waitMs: 0 }
      const options: StatementOptions = {
        signal,
        timeoutMs: limits.timeoutMs,
        memoryBytesMax: limits.memoryBytesMax,
      }
      const enter = async () => {
        const start = now()
        const leave = await places.enter(signal)
        cost.waitMs += now() - start
        cost.statements++
        return leave
      }
      return {
        signal,
        cost,
        close() {
          if (open) running--
          open = false
        },
        async run<Row>(statement: Statement, rowsMax: number, tooMany: 'too_many_series' | 'too_many_points') {
          const leave = await enter()
          const start = now()
          try {
            const result = await store.query<Row>(statement, options)
            cost.rowsRead += result.rowsRead
            if (result.rows.length <= rowsMax) return result.rows
          } catch (error) {
            throw asProblem(error, signal)
          } finally {
            cost.storeMs += now() - start
            leave()
          }
          throw new Problem(tooMany, `the answer has more than ${rowsMax} ${WHAT[tooMany]}`, {
            help: 'filter by more, group by fewer columns, or take a longer step',
          })
        },
        async *stream<Row>(statement: Statement) {
          const leave = await enter()
          const start = now()
          try {
            yield* store.stream<Row>(statement, options)
          } catch (error) {
            throw asProblem(error, signal)
          } finally {
            cost.storeMs += now() - start
            leave()
          }
        },
      }
    },
  }
}

const WHAT = { too_many_series: 'label sets', too_many_points: 'points' } as const

/** What an error of the store means to who asked. */
export function asProblem(error: unknown, signal: AbortSignal): unknown {
  if (error instanceof Problem || signal.aborted) return error
  const code = engineCode(error)
  const limit = code === undefined ? undefined : LIMIT_CODES.get(code)
  if (limit !== undefined) return new Problem(limit, 'the store gave up', { help: HELP[limit], cause: error })
  if (code === PATTERN_CODE) {
    return new Problem('bad_filter', 'a pattern is not RE2', { parameter: 'where', cause: error })
  }
  if (code === undefined) {
    return new Problem('store_unavailable', 'the store does not answer', {
      help: 'rows that arrive are kept; GET /api/v1/status tells how the store does',
      retryAfter: 2,
      cause: error,
    })
  }
  return new Problem('internal', `the store refused a statement (code ${code})`, { cause: error })
}

/** The engine's exception code, wherever in the chain of causes it stands; undefined when the engine said nothing. */
export function engineCode(error: unknown): number | undefined {
  for (let depth = 0; error instanceof Error && depth < 5; depth++, error = error.cause) {
    const code: unknown = 'code' in error ? error.code : undefined
    if (typeof code === 'number') return code
    if (typeof code === 'string' && /^\d+$/.test(code)) return Number(code)
    const inMessage = /\bCode: (\d+)\b/.exec(error.message)
    if (inMessage !== null) return Number(inMessage[1])
  }
  return undefined
}
