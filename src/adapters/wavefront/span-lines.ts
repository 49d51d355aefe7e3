import type { NativeBlockColumns } from '../../model/native-read.ts'
import { PHASES } from '../../model/phases.ts'
import { RowIds } from '../../otlp/row-ids.ts'
import { phasesOf, rowColumn } from '../../pipeline/row-values.ts'
import { STRICT_LIMITS } from './limits.ts'
import { type Span, type SpanLog, spanLogsLine } from './lines.ts'
import { COMPONENT, isError, type NameOptions, spanWho } from './names.ts'
import { inPortions, type LoggedSpan } from './span-portions.ts'
import { sanitiseSpanName, sanitiseValue, type Tags } from './text.ts'
import type { Line } from './transport.ts'
import type { Refusal } from './validate.ts'

/**
 * Requests of a block as spans, one each, and its phases as the logs of the span. Ids are those of the OTLP adapter: they
 * follow from the row, so that a segment that is sent again brings the same spans.
 *
 * A proxy that only speaks for the caller (a sidecar's outbound side, a gateway) makes a client span of the caller; any
 * other a server span of the service called. The span id of the request's headers is the parent.
 */
export interface SpanLinesOptions {
  readonly names: NameOptions
  readonly logs: boolean
  readonly onRefused: (refusal: Refusal) => void
}

/** Lines of rows that `keep` does not leave out (0): spans, then their logs, in portions of one body each. */
export function* spanLines(
  block: NativeBlockColumns,
  keep: Uint8Array,
  options: SpanLinesOptions,
): Generator<readonly Line[]> {
  yield* inPortions(spansOf(block, keep, options), options.onRefused)
}

function* spansOf(
  block: NativeBlockColumns,
  keep: Uint8Array,
  { names, logs }: SpanLinesOptions,
): Generator<LoggedSpan> {
  const read = createSpanReader(block, names)
  for (let row = 0; row < block.rows; row++) {
    if (keep[row] === 0) continue
    const span = read.span(row)
    if (span === null) continue
    const log = logs ? read.logs(row, span) : []
    yield { span, logs: log, logsText: (line) => spanLogsLine(span, log, line) }
  }
}

/** Beside these, `parent` and `_spanLogs` are tags too. */
export const TAGS_MAX = STRICT_LIMITS.spanTags - 2

function createSpanReader(block: NativeBlockColumns, { application, cluster, shard, source }: NameOptions) {
  const text = (name: string) => {
    const column = rowColumn(block, name)
    return (row: number): string => column.text(row)
  }
  const kind = text('kind')
  const reporter = text('reporter')
  const sourceService = text('source_service')
  const sourceWorkload = text('source_workload')
  const nodeCluster = text('node_cluster')
  const destinationService = text('destination_service')
  const method = text('method')
  const route = text('route')
  const pathTemplate = text('path_template')
  const responseClass = text('class')
  const code = text('response_code')
  const rest = REST.map(([tag, name]) => [tag, text(name)] as const)
  const ends = block.bigints('end_time')
  const duration = block.numbers('duration_ns')
  const details = text('response_code_details')
  const phases = phasesOf(block)
  const ids = new RowIds(block)

  return {
    /** Null for what is no request. */
    span(row: number): Span | null {
      if (kind(row) !== 'http') return null
      ids.read(row)
      const who = spanWho({
        reporter: reporter(row),
        sourceService: sourceService(row),
        sourceWorkload: sourceWorkload(row),
        nodeCluster: nodeCluster(row),
        destinationService: destinationService(row),
        method: method(row),
        route: route(row),
        pathTemplate: pathTemplate(row),
      })
      const tags: Tags = [
        ['application', application],
        ['service', who.service],
        ['cluster', cluster],
        ['shard', shard],
        ['component', COMPONENT],
        ['span.kind', who.kind],
        ['http.method', method(row)],
        ['http.status_code', code(row)],
        ['error', isError(responseClass(row)) ? 'true' : ''],
        ...rest.map(([tag, value]) => [tag, value(row)] as const),
      ]
      const durationUs = Math.floor(duration[row]! / 1000)
      return {
        name: sanitiseSpanName(who.operation),
        source,
        traceId: hexOf(ids.trace[0]!, ids.trace[1]!) + hexOf(ids.trace[2]!, ids.trace[3]!),
        spanId: hexOf(ids.serverHigh, ids.serverLow),
        parentSpanId: (ids.parentHigh | ids.parentLow) === 0 ? '' : hexOf(ids.parentHigh, ids.parentLow),
        startUs: Number(ends[row]! / 1000n) - durationUs,
        durationUs,
        tags: fitted(tags),
      }
    },
    /** Where each phase that took time began, and why an answer was none. */
    logs(row: number, span: Span): SpanLog[] {
      const logs: SpanLog[] = []
      if (phases(row)) {
        let at = 0
        PHASES.forEach((phase, k) => {
          const took = phases.values[k]!
          const fields: Tags = [
            ['event', `phase.${phase}`],
            ['duration_ns', String(took)],
          ]
          if (took > 0) logs.push({ timeUs: span.startUs + Math.floor(at / 1000), fields })
          at += took
        })
      }
      if (isError(responseClass(row)) && details(row) !== '') {
        const fields: Tags = [
          ['event', 'error'],
          ['message', details(row).slice(0, FIELD_MAX)],
        ]
        logs.push({ timeUs: span.startUs + span.durationUs, fields })
      }
      return logs
    },
  }
}

/** The keys are ours and fit; values are made to, and what is blank is left out. */
function fitted(tags: Tags): Tags {
  const fitting: [string, string][] = []
  for (const [key, text] of tags) {
    const value = text === '' ? '' : sanitiseValue(text, STRICT_LIMITS.spanTagValue)
    if (value !== '' && fitting.length < TAGS_MAX) fitting.push([key, value])
  }
  return fitting
}

/** Further tags, by column. */
const REST = [
  ['http.path', 'path'],
  ['http.host', 'authority'],
  ['request_id', 'request_id'],
  ['response_flags', 'response_flags'],
  ['upstream_cluster', 'upstream_cluster'],
  ['peer.address', 'upstream_host'],
  ['source_service', 'source_service'],
  ['destination_service', 'destination_service'],
  ['node_id', 'node_id'],
] as const
const FIELD_MAX = 1024

function hexOf(high: number, low: number): string {
  return (high >>> 0).toString(16).padStart(8, '0') + (low >>> 0).toString(16).padStart(8, '0')
}
