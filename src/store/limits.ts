/** Everything of the store that is bounded. The numbers in `DEFAULT_LIMITS` are for two cores and 2 GiB. */
export interface StoreLimits {
  /** Memory of the whole engine, bytes; statements that would pass it fail, merges wait. */
  readonly memoryBytesMax: number
  /** Most memory of one statement, bytes; no caller can raise it. */
  readonly statementMemoryBytesMax: number
  /** Longest time of a reader's statement, ms; no reader can raise it. */
  readonly readMsMax: number
  /** Longest time of a writer's statement, ms: an insert of one segment takes well below a second, a migration more. */
  readonly writeMsMax: number
  /** Most bytes of one result, as the engine counts them; it is on disk until the client has it. */
  readonly resultBytesMax: number
  /** Most bytes of one request body after decompression; inserts are on disk until they are done. */
  readonly bodyBytesMax: number
  /** Statements that run at one time: of the reader, inserts, and other statements of the writer. */
  readonly readsMax: number
  readonly insertsMax: number
  readonly adminMax: number
  /** Statements of each of these kinds that may wait, and for how long; above that the answer is 503. */
  readonly waitingMax: number
  readonly waitMsMax: number
  /** Threads of one statement and of all merges. */
  readonly threadsMax: number
  readonly mergeThreads: number
}

const MIB = 1024 * 1024

export const DEFAULT_LIMITS: StoreLimits = {
  memoryBytesMax: 2048 * MIB,
  statementMemoryBytesMax: 1024 * MIB,
  readMsMax: 30_000,
  writeMsMax: 600_000,
  resultBytesMax: 1024 * MIB,
  bodyBytesMax: 1024 * MIB,
  readsMax: 4,
  insertsMax: 2,
  adminMax: 2,
  waitingMax: 64,
  waitMsMax: 30_000,
  threadsMax: 2,
  mergeThreads: 2,
}

/**
 * The engine's time limit comes so much later than ours. Ours ends a statement by KILL QUERY and answers with an error
 * whatever the engine says; the engine's own, when it strikes just before the end, leaves out the last blocks and
 * answers as if all were well (seen with 26.7: 61 of 62 blocks, status OK).
 */
export const TIME_GRACE_MS = 5000

/** For our own KILL QUERY, which must never wait behind anything. */
export const CONTROL_STATEMENTS = 1
/** For pings, and for callers that look for their statements or end them. */
export const URGENT_STATEMENTS = 2

/** Limits that fit together: one statement has half the memory of the engine unless it is said otherwise. */
export function limitsOf(given: Partial<StoreLimits>): StoreLimits {
  const limits = { ...DEFAULT_LIMITS, ...given }
  const statementMemoryBytesMax = Math.min(limits.statementMemoryBytesMax, Math.floor(limits.memoryBytesMax / 2))
  return { ...limits, statementMemoryBytesMax: given.statementMemoryBytesMax ?? statementMemoryBytesMax }
}

/**
 * Threads of the child's libuv pool: a statement holds one while it runs; four more are for its files. With fewer a
 * KILL would wait for the very statement that it is to end.
 */
export function threadPoolSize(limits: StoreLimits): number {
  return limits.readsMax + limits.insertsMax + limits.adminMax + URGENT_STATEMENTS + CONTROL_STATEMENTS + 4
}
