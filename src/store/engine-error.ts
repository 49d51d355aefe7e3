/** An exception of the engine, or one that we answer in its place in the same words. */
export class EngineError extends Error {
  /** ClickHouse's exception code; 1002 (UNKNOWN_EXCEPTION) where the engine gave none. */
  readonly code: number

  constructor(code: number, message: string, options?: { readonly cause: unknown }) {
    super(message, options)
    this.name = 'EngineError'
    this.code = code
  }
}

/** The codes that this folder uses itself; names and numbers are those of ClickHouse's `src/Common/ErrorCodes.cpp`. */
export const CODE = {
  CANNOT_READ_ALL_DATA: 33,
  BAD_ARGUMENTS: 36,
  NOT_IMPLEMENTED: 48,
  SYNTAX_ERROR: 62,
  UNKNOWN_SETTING: 115,
  TIMEOUT_EXCEEDED: 159,
  READONLY: 164,
  TOO_MANY_SIMULTANEOUS_QUERIES: 202,
  QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING: 216,
  ABORTED: 236,
  TOO_MANY_BYTES: 307,
  NOT_ENOUGH_SPACE: 243,
  QUERY_WAS_CANCELLED: 394,
  SETTING_CONSTRAINT_VIOLATION: 452,
  AUTHENTICATION_FAILED: 516,
  UNKNOWN_EXCEPTION: 1002,
} as const
export type CodeName = keyof typeof CODE

/** An error in the engine's own words: `Code: 62. DB::Exception: … (SYNTAX_ERROR)`. */
export function engineError(name: CodeName, message: string, cause?: unknown): EngineError {
  const text = `Code: ${CODE[name]}. DB::Exception: ${message}. (${name})`
  return new EngineError(CODE[name], text, cause === undefined ? undefined : { cause })
}

/** What a rejected call of the engine means. */
export function asEngineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error
  const message = error instanceof Error ? error.message : String(error)
  if ((error as NodeJS.ErrnoException).code === 'ENOSPC') {
    return engineError('NOT_ENOUGH_SPACE', 'No space left on device', error)
  }
  const code = /^Code: (\d+)\./.exec(message)?.[1]
  return code === undefined
    ? engineError('UNKNOWN_EXCEPTION', message, error)
    : new EngineError(Number(code), message, { cause: error })
}

/**
 * The HTTP status of an exception, from ClickHouse's `src/Server/HTTP/exceptionCodeToHTTPStatus.cpp`. Two differences:
 * too many statements are 503 and a body over its limit is 413 here, so that clients know what to do.
 */
export function httpStatusOf(code: number): number {
  return STATUS.get(code) ?? 500
}

const STATUS: ReadonlyMap<number, number> = new Map(
  Object.entries({
    400: [6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676],
    401: [194],
    403: [192, 193, 497, 512, 516],
    404: [46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511],
    408: [159],
    411: [381],
    413: [229, 307],
    415: [779],
    501: [48],
    503: [76, 202, 209, 439],
  }).flatMap(([status, codes]) => codes.map((code) => [code, Number(status)] as const)),
)
