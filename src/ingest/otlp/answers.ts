import { BackWriter } from '../../lib/back-writer.ts'
import type { Answer } from './export.ts'

/** Answers on the wire, in protobuf and in JSON. */

/** Tags: fields #1 as a number and as a message, #2 as a text. */
const [NUMBER, PARTIAL_SUCCESS, MESSAGE] = [0x08, 0x0a, 0x12]

/**
 * Export…ServiceResponse: `partial_success` #1 {`rejected_…` #1 int64, `error_message` #2}. The three of them have the same
 * numbers. Empty when all is well.
 */
export function encodeResponse(answer: Extract<Answer, { status: 'ok' }>): Buffer {
  if (answer.rejected === 0) return Buffer.alloc(0)
  const writer = new BackWriter(256)
  writer.text(MESSAGE, answer.message)
  writer.varint(answer.rejected)
  writer.byte(NUMBER)
  writer.end(PARTIAL_SUCCESS, 0)
  return writer.take()
}

const REJECTED_NAMES = { logs: 'rejectedLogRecords', metrics: 'rejectedDataPoints', traces: 'rejectedSpans' } as const

export function jsonResponse(signal: keyof typeof REJECTED_NAMES, answer: Extract<Answer, { status: 'ok' }>): string {
  if (answer.rejected === 0) return '{}'
  // 64-bit numbers are texts in JSON.
  const partialSuccess = { [REJECTED_NAMES[signal]]: String(answer.rejected), errorMessage: answer.message }
  return JSON.stringify({ partialSuccess })
}

/** google.rpc.Status: `code` #1, `message` #2. */
export function encodeStatus(code: number, message: string): Buffer {
  const writer = new BackWriter(256)
  writer.text(MESSAGE, message)
  writer.varint(code)
  writer.byte(NUMBER)
  return writer.take()
}
