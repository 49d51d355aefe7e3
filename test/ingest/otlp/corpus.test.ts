import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FLAGS } from '../../../src/model/schema.ts'
import { createDecoding, framed } from '../../support/als-decoding.ts'
import type { ReadRow } from '../../support/native-rows.ts'
import { createOtlpDecoding, type OtlpDecoding, SENDER } from '../../support/otlp.ts'

/** What one Envoy 1.40 sent in one run of all scenarios, by ALS and by OTLP, and what the official decoder read in it. */
const fixture = (name: string): Buffer => readFileSync(new URL(`../../fixtures/${name}`, import.meta.url))
const messages = (name: string): Buffer[] => framed(fixture(`${name}.bin`))

interface KeyValue {
  readonly key: string
  readonly value: { readonly string_value: string }
}
interface Resource {
  readonly resource: { readonly attributes: readonly KeyValue[] }
}
interface LogRecord {
  readonly attributes: readonly KeyValue[]
  readonly time_unix_nano: string
  readonly trace_id?: string
  readonly span_id?: string
}
interface Point {
  readonly attributes?: readonly KeyValue[]
  readonly time_unix_nano: string
  readonly as_int?: string
  readonly count?: string
  readonly sum?: number
  readonly bucket_counts?: readonly string[]
  readonly explicit_bounds?: readonly number[]
}
interface Data {
  readonly data_points: readonly Point[]
  readonly aggregation_temporality?: string
}
interface Metric {
  readonly name: string
  readonly gauge?: Data
  readonly sum?: Data
  readonly histogram?: Data
}
interface Span {
  readonly trace_id: string
  readonly span_id: string
  readonly parent_span_id?: string
  readonly name: string
  readonly kind: string
  readonly start_time_unix_nano: string
  readonly end_time_unix_nano: string
  readonly attributes: readonly KeyValue[]
  readonly events?: readonly { readonly name: string; readonly time_unix_nano: string }[]
}
interface Line {
  readonly message: number
  readonly error?: string
  readonly request: {
    readonly resource_logs: readonly (Resource & { scope_logs: readonly { log_records: readonly LogRecord[] }[] })[]
    readonly resource_metrics: readonly (Resource & { scope_metrics: readonly { metrics: readonly Metric[] }[] })[]
    readonly resource_spans: readonly (Resource & { scope_spans: readonly { spans: readonly Span[] }[] })[]
  }
}
const expected = (name: string): Line[] =>
  fixture(`${name}.expected.jsonl`)
    .toString('utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)

/** Requests of one message. */
function requestsOf(decoding: OtlpDecoding, message: Buffer): ReadRow[] {
  const decoded = decoding.decoders.logs.decode(message, 0, message.length, SENDER)
  expect(decoded).toMatchObject({ rejected: 0, malformed: false })
  expect(decoding.writing.writer.commit()).toMatchObject({ added: decoded.items, rejected: 0, cut: 0, untimed: 0 })
  return decoding.writing.take().requests
}

const hexOf = (base64 = ''): string => Buffer.from(base64, 'base64').toString('hex')
const flagsOf = (text: string): bigint =>
  text === '-' ? 0n : text.split(',').reduce((bits, flag) => bits | (1n << BigInt(FLAGS.indexOf(flag as never))), 0n)
const none = (text: string): string => (text === '-' ? '' : text)

describe('access log records that Envoy sent', () => {
  it.each([['otlp/otlp-logs'], ['otlp/otlp-logs-http']])(
    '%s: every value is what the official decoder reads',
    (name) => {
      const decoding = createOtlpDecoding()
      const raw = messages(name)
      let compared = 0
      for (const line of expected(name)) {
        const rows = requestsOf(decoding, raw[line.message]!)
        if (line.error !== undefined) continue
        const records = line.request.resource_logs.flatMap((group) =>
          group.scope_logs.flatMap((scope) => scope.log_records),
        )
        expect(rows.length).toBe(records.length)
        for (const [k, record] of records.entries()) {
          const said = Object.fromEntries(record.attributes.map(({ key, value }) => [key, value.string_value]))
          const row = rows[k]!
          const durationNs = BigInt(said['envoy.duration_ms']!) * 1_000_000n
          const upstreamTime = said['envoy.upstream_service_time_ms']!
          expect(row).toMatchObject({
            source: 'otlp',
            precision_ns: 1_000_000,
            node_id: 'edge-1',
            node_cluster: 'edge',
            zone: 'z1',
            log_name: name === 'otlp/otlp-logs' ? 'edge_otel' : 'edge_otel_http',
            method: none(said['http.request.method']!),
            path: none(said['url.path']!),
            response_code_details: none(said['envoy.response_code_details']!),
            response_flags: flagsOf(said['envoy.response_flags']!),
            upstream_cluster: none(said['envoy.upstream_cluster']!),
            route: none(said['envoy.route_name']!),
            entry_type: said['envoy.access_log_type'],
            user_agent: none(said['user_agent.original']!),
            duration_ns: durationNs,
            end_time: BigInt(record.time_unix_nano) + durationNs,
            response_headers: upstreamTime === '-' ? {} : { 'x-envoy-upstream-service-time': upstreamTime },
            custom_tags: said['envoy.scenario'] === '-' ? {} : { 'envoy.scenario': said['envoy.scenario'] },
          })
          expect(row.response_code).toBe(Number(said['http.response.status_code']) || null)
          expect(String(row.trace_uuid).replaceAll('-', '')).toBe(hexOf(record.trace_id).padStart(32, '0'))
          expect((row.span_number as bigint).toString(16).padStart(16, '0')).toBe(
            hexOf(record.span_id).padStart(16, '0'),
          )
          const id = none(said['envoy.request_id']!)
          expect(id === '' ? row.request_text : row.request_uuid).toBe(id)
          compared++
        }
      }
      expect(compared).toBe(name === 'otlp/otlp-logs' ? 31 : 3)
    },
  )

  it('all of them are accepted, those with bytes that are not UTF-8 as well', () => {
    const decoding = createOtlpDecoding()
    const rows = messages('otlp/otlp-logs').flatMap((message) => requestsOf(decoding, message))
    expect(rows.length).toBe(82)
    // The one user agent that ends in 0xE9: Envoy's own access log service writes `!` there.
    expect(rows.map((row) => row.user_agent).filter((agent) => agent !== '' && /[^ -~]/.test(String(agent)))).toEqual(
      [],
    )
    expect(rows.filter((row) => String(row.user_agent).endsWith('!')).length).toBe(1)
  })

  it('the same requests by ALS say the same, up to the precision of OTLP', () => {
    const als = createDecoding()
    als.feed(...messages('als/als-http'))
    const idOf = (row: ReadRow): string => `${String(row.request_uuid)} ${String(row.request_text)}`
    const byId = new Map(als.take().requests.map((row) => [idOf(row), row]))
    const decoding = createOtlpDecoding()
    const rows = ['otlp/otlp-logs', 'otlp/otlp-logs-http']
      .flatMap(messages)
      .flatMap((message) => requestsOf(decoding, message))
    let compared = 0
    for (const row of rows) {
      const other = byId.get(idOf(row))
      if (other === undefined || idOf(row) === `${NO_UUID} `) continue
      const same = ['response_code', 'response_code_details', 'response_flags', 'outcome', 'route', 'kind']
      // This configuration does not log the gRPC status, which ALS finds in a header.
      if (other.grpc_status === null) same.push('class')
      // ALS has the trace only where a header of the client named it.
      if (other.trace_uuid !== NO_UUID) same.push('trace_uuid')
      for (const column of [...same, 'user_agent', 'entry_type', 'node_id']) {
        expect({ [column]: row[column] }, String(row.request_uuid)).toEqual({ [column]: other[column] })
      }
      const start = (one: ReadRow): bigint => (one.end_time as bigint) - (one.duration_ns as bigint)
      expect(start(row)).toBe(start(other))
      expect((other.duration_ns as bigint) / 1_000_000n).toBe((row.duration_ns as bigint) / 1_000_000n)
      // ALS has no number for PROPFIND, and leaves the cluster out when no host was picked.
      if (other.method !== '') expect(row.method).toBe(other.method)
      if (other.upstream_cluster !== '') expect(row.upstream_cluster).toBe(other.upstream_cluster)
      compared++
    }
    expect(compared).toBe(78)
  })
})

const NO_UUID = '00000000-0000-0000-0000-000000000000'

describe('stats that Envoy sent', () => {
  it('every point is what the official decoder reads, under the name of /stats/prometheus', () => {
    const [line] = expected('otlp/otlp-metrics')
    const message = messages('otlp/otlp-metrics').toSorted((a, b) => a.length - b.length)[0]!
    const decoding = createOtlpDecoding()
    const decoded = decoding.decoders.metrics.decode(message, 0, message.length, SENDER, 1_795_231_456_000)
    const wanted = line!.request.resource_metrics.flatMap((group) =>
      group.scope_metrics.flatMap(({ metrics }) => metrics),
    )
    expect(decoded).toEqual({ items: wanted.length, rejected: 0, reason: '', offset: 0, malformed: false })
    expect(wanted.length).toBe(213)
    for (const [k, metric] of wanted.entries()) {
      const [point] = (metric.gauge ?? metric.sum ?? metric.histogram)!.data_points
      const written = decoding.metrics.written[k]!
      expect(written.series).toBe(
        `envoy-otlp/10.0.0.9 ${metric.name.replaceAll('.', '_')}{${(point!.attributes ?? [])
          .map(({ key, value }) => [key.replaceAll('.', '_'), value.string_value])
          .toSorted()
          .map(([label, value]) => `${label}="${value}"`)
          .join(',')}}`,
      )
      expect(written.timeMs).toBe(Number(BigInt(point!.time_unix_nano) / 1_000_000n))
      if (metric.histogram === undefined) {
        expect(written).toMatchObject({
          write: metric.gauge !== undefined ? 'setGauge' : writeOf(metric.sum!),
          value: Number(point!.as_int),
        })
      } else {
        expect(written.distribution).toMatchObject({
          kind: 'explicit',
          temporality: metric.histogram.aggregation_temporality!.includes('DELTA') ? 'delta' : 'cumulative',
          count: Number(point!.count),
          sum: point!.sum ?? 0,
          bounds: point!.explicit_bounds,
          counts: point!.bucket_counts!.map(Number),
        })
      }
    }
  })

  it('all messages are read, and the same series come again', () => {
    const decoding = createOtlpDecoding()
    let items = 0
    for (const message of messages('otlp/otlp-metrics')) {
      const decoded = decoding.decoders.metrics.decode(message, 0, message.length, SENDER, 1_795_231_456_000)
      expect(decoded.rejected).toBe(0)
      items += decoded.items
    }
    expect(items).toBe(1469)
    expect(decoding.metrics.written.length).toBe(1469)
    expect(decoding.metrics.identities.length).toBe(656)
    expect(decoding.decoders.metrics.counters).toMatchObject({ stale: 0, untimed: 0, cut: 0 })
  })
})

function writeOf(sum: Data): string {
  return sum.aggregation_temporality!.includes('DELTA') ? 'addCounter' : 'setCounter'
}

describe('spans that Envoy sent', () => {
  it('every span is what the official decoder reads', () => {
    const raw = messages('otlp/otlp-traces')
    let compared = 0
    for (const line of expected('otlp/otlp-traces')) {
      const decoding = createOtlpDecoding()
      const message = raw[line.message]!
      const decoded = decoding.decoders.traces.decode(message, 0, message.length, SENDER, 1_795_231_475_000)
      expect(decoded.rejected).toBe(0)
      if (line.error !== undefined) continue
      const wanted = line.request.resource_spans.flatMap((group) => group.scope_spans.flatMap(({ spans }) => spans))
      expect(decoding.spans.length).toBe(wanted.length)
      for (const [k, span] of wanted.entries()) {
        const got = decoding.spans[k]!
        const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
        expect(hex(got.traceId)).toBe(hexOf(span.trace_id))
        expect(hex(got.spanId)).toBe(hexOf(span.span_id))
        expect(hex(got.parentSpanId)).toBe(hexOf(span.parent_span_id ?? ''))
        expect(got).toMatchObject({
          name: span.name,
          kind: span.kind.replace('SPAN_KIND_', '').toLowerCase(),
          service: 'edge',
          scope: 'envoy',
          startNs: BigInt(span.start_time_unix_nano),
          endNs: BigInt(span.end_time_unix_nano),
        })
        const redacted = (text: string): string => text.replace(/=[^&]*/g, '=*')
        expect([...got.attributes]).toEqual(
          span.attributes.map(({ key, value }) => [
            key,
            value.string_value.includes('?') ? redacted(value.string_value) : value.string_value,
          ]),
        )
        const events = (span.events ?? []).map((event) => ({ time_ns: event.time_unix_nano, name: event.name }))
        expect(got.events === '' ? [] : JSON.parse(got.events)).toEqual(events)
        compared++
      }
    }
    expect(compared).toBeGreaterThan(8)
  })

  it('all messages are read', () => {
    const decoding = createOtlpDecoding()
    for (const message of messages('otlp/otlp-traces')) {
      const decoded = decoding.decoders.traces.decode(message, 0, message.length, SENDER, 1_795_231_475_000)
      expect(decoded.rejected).toBe(0)
    }
    expect(decoding.spans.length).toBe(144)
    expect(decoding.decoders.traces.counters).toMatchObject({ untimed: 0, cut: 0 })
  })
})
