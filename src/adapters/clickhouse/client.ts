import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { type ClickHouseClient, type ClickHouseSettings, createClient } from '@clickhouse/client'
import type { QueryResult, QueryStore, Statement, StatementOptions } from '../../model/query.ts'
import type { Log } from '../../telemetry/log.ts'
import { quoteName } from './ddl.ts'
import { failureKind, storeError } from './failure.ts'

/**
 * ClickHouse over HTTP: the embedded engine's child process and a server answer alike.
 *
 * Every statement has an id of ours. When its caller leaves or its time is over, the HTTP request is ended and so is the
 * statement in the engine, by KILL QUERY: closing a connection does not stop work that sends nothing.
 */
export interface ClickHouse extends QueryStore {
  readonly database: string
  /** Runs a statement without an answer: DDL, INSERT … SELECT. Throws a SidecastError when it fails. */
  execute(statement: Statement, options: ExecuteOptions): Promise<void>
  /** Sends `body` unparsed as the data of an INSERT … FORMAT Native. */
  insert(statement: Statement, body: Readable, options: ExecuteOptions): Promise<void>
  /** Ends a statement by its id, and resolves when it is gone. True when nothing of that id runs any more. */
  end(queryId: string, signal: AbortSignal): Promise<boolean>
  /** Makes the database when it is not there: until then every other statement fails. */
  createDatabase(signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

export interface ExecuteOptions {
  readonly signal: AbortSignal
  readonly timeoutMs?: number
  readonly settings?: Readonly<Record<string, string | number>>
  /** Id of the statement in the engine; unique. One is made when absent. */
  readonly queryId?: string
  /** Retry and idempotence are the caller's: nothing here sends a statement twice. */
}

export interface ClickHouseOptions {
  /** `http(s)://host:port`. A function where it can change: the embedded engine may get another port when it restarts. */
  readonly url: string | (() => string)
  readonly database: string
  readonly username: string
  readonly password?: string
  /** Bearer token, in place of user and password. */
  readonly token?: string
  readonly log: Log
  /** Limits of a statement that states none. */
  readonly timeoutMs?: number
  readonly memoryBytesMax?: number
  readonly resultRowsMax?: number
  /** Open connections; statements above it wait. One of them is only for KILL QUERY and ping. */
  readonly connectionsMax?: number
  /** Compress what is sent and received: worth it to another machine, not on loopback. */
  readonly compress?: boolean
}

const TIMEOUT_MS = 30_000
const MEMORY_BYTES_MAX = 1024 ** 3
const RESULT_ROWS_MAX = 1_000_000
const CONNECTIONS_MAX = 32
/** What the HTTP request may take longer than the statement: sending its answer. */
const GRACE_MS = 5000
const END_TIMEOUT_MS = 2000
/** A little less than the 3 s after which servers before 23.11, and proxies, close a silent connection. */
const IDLE_SOCKET_MS = 2500

export function createClickHouse(options: ClickHouseOptions): ClickHouse {
  return new HttpClickHouse(options)
}

class HttpClickHouse implements ClickHouse {
  readonly database: string
  readonly #options: ClickHouseOptions
  readonly #prefix = `sidecast-${randomBytes(6).toString('hex')}`
  #clients: Clients | undefined
  #statements = 0

  constructor(options: ClickHouseOptions) {
    this.#options = options
    this.database = options.database
  }

  async query<Row>(statement: Statement, options: StatementOptions): Promise<QueryResult<Row>> {
    return await this.#run(options, 'a query failed', async (run) => {
      const answer = await run.client.query({
        query: statement.sql,
        query_params: { ...statement.params },
        query_id: run.queryId,
        format: 'JSON',
        abort_signal: run.signal,
        clickhouse_settings: this.#readSettings(options),
      })
      const body = await unlessAborted(answer.json<Row>(), run.signal, () => answer.close())
      return {
        rows: body.data,
        rowsRead: body.statistics?.rows_read ?? 0,
        bytesRead: body.statistics?.bytes_read ?? 0,
        elapsedMs: (body.statistics?.elapsed ?? 0) * 1000,
      }
    })
  }

  async *stream<Row>(statement: Statement, options: StatementOptions): AsyncIterable<Row[]> {
    const leaving = new AbortController()
    const run = this.#begin({ ...options, signal: AbortSignal.any([options.signal, leaving.signal]) })
    let done = false
    try {
      const answer = await run.client.query({
        query: statement.sql,
        query_params: { ...statement.params },
        query_id: run.queryId,
        format: 'JSONEachRow',
        abort_signal: run.signal,
        clickhouse_settings: this.#readSettings(options),
      })
      const stream = answer.stream<Row>()
      run.signal.addEventListener('abort', () => stream.destroy(abortError()), { once: true })
      if (run.signal.aborted) stream.destroy(abortError())
      for await (const rows of stream) yield rows.map((row) => row.json<Row>())
      done = true
    } catch (error) {
      throw storeError(error, 'a query failed')
    } finally {
      run.over()
      if (!done) {
        leaving.abort()
        await this.#endQuietly(run.queryId)
      }
    }
  }

  async execute(statement: Statement, options: ExecuteOptions): Promise<void> {
    await this.#run(options, 'a statement failed', async (run) => {
      await run.client.command({
        query: statement.sql,
        query_params: { ...statement.params },
        query_id: run.queryId,
        abort_signal: run.signal,
        clickhouse_settings: { ...WRITE_SETTINGS, ...options.settings },
      })
    })
  }

  async insert(statement: Statement, body: Readable, options: ExecuteOptions): Promise<void> {
    try {
      await this.#run(options, 'an insert failed', async (run) => {
        const result = await run.client.exec({
          query: statement.sql,
          query_params: { ...statement.params },
          query_id: run.queryId,
          values: body,
          abort_signal: run.signal,
          clickhouse_settings: { ...WRITE_SETTINGS, ...options.settings },
        })
        // The answer ends when the insert is done; it can hold an error that came after the headers.
        const chunks: Buffer[] = []
        for await (const chunk of result.stream) if (chunks.length < 16) chunks.push(Buffer.from(chunk as Uint8Array))
        const text = Buffer.concat(chunks).toString()
        if (/^Code: \d+/m.test(text)) throw new Error(text)
      })
    } finally {
      body.destroy()
    }
  }

  async ping(signal: AbortSignal): Promise<boolean> {
    const over = AbortSignal.any([signal, AbortSignal.timeout(END_TIMEOUT_MS)])
    try {
      const result = await unlessAborted(
        this.#client().urgent.ping({ select: true, abort_signal: over }),
        over,
        () => {},
      )
      return result.success
    } catch {
      return false
    }
  }

  async end(queryId: string, signal: AbortSignal): Promise<boolean> {
    const { urgent } = this.#client()
    const over = AbortSignal.any([signal, AbortSignal.timeout(END_TIMEOUT_MS)])
    const ask = { abort_signal: over, query_params: { id: queryId } }
    try {
      for (;;) {
        await urgent.command({ ...ask, query: 'KILL QUERY WHERE query_id = {id:String} ASYNC' })
        const answer = await urgent.query({
          ...ask,
          query: 'SELECT count() AS n FROM system.processes WHERE query_id = {id:String}',
          format: 'JSON',
        })
        const body = await unlessAborted(answer.json<{ n: number | string }>(), over, () => answer.close())
        if (Number(body.data[0]?.n) === 0) return true
        await unlessAborted(new Promise((resolve) => setTimeout(resolve, 50)), over, () => {})
      }
    } catch (error) {
      if (!signal.aborted) this.#options.log.warn({ queryId, error }, 'A statement could not be ended')
      return false
    }
  }

  async createDatabase(signal: AbortSignal): Promise<void> {
    try {
      await this.#client().urgent.command({
        query: `CREATE DATABASE IF NOT EXISTS ${quoteName(this.database)}`,
        abort_signal: signal,
      })
    } catch (error) {
      throw storeError(error, `database ${this.database} cannot be made`)
    }
  }

  async close(): Promise<void> {
    const clients = this.#clients
    this.#clients = undefined
    await Promise.allSettled([clients?.normal.close(), clients?.urgent.close()])
  }

  async #run<Result>(
    options: Pick<ExecuteOptions, 'signal' | 'timeoutMs' | 'queryId'>,
    what: string,
    work: (run: Run) => Promise<Result>,
  ): Promise<Result> {
    const run = this.#begin(options)
    try {
      // The client looks at a signal only after it has sent the statement.
      if (run.signal.aborted) throw abortError()
      return await unlessAborted(work(run), run.signal, () => {})
    } catch (error) {
      // Whoever left, or lost the connection, does not know whether it runs on.
      if (failureKind(error) !== 'busy' && failureKind(error) !== 'refused') await this.#endQuietly(run.queryId)
      throw storeError(error, run.timedOut() ? `${what} (out of time)` : what)
    } finally {
      run.over()
    }
  }

  #begin(options: Pick<ExecuteOptions, 'signal' | 'timeoutMs' | 'queryId'>): Run {
    const timeout = new AbortController()
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS
    const timer = setTimeout(() => timeout.abort(), timeoutMs + GRACE_MS)
    return {
      client: this.#client().normal,
      queryId: options.queryId ?? `${this.#prefix}-${++this.#statements}`,
      signal: AbortSignal.any([options.signal, timeout.signal]),
      timedOut: () => timeout.signal.aborted,
      over: () => clearTimeout(timer),
    }
  }

  async #endQuietly(queryId: string): Promise<void> {
    await this.end(queryId, new AbortController().signal)
  }

  #readSettings(options: StatementOptions): ClickHouseSettings {
    return {
      readonly: '1',
      max_execution_time: (options.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS) / 1000,
      max_memory_usage: String(options.memoryBytesMax ?? this.#options.memoryBytesMax ?? MEMORY_BYTES_MAX),
      max_result_rows: String(options.resultRowsMax ?? this.#options.resultRowsMax ?? RESULT_ROWS_MAX),
      result_overflow_mode: 'throw',
      cancel_http_readonly_queries_on_client_close: 1,
      // Numbers as numbers: all of ours are below 2^53, or rounded knowingly.
      output_format_json_quote_64bit_integers: 0,
      output_format_json_quote_64bit_floats: 0,
      output_format_json_quote_denormals: 0,
    }
  }

  #client(): Clients {
    const { url } = this.#options
    const now = typeof url === 'function' ? url() : url
    if (this.#clients?.url !== now) {
      const before = this.#clients
      this.#clients = { url: now, normal: this.#connect(now, 'normal'), urgent: this.#connect(now, 'urgent') }
      if (before !== undefined) void Promise.allSettled([before.normal.close(), before.urgent.close()])
    }
    return this.#clients
  }

  #connect(url: string, kind: 'normal' | 'urgent'): ClickHouseClient {
    const { database, username, password, token, connectionsMax, compress } = this.#options
    return createClient({
      url,
      // Of a database that is not there yet even CREATE DATABASE would fail.
      ...(kind === 'normal' ? { database } : {}),
      log: { level: LOG_OFF },
      application: 'sidecast',
      ...(token === undefined ? { username, password: password ?? '' } : { access_token: token }),
      // Time limits are per statement, above; this one is for a socket that stays silent longer than any of them.
      request_timeout: kind === 'urgent' ? 10_000 : 3_600_000,
      max_open_connections: kind === 'urgent' ? 2 : (connectionsMax ?? CONNECTIONS_MAX),
      compression: { request: false, response: compress ?? false },
      keep_alive: { enabled: true, idle_socket_ttl: IDLE_SOCKET_MS },
    })
  }
}

/** `ClickHouseLogLevel.OFF`: errors are thrown to us, and said once by whoever cares. */
const LOG_OFF = 127

interface Clients {
  readonly url: string
  readonly normal: ClickHouseClient
  /** Connections of its own, so that ending a statement never waits behind statements. */
  readonly urgent: ClickHouseClient
}

interface Run {
  readonly client: ClickHouseClient
  readonly queryId: string
  readonly signal: AbortSignal
  timedOut(): boolean
  over(): void
}

/** Our own batches are large already; a second buffer in the server would only delay the answer. */
const WRITE_SETTINGS: ClickHouseSettings = { async_insert: 0, wait_end_of_query: 1 }

function abortError(): Error {
  const error = new Error('the statement was aborted')
  error.name = 'AbortError'
  return error
}

/** The client's own promises do not all end when the signal does. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal, onAbort: () => void): Promise<T> {
  if (signal.aborted) {
    onAbort()
    work.catch(() => {})
    throw abortError()
  }
  let abort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    abort = () => {
      onAbort()
      reject(abortError())
    }
    signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', abort!)
    work.catch(() => {})
  }
}
