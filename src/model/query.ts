/** What the query API needs of a store. The ClickHouse adapter returns an object of this shape; `app.ts` joins the two. */
export interface QueryStore {
  /** Runs one read-only statement. Values are bound as `{name: Type}` parameters, never put into the text. */
  query<Row>(statement: Statement, options: StatementOptions): Promise<QueryResult<Row>>
  /** Rows as they come, for exports. The statement is cancelled when the iteration ends early. */
  stream<Row>(statement: Statement, options: StatementOptions): AsyncIterable<Row[]>
  /** Whether the store answers now. Never throws. */
  ping(signal: AbortSignal): Promise<boolean>
}

export interface Statement {
  readonly sql: string
  readonly params: Readonly<Record<string, unknown>>
}

export interface StatementOptions {
  /** Cancels the statement in the engine too, within a second. */
  readonly signal: AbortSignal
  readonly timeoutMs?: number
  readonly memoryBytesMax?: number
  readonly resultRowsMax?: number
}

export interface QueryResult<Row> {
  readonly rows: Row[]
  readonly rowsRead: number
  readonly bytesRead: number
  readonly elapsedMs: number
}
