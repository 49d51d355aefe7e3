import { createHash } from 'node:crypto'
import { Problem } from './problem.ts'
import { type Interval, type Nanos, TIME_MAX } from './time.ts'

/**
 * Where a page of rows ended, so that the next one goes on there whatever was inserted in between. Rows are in a total
 * order, by a key, the end time and a hash of what they hold; a cursor names the last row by these, and how many rows of
 * just these values were shown, in case there are equal ones.
 */
export interface Cursor {
  /** The interval of the first page: `now` must not move from page to page. */
  readonly interval: Interval
  /** Value of the column that orders: duration in ns, or the end time again. */
  readonly key: bigint
  readonly endTime: Nanos
  readonly tie: bigint
  readonly shown: number
}

/** Changes when the meaning of a cursor does. */
const VERSION = 1

/** `question` is everything that must stay the same from page to page. */
export function writeCursor(cursor: Cursor, question: readonly string[]): string {
  const { interval, key, endTime, tie, shown } = cursor
  const numbers = [interval.from, interval.to, key, endTime, tie].map((value) => value.toString(36))
  const parts = [String(VERSION), ...numbers, String(shown)]
  return Buffer.from([...parts, digestOf(question, parts)].join('.')).toString('base64url')
}

export function readCursor(text: string, question: readonly string[]): Cursor {
  const wrong = (detail: string) =>
    new Problem('bad_cursor', detail, {
      parameter: 'cursor',
      help: 'pass next_cursor as it came, and all other parameters as in the first question',
    })
  const bytes = Buffer.from(text, 'base64url')
  if (bytes.toString('base64url') !== text) throw wrong('the cursor cannot be read')
  const [digest, ...parts] = bytes.toString('latin1').split('.').toReversed()
  const [version, from, to, key, endTime, tie, shown] = parts.reverse()
  if (version !== String(VERSION) || shown === undefined) throw wrong('the cursor cannot be read')
  if (digest !== digestOf(question, parts)) throw wrong('the cursor belongs to another question')
  const numbers = [from, to, key, endTime, tie].map((part) => readBase36(part!))
  if (numbers.some((value) => value === null) || !/^\d{1,5}$/.test(shown)) throw wrong('the cursor cannot be read')
  const [fromTime, toTime, keyValue, endTimeValue, tieValue] = numbers as [bigint, bigint, bigint, bigint, bigint]
  if (fromTime >= toTime || toTime > TIME_MAX || endTimeValue > TIME_MAX) throw wrong('the cursor cannot be read')
  return {
    interval: { from: fromTime, to: toTime },
    key: keyValue,
    endTime: endTimeValue,
    tie: tieValue,
    shown: Number(shown),
  }
}

/** Over the question and the cursor itself: a cursor that was cut or changed is as good as another one. */
function digestOf(question: readonly string[], parts: readonly string[]): string {
  return createHash('sha256')
    .update(JSON.stringify([question, parts]))
    .digest('base64url')
    .slice(0, 16)
}

/** An unsigned number of at most 64 bits; null when it is none. */
function readBase36(text: string): bigint | null {
  if (!/^[0-9a-z]{1,13}$/.test(text)) return null
  let value = 0n
  for (const digit of text) value = value * 36n + BigInt(Number.parseInt(digit, 36))
  return value < 2n ** 64n ? value : null
}
