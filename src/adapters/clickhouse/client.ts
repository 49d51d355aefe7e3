import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { type ClickHouseClient, type ClickHouseSettings, createClient } from '@clickhouse/client'
import type { ClientTls } from '../../lib/tls.ts'
import type { QueryResult, QueryStore, Statement, StatementOptions } from '../../model/query.ts'
import type { Log } from '../../telemetry/log.ts'
import { quoteName } from './ddl.ts'
import { createEndpoints, type Endpoints } from './endpoints.ts'
import { failureKind, isReplicaFailure, storeError } from './failure.ts'

/**
 * ClickHouse over HTTP: the embedded engine's child process and a server answer alike.
 *
 * Every statement has an id of ours. When its caller leaves or its time is over, the HTTP request is ended and so is the
 * statement in the engine, by KILL QUERY: closing a connection does not stop work that sends nothing.
 *
 * With several URLs the next one is asked when one does not answer. Questions are asked again there; what writes is never
 * sent a second time here, because whoever sent it first has to find out what became of it.
 */
export interface ClickHouse extends QueryStore {
  readonly database: string
  /** Runs a statement without an answer: DDL, INSERT … SELECT. Throws a SidecastError when it fails. */
  execute(statement: Statement, options: ExecuteOptions): Promise<void>
  /** Sends `body` unparsed as the data of an INSERT … FORMAT Native. */
  insert(statement: Statement, body: Readable, options: ExecuteOptions): Promise<void>
  /** Ends a statement by its id, and resolves when it is gone. True when nothing of that id runs any more. */
  end(queryId: string, signal: AbortSignal): Promise<boolean>
  /** Makes the database when it is not there: until then every other statement fails. `onCluster`: ` ON CLUSTER …`. */
  createDatabase(signal: AbortSignal, onCluster?: string): Promise<void>
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
  /**
   * `http(s)://host:port`. Several for servers with the same data: replicas of one shard. A function where it can change:
   * the embedded engine may get another port when it restarts.
   */
  readonly url: string | readonly string[] | (() => string)
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
  /** Of https URLs; absent: the authorities of the system. */
  readonly tls?: ClientTls
  /** Settings of every statement that reads, and of every one that writes, below those that the statement gives itself. */
  readonly readSettings?: ClickHouseSettings
  readonly writeSettings?: ClickHouseSettings
  /**
   * Called when statements go to another server than before, or the same one was started anew: what was accepted lately
   * may be missing there. The server is asked every `PROBE_MS` while statements are sent.
   */
  readonly onServerChange?: () => void
  /** Monotonic, ms. */
  readonly now?: () => number
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
/** A server that was not heard of for so long is asked before something that may take long is sent to it. */
const PROBE_MS = 10_000
const PROBE_TIMEOUT_MS = 2000
/** A server's own start, told by two of its clocks, may seem to move by this much. */
const STARTED_SLACK_SECONDS = 5
/** Statements of which is known where they were sent. */
const SENT_MAX = 1000

export function createClickHouse(options: ClickHouseOptions): ClickHouse {
  return new HttpClickHouse(options)
}

class HttpClickHouse implements ClickHouse {
  readonly database: string
  readonly #options: ClickHouseOptions
  readonly #prefix = `sidecast-${randomBytes(6).toString('hex')}`
  /** One for a function that tells the URL. */
  readonly #endpoints: Endpoints | undefined
  readonly #clients = new Map<string, Clients>()
  /** Where a statement was sent, so that it is ended there. */
  readonly #sentTo = new Map<string, string>()
  /** When each server started, as it said last, and when it was asked. */
  readonly #started = new Map<string, { readonly seconds: number; readonly askedMs: number }>()
  #lastServer: string | undefined
  #statements = 0

  constructor(options: ClickHouseOptions) {
    this.#options = options
    this.database = options.database
    const { url, now } = options
    if (typeof url === 'function') return
    const urls = typeof url === 'string' ? [url] : url
    this.#endpoints = createEndpoints({ urls, ...(now === undefined ? {} : { now }) })
  }

  async query<Row>(statement: Statement, options: StatementOptions): Promise<QueryResult<Row>> {
    for (let left = this.#endpoints?.urls.length ?? 1; ; left--) {
      try {
        return await this.#query<Row>(statement, options)
      } catch (error) {
        const elsewhere = failureKind(error) === 'unreachable' || isReplicaFailure(error)
        if (left <= 1 || options.signal.aborted || !elsewhere) throw error
      }
    }
  }

  async #query<Row>(statement: Statement, options: StatementOptions): Promise<QueryResult<Row>> {
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
    await this.#probe(options.signal)
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
      this.#endpoints?.answered(run.url)
    } catch (error) {
      this.#note(run, error)
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
        clickhouse_settings: { ...WRITE_SETTINGS, ...this.#options.writeSettings, ...options.settings },
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
          clickhouse_settings: { ...WRITE_SETTINGS, ...this.#options.writeSettings, ...options.settings },
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
    for (let left = this.#endpoints?.urls.length ?? 1; left > 0 && !signal.aborted; left--) {
      const over = AbortSignal.any([signal, AbortSignal.timeout(END_TIMEOUT_MS)])
      const url = this.#url()
      try {
        const asked = this.#clientsOf(url).urgent.ping({ select: true, abort_signal: over })
        if ((await unlessAborted(asked, over, () => {})).success) return true
      } catch {
        // Told by the answer.
      }
      if (!signal.aborted) this.#endpoints?.failed(url)
    }
    return false
  }

  async end(queryId: string, signal: AbortSignal): Promise<boolean> {
    const sentTo = this.#endpoints === undefined ? undefined : this.#sentTo.get(queryId)
    const { urgent } = this.#clientsOf(sentTo ?? this.#url())
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

  async createDatabase(signal: AbortSignal, onCluster = ''): Promise<void> {
    try {
      await this.#probe(signal)
      await this.#clientsOf(this.#url()).urgent.command({
        query: `CREATE DATABASE IF NOT EXISTS ${quoteName(this.database)}${onCluster}`,
        abort_signal: signal,
      })
    } catch (error) {
      throw storeError(error, `database ${this.database} cannot be made`)
    }
  }

  async close(): Promise<void> {
    const all = [...this.#clients.values()]
    this.#clients.clear()
    await Promise.allSettled(all.flatMap(({ normal, urgent }) => [normal.close(), urgent.close()]))
  }

  async #run<Result>(
    options: Pick<ExecuteOptions, 'signal' | 'timeoutMs' | 'queryId'>,
    what: string,
    work: (run: Run) => Promise<Result>,
  ): Promise<Result> {
    await this.#probe(options.signal)
    const run = this.#begin(options)
    try {
      // The client looks at a signal only after it has sent the statement.
      if (run.signal.aborted) throw abortError()
      const result = await unlessAborted(work(run), run.signal, () => {})
      this.#endpoints?.answered(run.url)
      return result
    } catch (error) {
      this.#note(run, error)
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
    const url = this.#url()
    const queryId = options.queryId ?? `${this.#prefix}-${++this.#statements}`
    this.#remember(queryId, url)
    return {
      client: this.#clientsOf(url).normal,
      url,
      queryId,
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
      ...this.#options.readSettings,
    }
  }

  /** Whoever did not answer, or cannot do its work, rests. */
  #note(run: Run, error: unknown): void {
    if (failureKind(error) === 'unreachable' || run.timedOut() || isReplicaFailure(error)) {
      this.#endpoints?.failed(run.url)
      this.#started.set(run.url, {
        seconds: this.#started.get(run.url)?.seconds ?? 0,
        askedMs: Number.NEGATIVE_INFINITY,
      })
    }
  }

  /**
   * Finds a server that answers, without sending it anything that matters: a connection into nothing takes minutes to
   * fail. Also tells when a server is another one, or was started anew. With one URL and nobody who wants to know: nothing.
   */
  async #probe(signal: AbortSignal): Promise<void> {
    const { onServerChange, now = () => performance.now() } = this.#options
    if (this.#endpoints === undefined || (this.#endpoints.urls.length === 1 && onServerChange === undefined)) return
    for (let left = this.#endpoints.urls.length; left > 0; left--) {
      const url = this.#url()
      const before = this.#started.get(url)
      let seconds = before?.seconds
      if (before === undefined || now() - before.askedMs >= PROBE_MS) {
        seconds = await this.#startedSeconds(url, signal)
        if (seconds === undefined) {
          if (signal.aborted) return
          this.#endpoints.failed(url)
          continue
        }
        this.#started.set(url, { seconds, askedMs: now() })
        this.#endpoints.answered(url)
      }
      const restarted = before !== undefined && Math.abs(before.seconds - seconds!) > STARTED_SLACK_SECONDS
      const other = this.#lastServer !== undefined && this.#lastServer !== url
      this.#lastServer = url
      if (restarted || other) {
        this.#options.log.warn(
          { server: url, restarted },
          'ClickHouse was started anew, or another server is asked now',
        )
        onServerChange?.()
      }
      return
    }
  }

  /** Unix seconds of the server's start; undefined when it does not answer. */
  async #startedSeconds(url: string, signal: AbortSignal): Promise<number | undefined> {
    const over = AbortSignal.any([signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)])
    try {
      const answer = await unlessAborted(
        this.#clientsOf(url).urgent.query({
          query: 'SELECT toUnixTimestamp(now()) - uptime() AS started',
          format: 'JSON',
          abort_signal: over,
        }),
        over,
        () => {},
      )
      const body = await unlessAborted(answer.json<{ started: number | string }>(), over, () => answer.close())
      return Number(body.data[0]!.started)
    } catch {
      return undefined
    }
  }

  #remember(queryId: string, url: string): void {
    this.#sentTo.set(queryId, url)
    if (this.#sentTo.size > SENT_MAX) this.#sentTo.delete(this.#sentTo.keys().next().value!)
  }

  #url(): string {
    const { url } = this.#options
    return typeof url === 'function' ? url() : this.#endpoints!.current()
  }

  #clientsOf(url: string): Clients {
    let clients = this.#clients.get(url)
    if (clients === undefined) {
      // A URL that can change has one that counts.
      if (this.#endpoints === undefined) void this.close()
      clients = { normal: this.#connect(url, 'normal'), urgent: this.#connect(url, 'urgent') }
      this.#clients.set(url, clients)
    }
    return clients
  }

  #connect(url: string, kind: 'normal' | 'urgent'): ClickHouseClient {
    const { database, username, password, token, connectionsMax, compress = false, tls } = this.#options
    const sockets = kind === 'urgent' ? 2 : (connectionsMax ?? CONNECTIONS_MAX)
    return createClient({
      url,
      // Of a database that is not there yet even CREATE DATABASE would fail.
      ...(kind === 'normal' ? { database } : {}),
      log: { level: LOG_OFF },
      application: 'sidecast',
      ...(token === undefined ? { username, password: password ?? '' } : { access_token: token }),
      // Time limits are per statement, above; this one is for a socket that stays silent longer than any of them.
      request_timeout: kind === 'urgent' ? 10_000 : 3_600_000,
      max_open_connections: sockets,
      compression: { request: compress && { codec: 'zstd', level: 1 }, response: compress && { codec: 'zstd' } },
      ...(tls === undefined || !url.startsWith('https:')
        ? {}
        : { http_agent: tls.agent({ keepAlive: true, maxSockets: sockets, timeout: IDLE_SOCKET_MS }) }),
      keep_alive: { enabled: true, idle_socket_ttl: IDLE_SOCKET_MS },
    })
  }
}

/** `ClickHouseLogLevel.OFF`: errors are thrown to us, and said once by whoever cares. */
const LOG_OFF = 127

interface Clients {
  readonly normal: ClickHouseClient
  /** Connections of its own, so that ending a statement never waits behind statements. */
  readonly urgent: ClickHouseClient
}

interface Run {
  readonly client: ClickHouseClient
  readonly url: string
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
