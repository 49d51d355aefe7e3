/**
 * Every way a question can fail, as RFC 9457 `application/problem+json`. Codes are stable: clients switch on them.
 * A problem is thrown by parsers and routes, and turned into the answer at one place, the server's error handler.
 */
export const PROBLEMS = {
  bad_parameter: [400, 'A parameter has a value that cannot be used'],
  unknown_parameter: [400, 'There is no such parameter'],
  unknown_column: [400, 'There is no such column'],
  bad_time: [400, 'A time or duration cannot be read'],
  bad_range: [400, 'The interval is empty or out of range'],
  bad_filter: [400, 'A filter cannot be read'],
  bad_body: [400, 'The body cannot be read'],
  bad_objective: [400, 'The objective cannot be used'],
  bad_cursor: [400, 'The cursor does not belong to this question'],
  unauthorized: [401, 'The request lacks a token that is known'],
  forbidden_scope: [403, 'The token does not allow this'],
  forbidden_origin: [403, 'The request comes from another site'],
  not_found: [404, 'There is nothing at this address'],
  method_not_allowed: [405, 'The resource does not have this method'],
  key_in_use: [409, 'A request with this Idempotency-Key is under way'],
  objective_of_file: [409, 'The objective is in a file of the configuration'],
  wrong_position: [409, 'The content is not stored as far as this begins'],
  body_too_large: [413, 'The body is too large'],
  unsupported_media_type: [415, 'The body is of a type that is not read here'],
  nothing_accepted: [422, 'No line could be read'],
  key_reused: [422, 'The Idempotency-Key was used for something else'],
  rows_expired: [422, 'Single requests of that time are no longer kept'],
  needs_rows: [422, 'Only single requests can answer this, not rollups'],
  too_many_series: [422, 'The answer would have too many series'],
  too_many_points: [422, 'The answer would have too many points'],
  too_many_objectives: [422, 'No more objectives are kept'],
  query_timeout: [422, 'The query took longer than allowed'],
  query_memory: [422, 'The query needed more memory than allowed'],
  query_rows: [422, 'The query had to read more rows than allowed'],
  reload_refused: [422, 'The configuration cannot be taken by the running process'],
  too_many_bytes: [429, 'More bytes a second than one sender may send'],
  too_many_queries: [429, 'Too many queries at one time'],
  internal: [500, 'Something is wrong on our side'],
  store_unavailable: [503, 'The store does not answer'],
  not_written: [503, 'What was sent cannot be written to disk'],
  journal_full: [503, 'The journal has no room'],
  stopping: [503, 'The process is stopping'],
} as const satisfies Readonly<Record<string, readonly [status: number, title: string]>>
export type ProblemCode = keyof typeof PROBLEMS

export interface ProblemOptions {
  /** The offending parameter of the request. */
  readonly parameter?: string
  /** What to do about it, one sentence. */
  readonly help?: string
  /** Figures a client can act on, for example the oldest time that works. */
  readonly figures?: Readonly<Record<string, string | number | readonly object[]>>
  /** Seconds, becomes the Retry-After header. */
  readonly retryAfter?: number
  readonly cause?: unknown
}

export interface ProblemBody {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly code: ProblemCode
  readonly detail: string
  readonly parameter?: string
  readonly help?: string
  readonly [figure: string]: string | number | readonly object[] | undefined
}

export class Problem extends Error {
  readonly code: ProblemCode
  readonly status: number
  readonly retryAfter: number | undefined
  readonly #options: ProblemOptions

  constructor(code: ProblemCode, detail: string, options: ProblemOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Problem'
    this.code = code
    this.status = PROBLEMS[code][0]
    this.retryAfter = options.retryAfter
    this.#options = options
  }

  body(): ProblemBody {
    const { parameter, help, figures } = this.#options
    return {
      type: `urn:sidecast:problem:${this.code}`,
      title: PROBLEMS[this.code][1],
      status: this.status,
      code: this.code,
      detail: this.message,
      ...(parameter === undefined ? {} : { parameter }),
      ...(help === undefined ? {} : { help }),
      ...figures,
    }
  }
}

/** Shortens what a client sent before it is repeated in a message. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
