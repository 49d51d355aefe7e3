/** What a line is, in the words of `?f=`. */
export type Format = 'wavefront' | 'histogram' | 'trace' | 'spanLogs'

export interface Line {
  readonly format: Format
  /** Ends in LF. */
  readonly text: string
}

/** Takes whole lines to one target. Does not retry: `batches.ts` does. */
export interface Transport {
  /** For people: without credentials. */
  readonly endpoint: string
  /** Lines that end in LF. Expected failures are values; heeds the signal. */
  send(format: Format, body: Buffer, signal: AbortSignal): Promise<Sent>
  close(): void
}

/**
 * taken      the target has the lines, as far as its protocol can say so
 * later      the same lines may be taken later; `afterMs` when the target says how much later
 * too_large  half as many may be taken
 * refused    the same lines will never be taken
 */
export type Sent =
  | { readonly status: 'taken' }
  | { readonly status: 'later' | 'too_large' | 'refused'; readonly error: Error; readonly afterMs?: number }

export const TAKEN: Sent = { status: 'taken' }

export function later(message: string, options: { readonly cause?: unknown; readonly afterMs?: number } = {}): Sent {
  const { cause, afterMs } = options
  return {
    status: 'later',
    error: new Error(message, cause === undefined ? undefined : { cause }),
    ...(afterMs === undefined ? {} : { afterMs }),
  }
}
