import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { SidecastError } from '../errors.ts'

/**
 * The embedded engine as this folder uses it: connections on one data directory, each with its own settings and
 * parameters. Opening one costs 0.15 ms, so every statement gets a fresh one and no setting ever leaks to the next.
 */
export interface Connection {
  /** Runs off the event loop. The bytes are in `format` unless the statement has a FORMAT clause of its own. */
  query(sql: string, format: string): Promise<QueryAnswer>
  /** An INSERT without inline data; the engine says how many rows it wrote, those of views included. */
  insert(sql: string): Promise<InsertAnswer>
  /** Only when nothing runs on it: the engine aborts when a connection is closed under a statement. */
  close(): void
}

export interface QueryAnswer {
  readonly bytes: Uint8Array
  readonly elapsedSeconds: number
  readonly resultRows: number
  readonly resultBytes: number
}

export interface InsertAnswer {
  readonly elapsedSeconds: number
  readonly writtenRows: number
  readonly writtenBytes: number
}

export interface Chdb {
  open(directory: string, engineArguments?: readonly string[]): Connection
  readonly version: string
}

interface ChdbPackage {
  readonly Session: new (
    path: string,
    options: { connectionArgs?: readonly string[] },
  ) => {
    readonly connection: unknown
    queryAsync(
      sql: string,
      options: { format: string },
    ): Promise<{ bytes(): Uint8Array; elapsed: number; rowsRead: number; bytesRead: number }>
    close(): void
  }
  version(): { readonly libchdb: string }
}

interface ChdbAddon {
  /** Appends the payload to the statement and tells rows written: with an empty line as payload any INSERT may be run. */
  InsertRawAsyncConnection(
    connection: unknown,
    sql: string,
    payload: Buffer,
    countLines: boolean,
  ): Promise<{ elapsed: number; rowsWritten: number; bytesWritten: number }>
}

/** Whether the optional package is there, without loading its 560 MB library. */
export function chdbInstalled(resolve: (name: string) => string = createRequire(import.meta.url).resolve): boolean {
  try {
    resolve('chdb')
    return true
  } catch {
    return false
  }
}

/** Loads the library. Only the store's child process ever calls this. */
export function loadChdb(): Chdb {
  const require = createRequire(import.meta.url)
  let chdb: ChdbPackage
  let addon: ChdbAddon
  try {
    chdb = require('chdb') as ChdbPackage
    // The package shows its addon's rows-written count for text formats only; the pinned version's loader has it whole.
    const loader = require(join(dirname(require.resolve('chdb')), 'dist/loader.js')) as { loadNative(): ChdbAddon }
    addon = loader.loadNative()
  } catch (error) {
    throw notInstalled(error)
  }
  return {
    version: chdb.version().libchdb,
    open(directory, engineArguments) {
      const session = new chdb.Session(
        directory,
        engineArguments === undefined ? {} : { connectionArgs: engineArguments },
      )
      return {
        async query(sql, format) {
          const result = await session.queryAsync(sql, { format })
          return {
            bytes: result.bytes(),
            elapsedSeconds: result.elapsed,
            resultRows: result.rowsRead,
            resultBytes: result.bytesRead,
          }
        },
        async insert(sql) {
          const result = await addon.InsertRawAsyncConnection(session.connection, sql, EMPTY_LINE, false)
          return {
            elapsedSeconds: result.elapsed,
            writtenRows: result.rowsWritten,
            writtenBytes: result.bytesWritten,
          }
        },
        close: () => session.close(),
      }
    },
  }
}

const EMPTY_LINE = Buffer.from('\n')

export function notInstalled(cause?: unknown): SidecastError {
  return new SidecastError('SC4106', 'the embedded store (npm package chdb) is not installed or does not load', {
    help: 'install it with "npm install chdb" on Linux (glibc) or macOS, or set store.clickhouse.url to a ClickHouse server',
    cause,
  })
}
