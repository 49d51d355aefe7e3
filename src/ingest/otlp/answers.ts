import type { Answer } from './export.ts'
import { ReverseWriter } from './reverse-writer.ts'

/** Answers on the wire, in protobuf and in JSON. */

/**
 * Export…ServiceResponse: `partial_success` #1 {`rejected_…` #1 int64, `error_message` #2}. The three of them have the same
 * numbers. Empty when all is well.
 */
export function encodeResponse(answer: Extract<Answer, { status: 'ok' }>): Buffer {
  if (answer.rejected === 0) return Buffer.alloc(0)
  const writer = new ReverseWriter(256)
  writer.text(2, answer.message)
  writer.varint(answer.rejected)
  writer.tag(1, 0)
  writer.delimited(1, 0)
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
  const writer = new ReverseWriter(256)
  writer.text(2, message)
  writer.varint(code)
  writer.tag(1, 0)
  return writer.take()
}
