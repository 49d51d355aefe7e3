import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { Statement } from '../../model/query.ts'
import type { ClickHouse, ExecuteOptions } from './client.ts'
import { quoteName } from './ddl.ts'
import { failureKind } from './failure.ts'
import { fileSource } from './stored.ts'

/**
 * Puts a file of Native blocks into a table. The embedded engine reads the file itself; to a server its bytes are sent as
 * they are, without being looked at. Either way all rows of a partition become one part, which is there or not.
 */
export interface Inserts {
  /** Resolves when the engine said yes. After a throw nothing is known: see `quiet`. */
  file(file: InsertFile, signal: AbortSignal): Promise<void>
  /** The same for an INSERT … SELECT from other tables. */
  select(statement: Statement, options: Omit<ExecuteOptions, 'queryId'>): Promise<void>
  /** True when no INSERT of ours whose end was not learnt can still be running. Ask before looking up what is stored. */
  quiet(signal: AbortSignal): Promise<boolean>
}

export interface InsertFile {
  readonly table: string
  readonly path: string
  readonly columns: readonly string[]
  /** Names and types of the file's columns; blocks may lack some. */
  readonly structure: string
  /** Of the table; the client's own when absent. */
  readonly database?: string
  /**
   * What goes into `columns`, where that is not the file's columns of the same names: as many expressions over those of
   * the file and over `computed`, `expression AS name`.
   */
  readonly select?: { readonly expressions: readonly string[]; readonly computed: readonly string[] }
  /** Take only rows of these; all when absent. */
  readonly only?: { readonly condition: string; readonly params: Readonly<Record<string, unknown>> }
  /** `insert_deduplication_token`. */
  readonly token: string
  readonly timeoutMs: number
  /** Keeps the file as it is until the returned function is called. */
  readonly hold?: () => () => void
}

export interface InsertsOptions {
  readonly clickhouse: ClickHouse
  /** The engine is on this machine and may read our files. */
  readonly readsFiles: boolean
  /**
   * A statement is over some time after its `max_execution_time`, also where nobody can be asked about it: its server is
   * gone for good, and another one of the same data took its place.
   */
  readonly endsByItself?: boolean
  /** Monotonic, ms. */
  readonly now?: () => number
}

interface Unfinished {
  /** Gives its file free. */
  readonly release: (() => void) | undefined
  readonly overMs: number
}

const DEFAULT_TIMEOUT_MS = 30_000
/** What a server may take longer than `max_execution_time`: the last block, and the commit in Keeper with its retries. */
const OVER_MARGIN_MS = 60_000

/** One part for each partition of an insert: larger than any segment (1 048 576 rows, 64 MiB). */
const ONE_BLOCK = { min_insert_block_size_rows: 4_000_000, min_insert_block_size_bytes: 2 ** 30 }
const INSERT_SETTINGS = {
  ...ONE_BLOCK,
  // One segment at a time on one thread: the engine's other threads are for queries and merges.
  max_threads: 1,
  max_insert_threads: 1,
  // Adding up rows of one key is the merges' work; doing it on insert as well costs more than the insert.
  optimize_on_insert: 0,
}

export function createInserts(options: InsertsOptions): Inserts {
  const { clickhouse, readsFiles, endsByItself = false, now = () => performance.now() } = options
  const prefix = `insert-${randomBytes(6).toString('hex')}`
  let statements = 0
  /** Statements whose end we did not learn. */
  const unfinished = new Map<string, Unfinished>()

  async function file(file: InsertFile, signal: AbortSignal): Promise<void> {
    const options: ExecuteOptions = {
      signal,
      timeoutMs: file.timeoutMs,
      settings: {
        ...INSERT_SETTINGS,
        insert_deduplication_token: file.token,
        max_execution_time: Math.ceil(file.timeoutMs / 1000),
      },
    }
    await tracked({ release: file.hold?.(), timeoutMs: file.timeoutMs }, async (queryId) => {
      if (readsFiles && !GLOB.test(file.path)) {
        await clickhouse.execute(fromFile(clickhouse.database, file), { ...options, queryId })
      } else {
        const body = createReadStream(file.path)
        await clickhouse.insert(fromBody(clickhouse.database, file), body, { ...options, queryId })
      }
    })
  }

  async function select(statement: Statement, options: Omit<ExecuteOptions, 'queryId'>): Promise<void> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS } = options
    await tracked({ timeoutMs }, (queryId) => clickhouse.execute(statement, { ...options, timeoutMs, queryId }))
  }

  async function tracked(
    of: { readonly release?: (() => void) | undefined; readonly timeoutMs: number },
    work: (queryId: string) => Promise<void>,
  ): Promise<void> {
    const queryId = `${prefix}-${++statements}`
    unfinished.set(queryId, { release: of.release, overMs: now() + of.timeoutMs + OVER_MARGIN_MS })
    try {
      await work(queryId)
    } catch (error) {
      // The engine's own answer is the end of the statement; anything else is not.
      if (failureKind(error) === 'busy' || failureKind(error) === 'refused') finish(queryId)
      throw error
    }
    finish(queryId)
  }

  function finish(queryId: string): void {
    unfinished.get(queryId)?.release?.()
    unfinished.delete(queryId)
  }

  async function quiet(signal: AbortSignal): Promise<boolean> {
    for (const [queryId, { overMs }] of [...unfinished]) {
      const over = endsByItself && now() > overMs
      if (!over && !(await clickhouse.end(queryId, signal))) return false
      finish(queryId)
    }
    return true
  }

  return { file, select, quiet }
}

/** Signs that `file()` would read as a pattern. */
const GLOB = /[*?{}[\]]/

function fromFile(database: string, file: InsertFile): Statement {
  return {
    sql: `${into(database, file)} ${select(file, fileSource(file.path, file.structure))}${where(file)}`,
    params: file.only?.params ?? {},
  }
}

function into(database: string, file: InsertFile): string {
  return `INSERT INTO ${quoteName(file.database ?? database)}.${file.table} (${file.columns.join(', ')})`
}

function select(file: InsertFile, source: string): string {
  if (file.select === undefined) return `SELECT ${file.columns.join(', ')} FROM ${source}`
  const { expressions, computed } = file.select
  const rows = computed.length === 0 ? source : `(SELECT *, ${computed.join(', ')} FROM ${source})`
  return `SELECT ${expressions.join(', ')} FROM ${rows}`
}

function fromBody(database: string, file: InsertFile): Statement {
  if (file.only === undefined && file.select === undefined) {
    return { sql: `${into(database, file)} FORMAT Native`, params: {} }
  }
  const structure = file.structure.replaceAll('\\', '\\\\').replaceAll("'", "\\'")
  return {
    sql: `${into(database, file)} ${select(file, `input('${structure}')`)}${where(file)} FORMAT Native`,
    params: file.only?.params ?? {},
  }
}

const where = (file: InsertFile): string => (file.only === undefined ? '' : ` WHERE ${file.only.condition}`)
