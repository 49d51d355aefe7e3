import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { compileJsonFormat } from '../../../../src/ingest/lines/format/json.ts'
import { compileTextFormat } from '../../../../src/ingest/lines/format/text.ts'
import { createDecoding, framed } from '../../../support/als-decoding.ts'
import { parserOf, rowsOfLines } from '../../../support/line-rows.ts'
import type { ReadRow } from '../../../support/native-rows.ts'

/**
 * Lines that an Envoy 1.40 wrote to files, against the ALS entries that the same Envoy sent of the same requests: rows are
 * equal up to the precision of the format.
 */
const lines = (name: string): string[] =>
  readFileSync(new URL(`../../../fixtures/lines/${name}`, import.meta.url), 'utf8')
    .trim()
    .split('\n')

const point = (name: string): string => `%COMMON_DURATION(DS_RX_BEG:${name}:us)%`
const JSON_FORMAT = {
  start_time: '%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%',
  access_log_type: '%ACCESS_LOG_TYPE%',
  scenario: '%REQ(X-SCENARIO)%',
  seq: '%REQ(X-SEQ)%',
  method: '%REQ(:METHOD)%',
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  authority: '%REQ(:AUTHORITY)%',
  protocol: '%PROTOCOL%',
  upstream_protocol: '%UPSTREAM_PROTOCOL%',
  response_code: '%RESPONSE_CODE%',
  response_code_details: '%RESPONSE_CODE_DETAILS%',
  response_flags: '%RESPONSE_FLAGS%',
  response_flags_long: '%RESPONSE_FLAGS_LONG%',
  connection_termination_details: '%CONNECTION_TERMINATION_DETAILS%',
  upstream_transport_failure_reason: '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
  bytes_received: '%BYTES_RECEIVED%',
  bytes_sent: '%BYTES_SENT%',
  duration: '%DURATION%',
  upstream_service_time: '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%',
  served_us: '%RESP(X-SERVED-US)%',
  upstream_host: '%UPSTREAM_HOST%',
  upstream_cluster: '%UPSTREAM_CLUSTER_RAW%',
  route_name: '%ROUTE_NAME%',
  listener: '%LISTENER_NAME%',
  downstream: '%DOWNSTREAM_REMOTE_ADDRESS%',
  attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
  user_agent: '%REQ(USER-AGENT)%',
  request_id: '%REQ(X-REQUEST-ID)%',
  stream_id: '%STREAM_ID%',
  trace_id: '%TRACE_ID%',
  grpc_status: '%GRPC_STATUS_NUMBER%',
  t_rx_end_us: point('DS_RX_END'),
  t_us_tx_beg_us: point('US_TX_BEG'),
  t_us_tx_end_us: point('US_TX_END'),
  t_us_rx_beg_us: point('US_RX_BEG'),
  t_us_rx_end_us: point('US_RX_END'),
  t_ds_tx_beg_us: point('DS_TX_BEG'),
  t_ds_tx_end_us: point('DS_TX_END'),
}
const ENVOY_DEFAULT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'

const all = (rows: Record<string, ReadRow[]>): ReadRow[] => Object.values(rows).flat()

function alsRows(): ReadRow[] {
  const decoding = createDecoding()
  for (const kind of ['http', 'tcp']) {
    decoding.feed(...framed(readFileSync(new URL(`../../../fixtures/als/als-${kind}.bin`, import.meta.url))))
  }
  return all(decoding.take())
}

const MS = 1_000_000n
/**
 * A byte that is not UTF-8 is `!` in ALS, its Latin-1 letter in JSON, and itself in text. Blanks of reasons are `_` in
 * both kinds of lines.
 */
const columns = (row: ReadRow, names: readonly string[]): ReadRow =>
  Object.fromEntries(
    names.map((name) => {
      const value = row[name]!
      if (name === 'user_agent') return [name, (value as string).replace(/[\u0080-\uffff]/g, '!')]
      return [name, /failure|details/.test(name) ? (value as string).replaceAll(' ', '_') : value]
    }),
  )
const startOf = (row: ReadRow): bigint => (row.end_time as bigint) - (row.duration_ns as bigint)
const streamOf = (row: ReadRow): string =>
  row.stream_is_request === 1
    ? (row.request_uuid as string)
    : `${row.stream_uuid as string}${row.stream_text as string}`
const keyOf = (row: ReadRow): string => [streamOf(row), row.downstream_remote_port, row.entry_type].join(' ')

/** Columns that both have, and that must be the same. */
const EQUAL = [
  'kind',
  'entry_type',
  'method',
  'protocol',
  'authority',
  'response_code',
  'response_code_details',
  'response_flags',
  'unauthorized_reason',
  'outcome',
  'class',
  'attempts',
  'connection_termination_details',
  'upstream_transport_failure',
  'request_body_bytes',
  'response_body_bytes',
  'route',
  'upstream_cluster',
  'upstream_remote_address',
  'upstream_remote_port',
  'downstream_remote_address',
  'downstream_remote_port',
  'user_agent',
  'request_uuid',
  'request_text',
  'trace_uuid',
]
const POINTS = [
  't_rx_end',
  't_up_tx_begin',
  't_up_tx_end',
  't_up_rx_begin',
  't_up_rx_end',
  't_down_tx_begin',
  't_down_tx_end',
]

test('JSON lines and ALS entries of the same requests give the same rows', () => {
  const parser = parserOf(compileJsonFormat(JSON_FORMAT))
  const candidates = new Map<string, ReadRow[]>()
  for (const row of alsRows()) candidates.set(keyOf(row), [...(candidates.get(keyOf(row)) ?? []), row])
  let compared = 0
  const written = lines('access-json.log')
  const rows = all(rowsOfLines(parser, written))
  expect(rows).toHaveLength(written.length)
  for (const row of rows) {
    // Periodic entries and attempts have one stream and type: they are told apart by their times.
    const als = candidates
      .get(keyOf(row))
      ?.find(
        (other) => near(other.duration_ns as bigint, row.duration_ns as bigint) && near(startOf(other), startOf(row)),
      )
    if (als === undefined) continue
    const wanted = columns(als, EQUAL)
    // A trace id that no logged header had.
    if (als.trace_uuid === '00000000-0000-0000-0000-000000000000') wanted.trace_uuid = row.trace_uuid!
    // ALS has the cluster of the chosen host; lines have that of the route, also when there was no host.
    if (als.upstream_cluster === '' && als.upstream_remote_address === '')
      wanted.upstream_cluster = row.upstream_cluster!
    expect(columns(row, EQUAL)).toEqual(wanted)
    expect(row.path).toBe(als.original_path === '' ? als.path : als.original_path)
    // Without trailers in the log the status is not in ALS.
    if (als.grpc_status !== null) expect(row.grpc_status).toBe(als.grpc_status)
    expect(row).toMatchObject({ source: 'json', precision_ns: 1_000_000 })
    expect(startOf(als) - startOf(row)).toBeGreaterThanOrEqual(0n)
    expect(startOf(als) - startOf(row)).toBeLessThan(1000n)
    for (const name of POINTS) {
      if (als[name] === null) expect(row[name], name).toBeNull()
      else {
        expect((als[name] as bigint) - (row[name] as bigint), name).toBeGreaterThanOrEqual(0n)
        expect((als[name] as bigint) - (row[name] as bigint), name).toBeLessThan(1000n)
      }
    }
    compared++
  }
  expect(compared).toBeGreaterThan(100)
})

test('text lines and JSON lines of the same requests give the same rows, but for what the text does not say', () => {
  const parser = parserOf(compileTextFormat(ENVOY_DEFAULT))
  const written = lines('access-text.log')
  const text = all(rowsOfLines(parser, written))
  expect(text).toHaveLength(written.length)
  const json = new Map<string, ReadRow>()
  for (const row of rowsOfLines(parserOf(compileJsonFormat(JSON_FORMAT)), lines('access-json.log')).requests) {
    if (row.request_uuid !== '00000000-0000-0000-0000-000000000000') json.set(row.request_uuid as string, row)
  }
  const same = EQUAL.filter((name) => {
    return !/^(entry_type|response_code_details|outcome|class|attempts|connection_|route|upstream_cluster|downstream_|trace_|upstream_transport|unauthorized)/.test(
      name,
    )
  })
  let compared = 0
  for (const row of text) {
    const other = json.get(row.request_uuid as string)
    if (other === undefined || !near(other.duration_ns as bigint, row.duration_ns as bigint)) continue
    expect(columns(row, same)).toEqual(columns(other, same))
    expect(row.path).toBe(other.path)
    expect(row.t_up_rx_begin).toBeNull()
    expect(row).toMatchObject({ source: 'text', precision_ns: 1_000_000 })
    expect(startOf(other) - startOf(row)).toBeGreaterThanOrEqual(0n)
    expect(startOf(other) - startOf(row)).toBeLessThan(MS)
    compared++
  }
  expect(compared).toBeGreaterThan(70)
})

/** Cut to ms, on one side or on both. */
function near(a: bigint, b: bigint): boolean {
  const difference = a > b ? a - b : b - a
  return difference < MS
}
