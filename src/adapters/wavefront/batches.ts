import type { Outcome } from '../../pipeline/sink.ts'
import type { Line, Transport } from './transport.ts'

/**
 * Lines on their way to a target, in order, in bodies of a bounded size. Lines are made while they are sent: about one body of
 * them is in memory.
 *
 *   lines ─► body ─► taken      next body
 *                    too_large  half of it first, down to one line
 *                    refused    counted, next body
 *                    later      stop here; the next attempt begins with the same lines
 *
 * What was taken is not sent again by a retry: delta counters and distributions would count twice. After push-back the
 * bodies get smaller, and grow again with each that is taken, as proxies do it.
 */
export interface LineQueue {
  /** Sends until nothing is left or the target wants a pause. Rejected when the target refused every single line. */
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
  /** Lines in portions: whatever is made at once. */
  readonly lines: Iterator<readonly Line[]> | AsyncIterator<readonly Line[]>
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
  const { lines, counters, linesMax = LINES_MAX, bytesMax = BYTES_MAX, onRefused } = options
  /** Read, and not settled yet: what one body has, and the rest of a portion. */
  let waiting: Line[] = []
  let ended = false
  let room = linesMax
  let taken = false
  let refusal: Error | null = null

  async function fill(): Promise<void> {
    let bytes = waiting.reduce((sum, { text }) => sum + text.length, 0)
    while (!ended && waiting.length < linesMax && bytes < bytesMax) {
      const next = await lines.next()
      if (next.done === true) {
        ended = true
        return
      }
      for (const line of next.value) {
        waiting.push(line)
        bytes += line.text.length
      }
    }
  }

  /** How many of the waiting ones go into one body: all of one format. */
  function bodyLines(most: number): number {
    const { format } = waiting[0]!
    let bytes = 0
    let count = 0
    while (count < Math.min(waiting.length, most) && waiting[count]!.format === format) {
      bytes += Buffer.byteLength(waiting[count]!.text)
      if (count > 0 && bytes > bytesMax) break
      count++
    }
    return count
  }

  return {
    async drain(transport, signal) {
      let most = room
      for (;;) {
        await fill()
        if (waiting.length === 0) {
          return taken || refusal === null ? { status: 'accepted' } : { status: 'rejected', error: refusal }
        }
        if (signal.aborted) return { status: 'retry', error: new Error('given up: the process stops') }
        const count = bodyLines(most)
        const { format } = waiting[0]!
        const texts = waiting.slice(0, count).map(({ text }) => text)
        const body = Buffer.from(texts.join(''))
        const sent = await transport.send(format, body, signal)
        if (sent.status === 'later') {
          room = Math.max(Math.min(LINES_MIN, linesMax), Math.min(room, count) >> 1)
          const { error, afterMs } = sent
          return { status: 'retry', error, ...(afterMs === undefined ? {} : { afterMs }) }
        }
        if (sent.status === 'too_large' && count > 1) {
          most = count >> 1
          continue
        }
        waiting = waiting.slice(count)
        if (sent.status === 'taken') {
          taken = true
          counters.sent += count
          counters.bodies++
          counters.bytes += body.length
          room = Math.min(linesMax, room * 2)
          most = Math.min(room, most * 2)
        } else {
          refusal ??= sent.error
          counters.refused += count
          onRefused?.(count, sent.error)
        }
      }
    },
  }
}
