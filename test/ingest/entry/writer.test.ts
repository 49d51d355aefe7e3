import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { AccessEntry } from '../../../src/ingest/entry/entry.ts'
import { FLAGS, ROW_TABLES } from '../../../src/model/schema.ts'
import { createDecoding, framed, originOf } from '../../support/als-decoding.ts'
import { comparable, type JsonObject } from '../../support/als-expected.ts'
import { fillFromAls } from '../../support/entry-of-als.ts'
import { createWriting, TEXT_ORIGIN } from '../../support/entry-writing.ts'
import type { ReadRow } from '../../support/native-rows.ts'

const fixture = (name: string): Buffer => readFileSync(new URL(`../../fixtures/als/${name}`, import.meta.url))
const recorded = (kind: 'http' | 'tcp'): JsonObject[] =>
  fixture(`als-${kind}.expected.jsonl`)
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as JsonObject)
    .filter((line) => line.entry !== undefined)
    .map((line) => line.entry as JsonObject)

for (const kind of ['http', 'tcp'] as const) {
  test(`what a recorded ${kind} entry says gives the same row by way of the writer`, () => {
    const decoding = createDecoding()
    decoding.feed(...framed(fixture(`als-${kind}.bin`)))
    const wanted = decoding.take()
    const writing = createWriting()
    const origin = originOf('edge-1')
    for (const als of recorded(kind)) writing.add((entry) => fillFromAls(entry, als, kind === 'tcp'), origin)
    const result = writing.writer.commit()
    expect(result).toMatchObject({ added: recorded(kind).length, rejected: 0, cut: 0, untimed: 0, pending: 0 })
    const got = writing.take()
    for (const table of ROW_TABLES) {
      expect(got[table].map(comparable)).toEqual(wanted[table].map(comparable))
    }
  })
}

test('an entry that says nothing is an empty one, and the entry is empty after it was added', () => {
  const writing = createWriting()
  writing.add((entry) => fillFromAls(entry, recorded('http')[3]!, false))
  expect(writing.writer.entry).toEqual(pristine(writing.writer.entry))
  writing.add(() => {})
  expect(writing.writer.commit()).toMatchObject({ requests: 1, connections: 1, untimed: 1 })
})

/** As a new one, but for the arrays behind pairs, which are kept. */
function pristine(used: AccessEntry): AccessEntry {
  const entry = new AccessEntry()
  for (const name of ['requestHeaders', 'responseHeaders', 'responseTrailers', 'customTags', 'filterState'] as const) {
    entry[name].names.push(...used[name].names)
    entry[name].values.push(...used[name].values)
  }
  return entry
}

test('source and precision of the origin are in the row, and a row without points has no phases', () => {
  const [row] = rows((entry) => {
    entry.code = 200
    entry.method = 'GET'
    entry.durationNs = 5e6
    entry.startSeconds = 1_700_000_000
  })
  expect(row).toMatchObject({ source: 'text', precision_ns: 1_000_000, duration_ns: 5_000_000n })
  for (const point of ['t_rx_end', 't_up_tx_begin', 't_up_tx_end', 't_up_rx_begin', 't_up_rx_end', 't_down_tx_begin']) {
    expect(row![point], point).toBeNull()
  }
})

test('every flag is told by its short and by its long name; others are kept as text', () => {
  for (const flag of FLAGS) {
    const [row] = rows((entry) => {
      entry.flags = flag
      entry.method = 'GET'
    })
    expect(row!.response_flags, flag).toBe(1n << BigInt(FLAGS.indexOf(flag)))
    expect(row!.flags_text, flag).toBe('')
    expect(row!.unauthorized_reason, flag).toBe(flag === 'UAEX' ? 1 : 0)
  }
  const [row] = rows((entry) => {
    entry.flags = 'NoRouteFound,XYZ,UpstreamConnectionFailure,DropOverload,ABC'
    entry.method = 'GET'
  })
  expect(row!.response_flags).toBe(bits('NR', 'UF', 'DO'))
  expect(row!.flags_text).toBe('XYZ,ABC')
})

const bits = (...names: string[]): bigint =>
  names.reduce((set, name) => set | (1n << BigInt((FLAGS as readonly string[]).indexOf(name))), 0n)

const ADDRESSES = [
  ['10.0.0.7:8080', '10.0.0.7', 8080],
  ['[2001:db8::1]:443', '2001:db8::1', 443],
  ['2001:db8::1', '2001:db8::1', 0],
  ['[2001:db8::1]', '2001:db8::1', 0],
  ['10.0.0.7', '10.0.0.7', 0],
  ['10.0.0.7:0', '10.0.0.7', 0],
  [':0', '', 0],
  ['host.example:80', 'host.example', 80],
  ['host.example:http', 'host.example:http', 0],
  ['/run/app.sock', '/run/app.sock', 0],
  ['envoy://connect_originate/10.0.0.1:8080', 'envoy://connect_originate/10.0.0.1:8080', 0],
  ['envoy://internal_client_address/', 'envoy://internal_client_address/', 0],
  [`${'a'.repeat(200)}:9`, 'a'.repeat(200), 9],
  [`${'ü'.repeat(70)}:9`, 'ü'.repeat(70), 9],
] as const

test.each(ADDRESSES)('the address %s is %s and %i', (text, address, port) => {
  const [row] = rows((entry) => {
    entry.method = 'GET'
    entry.upstreamHost = text
    entry.downstreamRemote = text
  })
  expect(row).toMatchObject({
    upstream_remote_address: address,
    upstream_remote_port: port,
    downstream_remote_address: address,
    downstream_remote_port: port,
  })
})

test('what ALS has no field for reaches its column', () => {
  const [row] = rows((entry) => {
    entry.method = 'PURGE'
    entry.listener = 'main'
    entry.pathTemplate = '/orders/{id}'
    entry.grpcStatus = 14
    entry.traceId = '9965f1e3a8521ee08d8bc26038cc81c7'
    entry.spanId = '78a8dc0e9e52b67b'
  })
  expect(row).toMatchObject({
    listener: 'main',
    path_template: '/orders/{id}',
    grpc_status: 14,
    trace_uuid: '9965f1e3-a852-1ee0-8d8b-c26038cc81c7',
    span_number: 0x78a8dc0e9e52b67bn,
    request_headers: { ':method': 'PURGE' },
  })
})

test('a status in a trailer goes before one that is told otherwise', () => {
  const [row] = rows((entry) => {
    entry.method = 'POST'
    entry.grpcStatus = 2
    entry.responseTrailers.add('grpc-status', '5')
  })
  expect(row!.grpc_status).toBe(5)
})

test('an entry that tells its end begins before it', () => {
  const [row] = rows((entry) => {
    entry.method = 'GET'
    entry.endSeconds = 1_700_000_000
    entry.endNanos = 1_000_000
    entry.durationNs = 2_003_000_000
  })
  expect(row).toMatchObject({ end_time: 1_700_000_000_001_000_000n, duration_ns: 2_003_000_000n })
})

test('texts of any length and any characters come through as they are', () => {
  for (const length of [0, 1, 63, 64, 65, 127, 128, 4000]) {
    for (const character of ['a', 'é', '€', '😀']) {
      const text = character.repeat(Math.floor(length / character.length))
      const [row] = rows((entry) => {
        entry.method = 'GET'
        entry.path = `/${text}`
        entry.customTags.add('tag', text)
        entry.route = 'after'
      })
      const cut = Buffer.byteLength(text) > 8191
      if (!cut) expect(row).toMatchObject({ path: `/${text}`, custom_tags: { tag: text }, route: 'after' })
    }
  }
})

test('numbers that are none, or larger than any, end', () => {
  for (const value of [Number.POSITIVE_INFINITY, Number.NaN, 1e300, -1e300, 0.5, 2 ** 31, 2 ** 32, 2 ** 53 - 1]) {
    const [row] = rows((entry) => {
      entry.method = 'GET'
      entry.startSeconds = 1_700_000_000
      entry.durationNs = value
      entry.rxEndNs = value
      entry.responseBodyBytes = value
      entry.attempts = value
      entry.route = 'after'
    })
    expect(row!.route, String(value)).toBe('after')
    const exact = Number.isSafeInteger(value)
    if (exact) expect(row).toMatchObject({ response_body_bytes: BigInt(value), t_rx_end: BigInt(value) })
  }
})

test('an entry of more than 16 KiB is one row', () => {
  const [row] = rows((entry) => {
    entry.method = 'GET'
    for (let k = 0; k < 20; k++) entry.requestHeaders.add(`x-${k}`, String(k).repeat(2000))
    entry.responseCodeDetails = 'via_upstream'
  })
  expect(Object.keys(row!.request_headers as object)).toHaveLength(20)
  expect(row).toMatchObject({ response_code_details: 'via_upstream' })
})

test('more map entries than a row takes are left out and counted', () => {
  const writing = createWriting()
  writing.add((entry) => {
    entry.method = 'GET'
    for (let k = 0; k < 200; k++) entry.customTags.add(`t${k}`, 'x')
  })
  expect(writing.writer.commit()).toMatchObject({ requests: 1, cut: 72 })
})

test('an entry that is too large is refused by itself', () => {
  const writing = createWriting()
  writing.add((entry) => get(entry, '/before'))
  writing.add((entry) => {
    get(entry, '/large')
    for (let k = 0; k < 100; k++) entry.customTags.add(`t${k}`, 'x'.repeat(16_000))
  })
  writing.add((entry) => get(entry, '/after'))
  const result = writing.writer.commit()
  expect(result).toMatchObject({ added: 2, rejected: 1, pending: 0 })
  expect([...result.reasons]).toEqual([['entry_too_large', 1]])
  expect(writing.take().requests.map((row) => row.path)).toEqual(['/before', '/after'])
})

test('entries of several origins and kinds keep their order and their origin', () => {
  const origins = ['a', 'b', 'c'].map((nodeId) => ({ ...TEXT_ORIGIN, nodeId }))
  const writing = createWriting()
  for (let k = 0; k < 300; k++) {
    writing.add(
      (entry) => {
        entry.tcp = k % 5 === 0
        entry.type = entry.tcp ? 3 : 6
        entry.streamId = `s${k}`
        entry.startSeconds = 1_700_000_000
      },
      origins[(k >> 1) % 3],
    )
  }
  expect(writing.writer.commit()).toMatchObject({ requests: 300, rejected: 0 })
  const got = writing.take().requests
  got.forEach((row, k) => {
    expect(row).toMatchObject({
      stream_text: `s${k}`,
      node_id: origins[(k >> 1) % 3]!.nodeId,
      kind: k % 5 === 0 ? 'tcp' : 'http',
    })
  })
})

test('while the gate is closed nothing is lost and nothing doubled', () => {
  const seen: [string, number, number][] = []
  const writing = createWriting({ rowsMax: 64, writer: { onDecoded: (...decoded) => seen.push(decoded) } })
  let added = 0
  let counted = 0
  for (let round = 0; round < 50; round++) {
    writing.closed = round % 3 !== 0
    for (let k = 0; k < 37; k++) {
      expect(writing.add((entry) => get(entry, `/${added}`))).toBe(true)
      added++
    }
    const result = writing.writer.commit()
    counted += result.added
    expect(result.pending).toBe(writing.writer.pending)
    expect(counted + result.pending).toBe(added)
    if (!writing.closed) expect(result.pending).toBe(0)
  }
  writing.closed = false
  counted += writing.writer.commit().added
  expect(counted).toBe(added)
  expect(seen.reduce((sum, [, decoded]) => sum + decoded, 0)).toBe(added)
  expect(writing.take().requests.map((row) => row.path)).toEqual(Array.from({ length: added }, (_, k) => `/${k}`))
})

test('a receiver that does not stop is refused when too much waits, and told so', () => {
  const writing = createWriting({ rowsMax: 16, writer: { pendingBytesMax: 200_000 } })
  writing.closed = true
  let taken = 0
  for (let k = 0; k < 6000; k++) if (writing.add((entry) => get(entry, `/${k}`, 'x'.repeat(60)))) taken++
  expect(taken).toBeLessThan(6000)
  const result = writing.writer.commit()
  expect(result.rejected).toBe(6000 - taken)
  expect(result.reasons.get('no_room')).toBe(6000 - taken)
  const before = result.added
  writing.closed = false
  expect(before + writing.writer.commit().added).toBe(taken)
  expect(writing.take().requests.map((row) => row.path)).toEqual(Array.from({ length: taken }, (_, k) => `/${k}`))
})

test('metadata and filter state that are not JSON objects cost nothing but themselves', () => {
  const [row] = rows((entry) => {
    get(entry, '/')
    entry.metadata = '[1,2]'
    entry.filterState.add('plain', 'not json')
    entry.filterState.add('deep', `${'{"a":'.repeat(100)}1${'}'.repeat(100)}`)
  })
  expect(row).toMatchObject({ metadata: '', path: '/' })
  expect((row!.filter_state as Record<string, string>).plain).toBe('"not json"')
})

function get(entry: AccessEntry, path: string, userAgent = ''): void {
  entry.userAgent = userAgent
  entry.method = 'GET'
  entry.type = 6
  entry.path = path
}

const writing = createWriting()

/** Rows of table requests that one entry makes. */
function rows(fill: (entry: AccessEntry) => void): ReadRow[] {
  writing.add((entry) => {
    entry.type = 6
    fill(entry)
  })
  expect(writing.writer.commit()).toMatchObject({ added: 1, rejected: 0 })
  return writing.take().requests
}
