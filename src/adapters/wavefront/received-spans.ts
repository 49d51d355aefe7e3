import type { NativeBlockColumns } from '../../model/native-read.ts'
import { SPAN_LOGS_BYTES_MAX } from './limits.ts'
import { type Span, type SpanLog, spanLogsLine } from './lines.ts'
import { COMPONENT, type NameOptions } from './names.ts'
import { type SpanLinesOptions, TAGS_MAX } from './span-lines.ts'
import { inPortions, type LoggedSpan } from './span-portions.ts'
import { sanitiseName, sanitiseSpanKey, sanitiseSpanName, sanitiseSpanTags, type Tags } from './text.ts'
import type { Line } from './transport.ts'

/** Spans that others made and sent here by OTLP, as they came: rows of `spans`. Their events become the logs. */
export function* receivedSpanLines(block: NativeBlockColumns, options: SpanLinesOptions): Generator<readonly Line[]> {
  yield* inPortions(spansOf(block, options), options.onRefused)
}

function* spansOf(block: NativeBlockColumns, { names, logs }: SpanLinesOptions): Generator<LoggedSpan> {
  const read = createReader(block, names)
  for (let row = 0; row < block.rows; row++) {
    const span = read.span(row)
    const log = logs ? read.logs(row) : []
    yield { span, logs: log, logsText: (line) => fittingLogs(span, log, line) }
  }
}

/** Tags that every span has, once: one of the sender's under such a name would count twice. */
const OURS = new Set(['application', 'service', 'cluster', 'shard', 'component', 'span.kind', 'error'])
/** Of one field of a log. */
const FIELD_MAX = 4096

function createReader(block: NativeBlockColumns, { application, cluster, shard, source }: NameOptions) {
  const ends = block.bigints('end_time')
  const duration = block.numbers('duration_ns')
  const traces = block.words('trace_uuid')
  const spans = block.bigints('span_number')
  const parents = block.bigints('parent_number')
  const attributes = block.textMap('attributes')

  function entries(row: number): [string, string][] {
    const { ends: to, keys, value } = attributes
    const found: [string, string][] = []
    for (let k = row === 0 ? 0 : to[row - 1]!; k < to[row]!; k++) found.push([keys.texts[keys.codes[k]!]!, value(k)])
    return found
  }

  return {
    span(row: number): Span {
      const sent = entries(row)
      const durationUs = Math.floor(duration[row]! / 1000)
      const tags: Tags = [
        ['application', application],
        ['service', block.text('service', row) || 'unknown'],
        ['cluster', cluster],
        ['shard', shard],
        ['component', sent.find(([key]) => key === 'component')?.[1] || COMPONENT],
        ['span.kind', block.text('kind', row)],
        ['error', block.text('status', row) === 'error' ? 'true' : ''],
        ...sent.filter(([key]) => !OURS.has(sanitiseSpanKey(key))),
      ]
      return {
        name: sanitiseSpanName(block.text('name', row)),
        source,
        // Each half of the id stands with its low word first.
        traceId: [1, 0, 3, 2].map((k) => traces[4 * row + k]!.toString(16).padStart(8, '0')).join(''),
        spanId: spans[row]!.toString(16).padStart(16, '0'),
        parentSpanId: parents[row] === 0n ? '' : parents[row]!.toString(16).padStart(16, '0'),
        startUs: Number(ends[row]! / 1000n) - durationUs,
        durationUs,
        tags: sanitiseSpanTags(tags).slice(0, TAGS_MAX),
      }
    },
    logs(row: number): SpanLog[] {
      const text = block.text('events', row)
      if (text === '') return []
      const logs: SpanLog[] = []
      for (const { time_ns: time, name, attributes: fields } of JSON.parse(text) as StoredEvent[]) {
        // Links have no time, and no place here.
        if (time === undefined) continue
        const pairs: Tags = Object.entries(fields ?? {}).map(
          ([key, value]) => [sanitiseName(key), value.slice(0, FIELD_MAX)] as const,
        )
        logs.push({ timeUs: Number(BigInt(time) / 1000n), fields: [...pairs, ['event', name ?? '']] })
      }
      return logs
    },
  }
}

/** As `ingest/otlp/traces.ts` writes it. */
interface StoredEvent {
  readonly time_ns?: string
  readonly name?: string
  readonly attributes?: Readonly<Record<string, string>>
}

/** Half of the logs, and half of that, until the line is not too long for the service. */
function fittingLogs(span: Span, logs: readonly SpanLog[], line: string): string {
  for (let count = logs.length; ; count >>= 1) {
    const text = spanLogsLine(span, logs.slice(0, count), line)
    if (count === 0 || Buffer.byteLength(text) <= SPAN_LOGS_BYTES_MAX) return text
  }
}
