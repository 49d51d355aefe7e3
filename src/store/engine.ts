import { systemClock } from '../lib/clock.ts'
import type { Chdb, Connection, InsertAnswer, QueryAnswer } from './chdb.ts'
import { asEngineError, type EngineError, engineError } from './engine-error.ts'
import { CONTROL_STATEMENTS, type StoreLimits, URGENT_STATEMENTS } from './limits.ts'
import { preamble, quoteText, type Setting, type User } from './settings.ts'
import { Slots } from './slots.ts'

/**
 * Runs statements on the embedded engine, each on a connection of its own, side by side within the limits of its kind.
 *
 * A statement carries its id in `log_comment`, the one thing of ours that `system.processes` shows. When its signal
 * aborts, or it is over its time, `KILL QUERY` finds it by that, from a place that nothing else can take, and again
 * until the engine has let go: the engine has no other way to be interrupted.
 */
export type Lane = 'read' | 'insert' | 'admin' | 'urgent' | 'control'

export interface EngineStatement {
  readonly sql: string
  /** `result` for what answers with bytes, `insert` for what answers with rows written. */
  readonly kind: 'result' | 'insert'
  readonly format: string
  readonly id: string
  readonly user: User
  readonly lane: Lane
  readonly database: string | undefined
  /** Settings and bound parameters (`param_…`) of the connection. */
  readonly settings: readonly Setting[]
  /** From its begin, not counting its wait for a place. */
  readonly timeMsMax: number
  /** Called when it has its place and begins. */
  readonly onStart?: () => void
}

export type Answer = ({ readonly kind: 'result' } & QueryAnswer) | ({ readonly kind: 'insert' } & InsertAnswer)

export interface EngineCounts {
  readonly running: number
  readonly waiting: number
  readonly statements: number
  readonly failed: number
  readonly killed: number
}

/** Between two attempts to kill: the first may come before the engine has registered the statement. */
const KILL_EVERY_MS = 50

export class Engine {
  readonly #chdb: Chdb
  readonly #directory: string
  readonly #lanes: Readonly<Record<Lane, Slots>>
  readonly #ids = new Set<string>()
  /** Keeps the engine open while no statement runs; closing the last connection shuts it down. */
  readonly #anchor: Connection
  readonly #counts = { statements: 0, failed: 0, killed: 0 }

  constructor(options: { chdb: Chdb; directory: string; configPath: string; limits: StoreLimits }) {
    const { chdb, directory, configPath, limits } = options
    this.#chdb = chdb
    this.#directory = directory
    const slots = (name: string, places: number) =>
      new Slots({ name, places, waitingMax: limits.waitingMax, waitMsMax: limits.waitMsMax })
    this.#lanes = {
      read: slots('read', limits.readsMax),
      insert: slots('insert', limits.insertsMax),
      admin: slots('admin', limits.adminMax),
      urgent: slots('urgent', URGENT_STATEMENTS),
      control: slots('control', CONTROL_STATEMENTS),
    }
    this.#anchor = chdb.open(directory, [`--config-file=${configPath}`])
  }

  get counts(): EngineCounts {
    const lanes = Object.values(this.#lanes)
    return {
      running: lanes.reduce((sum, lane) => sum + lane.running, 0),
      waiting: lanes.reduce((sum, lane) => sum + lane.waiting, 0),
      ...this.#counts,
    }
  }

  /** Rejects with an `EngineError` only. When it settles, the engine no longer works on the statement. */
  async execute(statement: EngineStatement, signal: AbortSignal): Promise<Answer> {
    const { id } = statement
    if (this.#ids.has(id)) {
      throw engineError('QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING', `Query with id = ${id} is already running`)
    }
    this.#ids.add(id)
    this.#counts.statements++
    try {
      return await this.#lanes[statement.lane].run(signal, () => this.#onOwnConnection(statement, signal))
    } catch (error) {
      this.#counts.failed++
      throw asEngineError(error)
    } finally {
      this.#ids.delete(id)
    }
  }

  /** The engine's version; also a proof that it answers. */
  async version(): Promise<string> {
    const { bytes } = await this.#lanes.control.run(NEVER, () => this.#once('SELECT version()'))
    return Buffer.from(bytes).toString('utf8').trim()
  }

  get isIdle(): boolean {
    return this.#ids.size === 0
  }

  /** Only when it is idle. */
  close(): void {
    this.#anchor.close()
  }

  async #onOwnConnection(statement: EngineStatement, signal: AbortSignal): Promise<Answer> {
    const connection = this.#chdb.open(this.#directory)
    try {
      const settings: Setting[] = [...statement.settings, ['log_comment', statement.id]]
      await connection.query(preamble({ ...statement, settings }), 'Null')
      if (signal.aborted) throw engineError('QUERY_WAS_CANCELLED', 'The client left')
      statement.onStart?.()
      return await this.#untilOver(statement, signal, run(connection, statement))
    } finally {
      connection.close()
    }
  }

  /**
   * Waits for the engine, and ends the statement when the client left or its time is over. From then on it has failed,
   * even if the engine answers: what it answers may be a part.
   */
  async #untilOver(statement: EngineStatement, signal: AbortSignal, answer: Promise<Answer>): Promise<Answer> {
    const { id, timeMsMax } = statement
    const over = new AbortController()
    let ended: { readonly error: EngineError; readonly killing: Promise<void> } | undefined
    const end = (error: EngineError) => {
      ended ??= { error, killing: this.#kill(id, over.signal) }
    }
    const leave = () => end(engineError('QUERY_WAS_CANCELLED', 'Query was cancelled: the client left'))
    const timer = setTimeout(() => end(engineError('TIMEOUT_EXCEEDED', timeoutText(timeMsMax))), timeMsMax)
    signal.addEventListener('abort', leave, { once: true })
    try {
      const result = await answer
      if (ended !== undefined) throw ended.error
      return result
    } catch (error) {
      throw ended === undefined ? error : ended.error
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', leave)
      over.abort()
      await ended?.killing
    }
  }

  async #kill(id: string, over: AbortSignal): Promise<void> {
    this.#counts.killed++
    const sql = `KILL QUERY WHERE Settings['log_comment'] = ${quoteText(id)} ASYNC`
    while (!over.aborted) {
      // The place is this lane's own and a KILL takes milliseconds, so it does not wait for whom it is to end.
      await this.#lanes.control.run(over, () => this.#once(sql)).catch(() => undefined)
      await systemClock.sleep(KILL_EVERY_MS, over)
    }
  }

  async #once(sql: string): Promise<QueryAnswer> {
    const connection = this.#chdb.open(this.#directory)
    try {
      return await connection.query(sql, 'TabSeparated')
    } finally {
      connection.close()
    }
  }
}

const NEVER = new AbortController().signal

const timeoutText = (ms: number): string => `Timeout exceeded: maximum: ${ms} ms`

async function run(connection: Connection, statement: EngineStatement): Promise<Answer> {
  return statement.kind === 'insert'
    ? { kind: 'insert', ...(await connection.insert(statement.sql)) }
    : { kind: 'result', ...(await connection.query(statement.sql, statement.format)) }
}
