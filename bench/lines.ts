import { createAlsDecoder } from '../src/ingest/als/decode.ts'
import { EntryEncoder } from '../src/ingest/entry/encode.ts'
import { AccessEntry } from '../src/ingest/entry/entry.ts'
import { createEntryWriter } from '../src/ingest/entry/writer.ts'
import { compileFormat, isFormatError } from '../src/ingest/lines/format/compile.ts'
import { compileFieldMap } from '../src/ingest/lines/format/fields.ts'
import type { LineParser } from '../src/ingest/lines/parser.ts'
import { createPreset } from '../src/ingest/lines/presets/index.ts'
import { seededRandom } from '../src/lib/random.ts'
import { type BatchBuilder, createBatchBuilder } from '../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../src/model/schema.ts'
import { createRedaction } from '../src/pipeline/redact.ts'
import { ORIGIN, plainResolver } from './support/resolver.ts'

/**
 * What a line of an access log costs: CPU µs from the bytes of the line to the entry (parse), from there to columns
 * (write: encoding and decoding as ALS), and from columns to a Native block (block). No I/O, one thread.
 *
 *     node bench/lines.ts [--seconds 3]
 */
const seconds = Number(process.argv[process.argv.indexOf('--seconds') + 1] || 3)
const LINES = 4096

const ISTIO_TEXT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n'
const ISTIO_JSON = {
  authority: '%REQ(:AUTHORITY)%',
  bytes_received: '%BYTES_RECEIVED%',
  bytes_sent: '%BYTES_SENT%',
  connection_termination_details: '%CONNECTION_TERMINATION_DETAILS%',
  downstream_local_address: '%DOWNSTREAM_LOCAL_ADDRESS%',
  downstream_remote_address: '%DOWNSTREAM_REMOTE_ADDRESS%',
  duration: '%DURATION%',
  method: '%REQ(:METHOD)%',
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  protocol: '%PROTOCOL%',
  request_id: '%REQ(X-REQUEST-ID)%',
  requested_server_name: '%REQUESTED_SERVER_NAME%',
  response_code: '%RESPONSE_CODE%',
  response_code_details: '%RESPONSE_CODE_DETAILS%',
  response_flags: '%RESPONSE_FLAGS%',
  route_name: '%ROUTE_NAME%',
  start_time: '%START_TIME%',
  upstream_cluster: '%UPSTREAM_CLUSTER_RAW%',
  upstream_host: '%UPSTREAM_HOST%',
  upstream_local_address: '%UPSTREAM_LOCAL_ADDRESS%',
  upstream_service_time: '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%',
  upstream_transport_failure_reason: '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
  user_agent: '%REQ(USER-AGENT)%',
  x_forwarded_for: '%REQ(X-FORWARDED-FOR)%',
}

const next = seededRandom(7)
const random = (below: number): number => Math.floor(next() * below)
const hex = (digits: number): string => Array.from({ length: digits }, () => random(16).toString(16)).join('')

/** A request as Istio's sidecars log it: ids and ports are new each time, the rest repeats. */
function fieldsOf(k: number): Record<string, string | number | null> {
  const failed = random(20) === 0
  const service = ['reviews', 'ratings', 'details', 'cart', 'checkout'][random(5)]!
  const ms = random(200)
  return {
    authority: `${service}:9080`,
    bytes_received: random(3) === 0 ? random(5000) : 0,
    bytes_sent: random(100_000),
    connection_termination_details: null,
    downstream_local_address: `10.96.${random(8)}.3:9080`,
    downstream_remote_address: `10.244.0.${random(250)}:${30_000 + random(30_000)}`,
    duration: ms + random(3),
    method: random(4) === 0 ? 'POST' : 'GET',
    path: `/api/v1/${service}/${random(500)}${random(3) === 0 ? `?page=${random(10)}` : ''}`,
    protocol: 'HTTP/1.1',
    request_id: `${hex(8)}-${hex(4)}-4${hex(3)}-9${hex(3)}-${hex(12)}`,
    requested_server_name: null,
    response_code: failed ? 503 : 200,
    response_code_details: failed ? 'upstream_reset_before_response_started{connection_termination}' : 'via_upstream',
    response_flags: failed ? 'UC' : '-',
    route_name: 'default',
    start_time: new Date(1_767_225_600_000 + k * 3).toISOString(),
    upstream_cluster: `outbound|9080||${service}.shop.svc.cluster.local`,
    upstream_host: `10.244.1.${random(40)}:9080`,
    upstream_local_address: `10.244.0.12:${30_000 + random(30_000)}`,
    upstream_service_time: failed ? null : String(ms),
    upstream_transport_failure_reason: null,
    user_agent: 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
    x_forwarded_for: random(2) === 0 ? '203.0.113.9' : null,
  }
}

function textOf(fields: Record<string, string | number | null>): string {
  const f = (name: string): string => String(fields[name] ?? '-')
  return `[${f('start_time')}] "${f('method')} ${f('path')} ${f('protocol')}" ${f('response_code')} ${f('response_flags')} ${f('response_code_details')} - "-" ${f('bytes_received')} ${f('bytes_sent')} ${f('duration')} ${f('upstream_service_time')} "${f('x_forwarded_for')}" "${f('user_agent')}" "${f('request_id')}" "${f('authority')}" "${f('upstream_host')}" ${f('upstream_cluster')} ${f('upstream_local_address')} ${f('downstream_local_address')} ${f('downstream_remote_address')} - ${f('route_name')}`
}

function compiled<T extends object>(result: T | { readonly error: string }): T {
  if (isFormatError(result)) throw new Error(result.error)
  return result as T
}

const requests = Array.from({ length: LINES }, (_, k) => fieldsOf(k))
const cases: readonly { name: string; parser: LineParser; lines: readonly string[] }[] = [
  { name: 'text', parser: compiled(compileFormat(ISTIO_TEXT)), lines: requests.map(textOf) },
  {
    name: 'json',
    parser: compiled(compileFormat({ json_format: ISTIO_JSON })),
    lines: requests.map((r) => JSON.stringify(r)),
  },
  { name: 'json-preset', parser: createPreset('istio-json')!, lines: requests.map((r) => JSON.stringify(r)) },
  { name: 'json-fields', parser: compiled(compileFieldMap()), lines: requests.map((r) => JSON.stringify(r)) },
]

const resolver = plainResolver()
const builders = Object.fromEntries(
  ROW_TABLES.map((table) => [
    table,
    createBatchBuilder({ table, rowsMax: table === 'requests' ? 16_384 : 1024, resolver }),
  ]),
) as Record<RowTable, BatchBuilder>
let blockUs = 0
const decoder = createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => ORIGIN })
const writer = createEntryWriter({
  decoder,
  flush(table) {
    const began = cpu()
    builders[table].seal().encode('0-bench-1')
    builders[table].reset()
    blockUs += cpu() - began
    return true
  },
})

function cpu(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** What `run` costs for each line, in CPU µs: the median and, on a machine with other work, the best. */
function measure(run: () => void): { readonly median: number; readonly best: number } {
  const samples: number[] = []
  const start = performance.now()
  while (performance.now() - start < 1000) run()
  const measured = performance.now()
  while (performance.now() - measured < seconds * 1000 || samples.length < 5) {
    const began = cpu()
    for (let k = 0; k < 8; k++) run()
    samples.push((cpu() - began) / (8 * LINES))
  }
  samples.sort((a, b) => a - b)
  return { median: samples[samples.length >> 1]!, best: samples[0]! }
}

function lineEnds(chunk: Buffer): number[] {
  const ends: number[] = []
  for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) ends.push(at)
  ends.push(chunk.length)
  return ends
}

const round = (us: number): number => Math.round(us * 1000) / 1000
const results = cases.map(({ name, parser, lines }) => {
  // As they are read from a file: bytes of one chunk, a text made of each line.
  const chunk = Buffer.from(lines.join('\n'))
  const ends = lineEnds(chunk)
  const scratch = new AccessEntry()
  const parse = measure(() => {
    let start = 0
    for (const end of ends) {
      if (parser.parse(chunk.toString('utf8', start, end), scratch) !== null) throw new Error('not read')
      scratch.reset()
      start = end + 1
    }
  })
  const origin = { ...ORIGIN, source: parser.source, precisionNs: parser.precisionNs }
  blockUs = 0
  let rows = 0
  const whole = measure(() => {
    let start = 0
    for (const end of ends) {
      if (parser.parse(chunk.toString('utf8', start, end), writer.entry) !== null) throw new Error('not read')
      writer.add(origin)
      start = end + 1
    }
    rows += writer.commit().added
  })
  const block = blockUs / rows
  return {
    name,
    lineBytes: Math.round(chunk.length / LINES),
    parseUs: round(parse.median),
    parseUsBest: round(parse.best),
    blockUs: round(block),
    totalUs: round(whole.median),
    totalUsBest: round(whole.best),
    linesPerCpuSecond: Math.round(1e6 / whole.median),
  }
})
/** Encoding alone: the entry of a line, again and again. */
function encoding(): number {
  const [{ parser, lines }] = cases as readonly [(typeof cases)[number]]
  const encoder = new EntryEncoder(256 << 10)
  const entry = new AccessEntry()
  parser.parse(lines[0]!, entry)
  return measure(() => {
    encoder.reset()
    for (let k = 0; k < LINES; k++) {
      if (encoder.end > 128 << 10) encoder.reset()
      encoder.add(entry)
    }
  }).median
}

console.log(JSON.stringify({ bench: 'lines', node: process.version, encodeUs: round(encoding()), results }))
