import type { Outcome } from '../../pipeline/sink.ts'
import type { Format, Transport } from './transport.ts'

/**
 * Lines on their way to a target, in order, in bodies of a bounded size.
 *
 *   lines ─► body ─► taken      next body
 *                    too_large  half of it, down to one line
 *                    refused    counted, next body
 *                    later      stop here; the next attempt begins with the same line
 *
 * What was taken is not sent again by a retry: delta counters and distributions would count twice. After push-back the
 * bodies get smaller, and grow again with each that is taken, as proxies do it.
 */
export interface LineQueue {
  add(format: Format, line: string): void
  /** Lines not settled yet. */
  readonly length: number
  /** Sends until nothing is left or the target wants a pause. */
  drain(transport: Transport, signal: AbortSignal): Promise<Outcome>
}

export interface LineCounters {
  /** Taken by the target. */
  sent: number
  /** Refused by the target for good: malformed to it, or a single line too large. */
  refused: number
  bodies: number
  bytes: number
}

export interface LineQueueOptions {
  readonly counters: LineCounters
  readonly linesMax?: number
  readonly bytesMax?: number
  readonly onRefused?: (lines: number, error: Error) => void
}

/** Of one body: what SDKs and proxies send at once. */
const LINES_MAX = 10_000
/** Uncompressed; a proxy takes 16 MiB. */
const BYTES_MAX = 4 * 1024 * 1024
/** A body is not made smaller by push-back than this. */
const LINES_MIN = 100

export function createLineQueue(options: LineQueueOptions): LineQueue {
  const { counters, linesMax = LINES_MAX, bytesMax = BYTES_MAX, onRefused } = options
  const entries: { readonly format: Format; readonly line: string }[] = []
  let at = 0
  let room = linesMax

  /** How many lines from `at` go into one body: all of one format. */
  function bodyLines(most: number): number {
    const format = entries[at]!.format
    let bytes = 0
    let count = 0
    while (at + count < entries.length && count < most && entries[at + count]!.format === format) {
      bytes += Buffer.byteLength(entries[at + count]!.line)
      if (count > 0 && bytes > bytesMax) break
      count++
    }
    return count
  }

  function refuse(lines: number, error: Error): void {
    counters.refused += lines
    at += lines
    onRefused?.(lines, error)
  }

  return {
    add(format, line) {
      entries.push({ format, line })
    },
    get length() {
      return entries.length - at
    },
    async drain(transport, signal) {
      let most = room
      while (at < entries.length) {
        if (signal.aborted) return { status: 'retry', error: new Error('given up: the process stops') }
        const lines = bodyLines(most)
        const { format } = entries[at]!
        const body = Buffer.from(
          entries
            .slice(at, at + lines)
            .map(({ line }) => line)
            .join(''),
        )
        const sent = await transport.send(format, body, signal)
        if (sent.status === 'taken') {
          counters.sent += lines
          counters.bodies++
          counters.bytes += body.length
          at += lines
          room = Math.min(linesMax, room * 2)
          most = room
        } else if (sent.status === 'too_large') {
          if (lines === 1) refuse(1, sent.error)
          else most = lines >> 1
        } else if (sent.status === 'refused') refuse(lines, sent.error)
        else {
          room = Math.max(Math.min(LINES_MIN, linesMax), Math.min(room, lines) >> 1)
          return {
            status: 'retry',
            error: sent.error,
            ...(sent.afterMs === undefined ? {} : { afterMs: sent.afterMs }),
          }
        }
      }
      return { status: 'accepted' }
    },
  }
}
