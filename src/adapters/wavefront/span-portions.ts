import { type Span, type SpanLog, spanLine } from './lines.ts'
import type { Line } from './transport.ts'
import type { Refusal } from './validate.ts'

/** A span with its logs, and how the line of those reads once the line of the span is known. */
export interface LoggedSpan {
  readonly span: Span
  readonly logs: readonly SpanLog[]
  readonly logsText: (line: string) => string
}

/** Spans of a body: what proxies send on at once. */
const PORTION = 5000

/** Lines in portions of one body each: spans, then their logs. What cannot be a line is told and left out. */
export function* inPortions(
  logged: Iterable<LoggedSpan>,
  onRefused: (refusal: Refusal) => void,
): Generator<readonly Line[]> {
  let spans: Line[] = []
  let details: Line[] = []
  for (const { span, logs, logsText } of logged) {
    const tags = logs.length === 0 ? span.tags : [...span.tags, ['_spanLogs', 'true'] as const]
    const line = spanLine({ ...span, tags })
    if (typeof line !== 'string') {
      onRefused(line)
      continue
    }
    spans.push({ format: 'trace', text: line })
    if (logs.length > 0) details.push({ format: 'spanLogs', text: logsText(line) })
    if (spans.length === PORTION) {
      yield [...spans, ...details]
      spans = []
      details = []
    }
  }
  if (spans.length > 0) yield [...spans, ...details]
}
