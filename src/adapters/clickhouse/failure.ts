import { SidecastError } from '../../errors.ts'

/**
 * What a failed statement means for the one who sent it.
 *
 * unreachable  no answer: connection refused, cut or timed out. An INSERT may have happened, in whole or in part
 * busy         the engine answered that it cannot now; later it may
 * refused      the same statement will always fail
 * ended        cancelled by us or by someone else
 */
export type FailureKind = 'unreachable' | 'busy' | 'refused' | 'ended'

/** Codes of ClickHouse's `src/Common/ErrorCodes.cpp` that go away by waiting. */
const BUSY = new Set([
  3, // UNEXPECTED_END_OF_FILE
  23, // CANNOT_READ_FROM_FILE_DESCRIPTOR
  74, // CANNOT_READ_FROM_FILE_DESCRIPTOR of a disk
  75, // CANNOT_WRITE_TO_FILE_DESCRIPTOR
  159, // TIMEOUT_EXCEEDED
  160, // TOO_SLOW
  202, // TOO_MANY_SIMULTANEOUS_QUERIES
  203, // NO_FREE_CONNECTION
  209, // SOCKET_TIMEOUT
  210, // NETWORK_ERROR
  225, // NO_ZOOKEEPER
  241, // MEMORY_LIMIT_EXCEEDED
  242, // TABLE_IS_READ_ONLY
  243, // NOT_ENOUGH_SPACE
  252, // TOO_MANY_PARTS
  254, // NO_ACTIVE_REPLICAS
  279, // ALL_CONNECTION_TRIES_FAILED
  285, // TOO_FEW_LIVE_REPLICAS
  286, // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
  319, // UNKNOWN_STATUS_OF_INSERT
  341, // UNFINISHED
  425, // SYSTEM_ERROR
  439, // CANNOT_SCHEDULE_TASK
  473, // DEADLOCK_AVOIDED
  999, // KEEPER_EXCEPTION
])
/** Codes that say the data itself cannot be read or stored: the same bytes will never be taken. */
const POISON = new Set([
  6, // CANNOT_PARSE_TEXT
  27, // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  33, // CANNOT_READ_ALL_DATA
  38, // CANNOT_PARSE_DATE
  41, // CANNOT_PARSE_DATETIME
  49, // LOGICAL_ERROR, as the reader of Native blocks reports broken ones
  72, // CANNOT_PARSE_NUMBER
  117, // INCORRECT_DATA
  128, // TOO_LARGE_ARRAY_SIZE
  131, // TOO_LARGE_STRING_SIZE
])
/** Codes that say this replica cannot, and another one of the same shard perhaps can. */
const REPLICA = new Set([
  225, // NO_ZOOKEEPER
  242, // TABLE_IS_READ_ONLY
  243, // NOT_ENOUGH_SPACE
  999, // KEEPER_EXCEPTION
])
const ENDED = new Set([236, 394]) // ABORTED, QUERY_WAS_CANCELLED
const NO_SPACE_LEFT = /No space left on device|errno: 28\b/

/** ClickHouse's exception code behind an error; undefined when the engine did not answer. */
export function exceptionCode(error: unknown): number | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ('code' in at && typeof at.code === 'string' && /^\d+$/.test(at.code)) return Number(at.code)
  }
  return undefined
}

export function failureKind(error: unknown): FailureKind {
  const code = exceptionCode(error)
  if (code === undefined) return isAbort(error) ? 'ended' : 'unreachable'
  if (ENDED.has(code)) return 'ended'
  if (BUSY.has(code)) return 'busy'
  // The text decides where a code has two meanings: one of them passes when space is made.
  return NO_SPACE_LEFT.test(messageOf(error)) ? 'busy' : 'refused'
}

/** The server answered that it cannot, for reasons of its own: another replica of the same shard is asked. */
export function isReplicaFailure(error: unknown): boolean {
  const code = exceptionCode(error)
  return code !== undefined && REPLICA.has(code)
}

/** The data of an insert is at fault, not the engine, its tables or its settings. */
export function isPoison(error: unknown): boolean {
  const code = exceptionCode(error)
  return code !== undefined && POISON.has(code) && !NO_SPACE_LEFT.test(messageOf(error))
}

/** The engine's disk is full. */
export function isDiskFull(error: unknown): boolean {
  return exceptionCode(error) === 243 || NO_SPACE_LEFT.test(messageOf(error))
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || /aborted/i.test(error.message))
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Errors of this folder: SC4103 with ClickHouse's own error as its cause. */
export function storeError(error: unknown, what: string): SidecastError {
  if (error instanceof SidecastError) return error
  return new SidecastError(isDiskFull(error) ? 'SC4104' : 'SC4103', `${what}: ${firstLine(messageOf(error))}`, {
    cause: error,
  })
}

/** The engine's messages can hold the whole statement; a log line and an answer hold a part. */
function firstLine(text: string): string {
  const line = text.split('\n', 1)[0]!
  return line.length > 500 ? `${line.slice(0, 500)}…` : line
}
