import protobuf from 'protobufjs'
import { expect, test } from 'vitest'
import { encodeMessage, type LogEntry } from '../../src/demo/als-encode.ts'

/** The part of Envoy's schema that the encoder writes, read by another library. */
const { root } = protobuf.parse(
  `
  syntax = "proto3";
  message Message { Identifier identifier = 1; Entries http_logs = 2; }
  message Identifier { Node node = 1; string log_name = 2; }
  message Node { string id = 1; string cluster = 2; Struct metadata = 3; string user_agent_name = 6; }
  message Struct { map<string, Value> fields = 1; }
  message Value { string string_value = 3; Struct struct_value = 5; }
  message Entries { repeated Entry log_entry = 1; }
  message Entry { Common common_properties = 1; int32 protocol_version = 2; Request request = 3; Response response = 4; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message Address { SocketAddress socket_address = 1; }
  message SocketAddress { string address = 2; uint32 port_value = 3; }
  message Flags { bool uh = 2; bool ut = 3; bool uc = 7; bool dc = 15; bool urx = 16; }
  message Common {
    Address downstream_remote_address = 2; Address downstream_local_address = 3; Duration start_time = 5;
    Duration rx_end = 6; Duration up_tx_begin = 7; Duration up_tx_end = 8; Duration up_rx_begin = 9;
    Duration up_rx_end = 10; Duration down_tx_begin = 11; Duration down_tx_end = 12;
    Address upstream_remote_address = 13; string upstream_cluster = 15; Flags response_flags = 16;
    string route_name = 19; Address direct = 20; Duration duration = 23; uint32 attempts = 24; string stream_id = 26;
    uint64 sent = 29; uint64 received = 30; int32 access_log_type = 33;
  }
  message Request {
    int32 request_method = 1; string scheme = 2; string authority = 3; string path = 5; string user_agent = 6;
    string request_id = 9; uint64 request_headers_bytes = 11; uint64 request_body_bytes = 12;
  }
  message Code { uint32 value = 1; }
  message Response {
    Code response_code = 1; uint64 headers_bytes = 2; uint64 response_body_bytes = 3; string response_code_details = 6;
  }`,
  { keepCase: true },
)

interface Decoded {
  identifier?: { node: { id: string; metadata: { fields: Record<string, unknown> } }; log_name: string }
  http_logs: { log_entry: Record<string, Record<string, unknown>>[] }
}

function decode(message: Buffer): Decoded {
  const type = root.lookupType('Message')
  return type.toObject(type.decode(message), { longs: Number }) as Decoded
}

const entry: LogEntry = {
  startMs: 1_700_000_000_123.25,
  rxEnd: 0.05,
  upTxBegin: 0.15,
  upTxEnd: 0.17,
  upRxBegin: 1_002.5,
  upRxEnd: null,
  downTxBegin: null,
  downTxEnd: null,
  duration: 1_500,
  cluster: 'outbound|80||search.shop.svc.cluster.local',
  upstreamPort: 9_103,
  route: 'search',
  method: 'GET',
  authority: 'search.shop.svc.cluster.local',
  path: '/search?q=x',
  requestId: 'a',
  requestBytes: 0,
  responseBytes: 300,
  code: 504,
  details: 'response_timeout',
  flag: 'UT',
  attempts: 1,
}

test('an entry reads back with every time point, missing ones missing', () => {
  const { http_logs } = decode(encodeMessage([entry]))
  const { common_properties, request, response } = http_logs.log_entry[0]!
  expect(common_properties).toMatchObject({
    start_time: { seconds: 1_700_000_000, nanos: 123_250_000 },
    rx_end: { nanos: 50_000 },
    up_rx_begin: { seconds: 1, nanos: 2_500_000 },
    duration: { seconds: 1, nanos: 500_000_000 },
    upstream_cluster: entry.cluster,
    upstream_remote_address: { socket_address: { address: '127.0.0.1', port_value: 9_103 } },
    response_flags: { ut: true },
    attempts: 1,
    access_log_type: 6,
  })
  expect(common_properties).not.toHaveProperty('up_rx_end')
  expect(common_properties).not.toHaveProperty('down_tx_end')
  expect(request).toMatchObject({ request_method: 1, authority: entry.authority, path: '/search?q=x' })
  expect(response).toMatchObject({ response_code: { value: 504 }, response_code_details: 'response_timeout' })
})

test('an answer that was never sent has no code, and a host that was never chosen no address', () => {
  const { http_logs } = decode(encodeMessage([{ ...entry, code: null, flag: 'DC', cluster: '', upstreamPort: null }]))
  const { common_properties, response } = http_logs.log_entry[0]!
  expect(response).not.toHaveProperty('response_code')
  expect(common_properties).toMatchObject({ response_flags: { dc: true } })
  expect(common_properties).not.toHaveProperty('upstream_remote_address')
  expect(common_properties).not.toHaveProperty('upstream_cluster')
})

test('the first message of a stream names the node, with its metadata', () => {
  const node = { id: 'router~1', cluster: 'c', metadata: { NAMESPACE: 'shop', LABELS: { app: 'gateway' } } }
  const { identifier, http_logs } = decode(encodeMessage([entry, entry], { logName: 'web', node }))
  expect(identifier).toMatchObject({ log_name: 'web', node: { id: 'router~1' } })
  expect(identifier?.node.metadata.fields).toEqual({
    NAMESPACE: { string_value: 'shop' },
    LABELS: { struct_value: { fields: { app: { string_value: 'gateway' } } } },
  })
  expect(http_logs.log_entry).toHaveLength(2)
})
