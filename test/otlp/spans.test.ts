import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import type { AccessEntry } from '../../src/ingest/entry/entry.ts'
import { readBlock } from '../../src/model/native-read.ts'
import { RowIds } from '../../src/otlp/row-ids.ts'
import { createRowRequests, type RowRequestsOptions } from '../../src/otlp/row-requests.ts'
import { splitRequest } from '../../src/otlp/split.ts'
import { createDecoding, framed, originOf } from '../support/als-decoding.ts'
import { logsOf, type SpanRead, spansOf } from '../support/otlp-proto.ts'
import { blockOf, type Fill, makeRows } from '../support/otlp-rows.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const CALLER = '00f067aa0ba902b7'

/** A request that went well, 1 000 ns of it in the proxy before the upstream. */
const fine: Fill = (entry) => {
  entry.startSeconds = 1_767_225_600
  entry.startNanos = 999_999_999
  entry.durationNs = 20_000_000
  entry.rxEndNs = 100
  entry.upTxBeginNs = 1100
  entry.upTxEndNs = 1200
  entry.upRxBeginNs = 15_000_000
  entry.upRxEndNs = 19_000_000
  entry.downTxBeginNs = 15_000_100
  entry.downTxEndNs = 20_000_000
  entry.code = 200
  entry.responseCodeDetails = 'via_upstream'
  entry.attempts = 1
  entry.method = 'GET'
  entry.protocol = 'HTTP/2'
  entry.scheme = 'https'
  entry.authority = 'shop.example:8443'
  entry.path = '/cart/17?user=9'
  entry.pathTemplate = '/cart/{id}'
  entry.userAgent = 'curl/8'
  entry.requestId = '0b7bf92f-3577-434d-a6a3-ce929d0e0e47'
  entry.traceId = TRACE
  entry.spanId = CALLER
  entry.upstreamCluster = 'outbound|80||cart.shop.svc.cluster.local'
  entry.upstreamHost = '10.0.0.5:8080'
  entry.downstreamRemote = '192.0.2.7:5555'
  entry.downstreamDirect = '10.0.0.1:40000'
  entry.responseBodyBytes = 321
  entry.requestBodyBytes = 12
}
const but =
  (base: Fill, change: (entry: AccessEntry) => void): Fill =>
  (entry) => {
    base(entry)
    change(entry)
  }

const OPTIONS: RowRequestsOptions = { signal: 'traces', bytesMax: 1 << 20, version: '1.2.3' }

function spans(fills: readonly Fill[], options: Partial<RowRequestsOptions> = {}): SpanRead[] {
  const requests = createRowRequests({ ...OPTIONS, ...options })
  const all = [...requests.add(blockOf(makeRows(fills)), null), requests.finish()]
  return all.flatMap((request) => (request === null ? [] : spansOf(request.bytes)))
}

/** Server and client span of one row. */
function pair(fill: Fill): { readonly server: SpanRead; readonly client: SpanRead | undefined } {
  const all = spans([fill])
  return { server: all.find(({ kind }) => kind === 2)!, client: all.find(({ kind }) => kind === 3) }
}

describe('spans of a request', () => {
  test('the server span is the caller’s child, the client span the server span’s', () => {
    const { server, client } = pair(fine)
    expect(server).toMatchObject({ traceId: TRACE, parentSpanId: CALLER, name: 'GET /cart/{id}', status: {} })
    expect(client).toMatchObject({ traceId: TRACE, parentSpanId: server.spanId, name: 'GET', status: {} })
    expect(new Set([server.spanId, client!.spanId, CALLER]).size).toBe(3)
  })

  test('times are exact to the nanosecond, over the second', () => {
    const { server, client } = pair(fine)
    const start = 1_767_225_600_999_999_999n
    expect([server.start, server.end]).toEqual([start, start + 20_000_000n])
    expect([client!.start, client!.end]).toEqual([start + 1100n, start + 19_000_000n])
  })

  test('phases are events where they begin, and add up to the whole', () => {
    const { server } = pair(fine)
    const events = server.events.map(({ name, time, attributes }) => [
      name,
      Number(time - server.start),
      attributes['sidecast.phase.duration_ns'],
    ])
    expect(events).toEqual([
      ['phase.client_send', 0, 100],
      ['phase.proxy_request', 100, 1000],
      ['phase.upstream_send', 1100, 100],
      ['phase.upstream_wait', 1200, 14_998_800],
      ['phase.proxy_response', 15_000_000, 100],
      ['phase.upstream_receive', 15_000_100, 3_999_900],
      ['phase.client_receive', 19_000_000, 1_000_000],
    ])
  })

  test('attributes have the names of the semantic conventions', () => {
    const { server, client } = pair(fine)
    expect(server.attributes).toEqual({
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'http.route': '/cart/{id}',
      'http.request.body.size': 12,
      'http.response.body.size': 321,
      'http.request.header.x-request-id': ['0b7bf92f-3577-434d-a6a3-ce929d0e0e47'],
      'url.scheme': 'https',
      'url.path': '/cart/17',
      'url.query': 'user=*',
      'server.address': 'shop.example',
      'server.port': 8443,
      'user_agent.original': 'curl/8',
      'client.address': '192.0.2.7',
      'network.peer.address': '10.0.0.1',
      'network.peer.port': 40_000,
      'network.protocol.name': 'http',
      'network.protocol.version': '2',
      'envoy.upstream_cluster': 'outbound|80||cart.shop.svc.cluster.local',
      'envoy.response_code_details': 'via_upstream',
      'envoy.attempts': 1,
      'sidecast.outcome': 'upstream',
      'sidecast.class': 'success',
      'sidecast.reporter': 'source',
      'sidecast.destination.service': 'cart',
      'sidecast.destination.namespace': 'shop',
      'sidecast.segment': 'segment-1',
    })
    expect(client!.attributes).toEqual({
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'url.full': 'https://shop.example:8443/cart/17?user=*',
      'url.scheme': 'https',
      'server.address': 'shop.example',
      'server.port': 8443,
      'network.peer.address': '10.0.0.5',
      'network.peer.port': 8080,
      'service.peer.name': 'cart',
      'service.peer.namespace': 'shop',
      'envoy.upstream_cluster': 'outbound|80||cart.shop.svc.cluster.local',
    })
  })

  test('the resource is the workload whose proxy wrote it', () => {
    expect(pair(fine).server.resource).toEqual({
      'service.name': 'edge',
      'service.instance.id': 'edge-1',
      'cloud.region': 'r1',
      'cloud.availability_zone': 'z1',
      'sidecast.mesh': 'mesh1',
      'sidecast.node.cluster': 'edge',
    })
  })

  test('a local reply has no client span, and a 5xx is an error with the details as its message', () => {
    const refused = but(fine, (entry) => {
      entry.code = 503
      entry.flags = 'UH'
      entry.attempts = 0
      entry.upstreamHost = ''
      entry.responseCodeDetails = 'no_healthy_upstream'
      entry.upTxBeginNs = entry.upTxEndNs = entry.upRxBeginNs = entry.upRxEndNs = -1
    })
    const { server, client } = pair(refused)
    expect(client).toBeUndefined()
    expect(server.status).toEqual({ code: 2, message: 'no_healthy_upstream' })
    expect(server.attributes).toMatchObject({ 'error.type': '503', 'envoy.response_flags': 'UH' })
  })

  test.each([
    ['404 of the service', { code: 404, details: 'via_upstream', flags: '' }, undefined, '404'],
    ['500 of the service', { code: 500, details: 'via_upstream', flags: '' }, '500', '500'],
    [
      'reset after the headers',
      { code: 200, details: 'upstream_reset_after_response_started{x}', flags: 'UPE' },
      'UPE',
      'UPE',
    ],
    [
      'the upstream refused',
      { code: 503, details: 'upstream_reset_before_response_started{x}', flags: 'UF,URX' },
      '503',
      'UF',
    ],
    ['the client left', { code: 0, details: 'downstream_remote_disconnect', flags: 'DC' }, undefined, 'DC'],
  ])('%s: error.type of server and client span', (_, { code, details, flags }, onServer, onClient) => {
    const { server, client } = pair(
      but(fine, (entry) => {
        entry.code = code
        entry.flags = flags
        entry.responseCodeDetails = details
      }),
    )
    expect([server.attributes['error.type'], server.status.code]).toEqual([onServer, onServer && 2])
    expect([client!.attributes['error.type'], client!.status.code]).toEqual([onClient, 2])
  })

  test('gRPC: the whole method is the name, the status a name, and only some of them errors of the server', () => {
    const grpc = (status: number) =>
      pair(
        but(fine, (entry) => {
          entry.path = '/shop.Cart/Add'
          entry.method = 'POST'
          entry.pathTemplate = ''
          entry.grpcStatus = status
        }),
      )
    const fine0 = grpc(0)
    expect(fine0.server).toMatchObject({ name: 'shop.Cart/Add', status: {} })
    expect(fine0.server.attributes).toMatchObject({
      'rpc.system.name': 'grpc',
      'rpc.method': 'shop.Cart/Add',
      'rpc.status_code': 'OK',
    })
    expect(grpc(14).server).toMatchObject({ status: { code: 2 } })
    expect(grpc(14).server.attributes['error.type']).toBe('UNAVAILABLE')
    expect(grpc(5).server.status).toEqual({})
    expect(grpc(5).client!.attributes).toMatchObject({ 'error.type': 'NOT_FOUND', 'rpc.status_code': 'NOT_FOUND' })
  })

  test('a request without a trace has one of its own, which all proxies that saw it agree on', () => {
    const untraced = but(fine, (entry) => {
      entry.traceId = ''
      entry.spanId = ''
    })
    const [first] = spans([untraced])
    const [other] = spans([
      but(untraced, (entry) => {
        entry.durationNs = 30_000_000
      }),
    ])
    expect(first!.traceId).toBe('0b7bf92f3577434da6a3ce929d0e0e47')
    expect(other!.traceId).toBe(first!.traceId)
    expect(other!.spanId).not.toBe(first!.spanId)
    expect(pair(untraced).server.parentSpanId).toBe('')
    const [text] = spans([
      but(untraced, (entry) => {
        entry.requestId = 'order-17'
      }),
    ])
    const [same] = spans([
      but(untraced, (entry) => {
        entry.requestId = 'order-17'
      }),
    ])
    expect(text!.traceId).toBe(same!.traceId)
    const [nothing] = spans([
      but(untraced, (entry) => {
        entry.requestId = ''
      }),
    ])
    expect(nothing!.traceId).toMatch(/^(?!0{32})[0-9a-f]{32}$/)
  })

  test('a row gives the same ids each time; span ids of many rows are all different', () => {
    const many = Array.from(
      { length: 4000 },
      (_, k): Fill =>
        but(fine, (entry) => {
          entry.startNanos = k
          entry.requestId = ''
        }),
    )
    const ids = (): string[] => {
      const rows = new RowIds(blockOf(makeRows(many)))
      return many.flatMap((_, row) => {
        rows.read(row)
        return [`${rows.serverHigh} ${rows.serverLow}`, `${rows.clientHigh} ${rows.clientLow}`]
      })
    }
    const first = ids()
    expect(ids()).toEqual(first)
    expect(new Set(first).size).toBe(8000)
  })

  test('retries, custom tags and logged headers are told', () => {
    const { server, client } = pair(
      but(fine, (entry) => {
        entry.attempts = 3
        entry.customTags.add('tenant', 'acme')
        entry.requestHeaders.add('x-canary', 'yes')
      }),
    )
    expect(client!.attributes['http.request.resend_count']).toBe(2)
    expect(server.attributes).toMatchObject({ tenant: 'acme', 'http.request.header.x-canary': ['yes'] })
  })

  test('no key stands twice, whatever headers and tags are called', () => {
    const { server } = pair(
      but(fine, (entry) => {
        entry.customTags.add('http.request.method', 'odd')
        entry.customTags.add('error.type', 'odd')
        entry.requestHeaders.add('x-request-id', 'again')
        entry.requestHeaders.add('user-agent', 'again')
      }),
    )
    expect(server.attributes).toMatchObject({
      'http.request.method': 'GET',
      'envoy.tag.http.request.method': 'odd',
      'envoy.tag.error.type': 'odd',
      'http.request.header.x-request-id': ['0b7bf92f-3577-434d-a6a3-ce929d0e0e47'],
    })
  })

  test.each([
    ['control characters', '\u0000\u0001\t\r\n\u001b[31m\u007f'],
    ['quotes and what looks like more', `"'\\{}[]=,;%00 <script>`],
    ['characters beyond 16 bits', '👩‍🚀🏴‍☠️𝔘'],
    ['47 and 48 characters', `${'a'.repeat(47)}é`],
    ['long ASCII', 'x'.repeat(3000)],
    ['a name of JavaScript', '__proto__'],
  ])('hostile texts come through as they are: %s', (_, text) => {
    const { server, client } = pair(
      but(fine, (entry) => {
        entry.path = `/${text}`
        entry.userAgent = text
        entry.upstreamCluster = text
        entry.customTags.add(`tag ${text}`, text)
        entry.pathTemplate = text
      }),
    )
    expect(server.name).toBe(`GET ${text}`)
    expect(server.attributes).toMatchObject({ 'user_agent.original': text, [`tag ${text}`]: text, 'http.route': text })
    expect(client!.attributes['envoy.upstream_cluster']).toBe(text)
  })

  test('texts of any script and length come through', () => {
    const path = `/${'ü'.repeat(60)}/日本語/${'a'.repeat(500)}`
    expect(
      pair(
        but(fine, (entry) => {
          entry.path = path
        }),
      ).server.attributes['url.path'],
    ).toBe(path)
  })
})

describe('what a real Envoy said', () => {
  test.each(['als-http', 'als-tcp'])('%s: every row is a span that adds up', (name) => {
    const decoding = createDecoding({ resolver: createIdentityResolver() })
    decoding.feed(...framed(readFileSync(new URL(`../fixtures/als/${name}.bin`, import.meta.url))))
    const builder = decoding.builders.requests
    expect(builder.rows).toBeGreaterThan(5)
    const block = readBlock('requests', Buffer.concat(builder.seal().encode('segment-1').buffers)).block
    const requests = createRowRequests(OPTIONS)
    const bytes = [...requests.add(block, null), requests.finish()!].map((request) => request.bytes)
    const read = bytes.flatMap((one) => spansOf(one))
    const servers = read.filter(({ kind }) => kind === 2)
    const durations = Array.from(block.numbers('duration_ns')).sort((a, b) => a - b)
    expect(servers.map(({ start, end }) => Number(end - start)).sort((a, b) => a - b)).toEqual(durations)
    const byId = new Map(servers.map((span) => [span.spanId, span]))
    expect(byId.size).toBe(block.rows)
    for (const span of servers) {
      const phases = span.events.map(({ attributes }) => Number(attributes['sidecast.phase.duration_ns']))
      if (phases.length > 0) expect(phases.reduce((sum, ns) => sum + ns, 0)).toBe(Number(span.end - span.start))
      expect(span.status.code === 2).toBe('error.type' in span.attributes)
    }
    for (const span of read.filter(({ kind }) => kind === 3)) {
      const parent = byId.get(span.parentSpanId)!
      expect([span.traceId, span.start >= parent.start, span.end <= parent.end]).toEqual([parent.traceId, true, true])
    }
    const logs = createRowRequests({ ...OPTIONS, signal: 'logs' })
    const records = [...logs.add(block, null), logs.finish()!].flatMap((request) => logsOf(request.bytes))
    expect(new Set(records.map(({ spanId }) => spanId))).toEqual(new Set(byId.keys()))
  })
})

describe('requests', () => {
  test('are cut where they are full, with every span in one of them', () => {
    const rows = Array.from(
      { length: 200 },
      (_, k): Fill =>
        but(fine, (entry) => {
          entry.startNanos = k
        }),
    )
    const requests = createRowRequests({ ...OPTIONS, bytesMax: 10_000 })
    const made = [...requests.add(blockOf(makeRows(rows)), null)]
    const last = requests.finish()!
    expect(made.length).toBeGreaterThan(20)
    for (const { bytes } of made) expect(bytes.length).toBeLessThan(14_000)
    const starts = [...made, last].flatMap(({ bytes, items }) => {
      const read = spansOf(bytes)
      expect(read.length).toBe(items)
      return read.filter(({ kind }) => kind === 2).map(({ start }) => start)
    })
    expect(new Set(starts).size).toBe(200)
    expect(requests.finish()).toBeNull()
  })

  test('rows of different proxies stand under their own resources', () => {
    const rows = Array.from({ length: 40 }, (): Fill => fine)
    const block = blockOf(makeRows(rows, (k) => ORIGINS[k % 3]!))
    const requests = createRowRequests(OPTIONS)
    expect([...requests.add(block, null)]).toEqual([])
    const read = spansOf(requests.finish()!.bytes)
    expect(read.length).toBe(80)
    const counts = Map.groupBy(read, ({ resource }) => resource['service.instance.id'])
    expect([...counts].map(([node, of]) => [node, of.length])).toEqual(
      expect.arrayContaining([
        ['n0', 28],
        ['n1', 26],
        ['n2', 26],
      ]),
    )
  })

  test('only rows that are kept are in, with the state of why', () => {
    const rows = [0, 1, 2].map(
      (k): Fill =>
        but(fine, (entry) => {
          entry.startNanos = k
        }),
    )
    const requests = createRowRequests({ ...OPTIONS, state: (keep) => (keep === 2 ? 'ot=th:8' : '') })
    expect([...requests.add(blockOf(makeRows(rows)), new Uint8Array([1, 0, 2]))]).toEqual([])
    const read = spansOf(requests.finish()!.bytes).filter(({ kind }) => kind === 2)
    expect(read.map(({ start, traceState }) => [Number(start % 1000n), traceState]).sort()).toEqual([
      [0, ''],
      [2, 'ot=th:8'],
    ])
  })

  test('halves hold everything that the whole did', () => {
    const rows = Array.from(
      { length: 31 },
      (_, k): Fill =>
        but(fine, (entry) => {
          entry.startNanos = k
        }),
    )
    const requests = createRowRequests(OPTIONS)
    expect([...requests.add(blockOf(makeRows(rows, (k) => ORIGINS[k % 2]!)), null)]).toEqual([])
    const whole = requests.finish()!
    const queue = [whole]
    const singles: SpanRead[] = []
    while (queue.length > 0) {
      const request = queue.shift()!
      const halves = splitRequest(request)
      if (halves === null) singles.push(...spansOf(request.bytes))
      else {
        expect(halves[0].items + halves[1].items).toBe(request.items)
        queue.push(...halves)
      }
    }
    const ids = (read: readonly SpanRead[]) =>
      read.map(({ spanId, resource }) => `${spanId} ${resource['service.instance.id']}`).sort()
    expect(singles.length).toBe(62)
    expect(ids(singles)).toEqual(ids(spansOf(whole.bytes)))
  })
})

const ORIGINS = ['n0', 'n1', 'n2'].map(originOf)

describe('log records', () => {
  test('have the ids of the server span, its attributes, a severity and a line', () => {
    const failed = but(fine, (entry) => {
      entry.code = 503
      entry.flags = 'UF,URX'
    })
    const requests = createRowRequests({ ...OPTIONS, signal: 'logs' })
    expect([...requests.add(blockOf(makeRows([fine, failed])), null)]).toEqual([])
    const [bad, good] = logsOf(requests.finish()!.bytes).sort((a, b) => b.severity - a.severity)
    const { server } = pair(fine)
    expect(good).toMatchObject({
      time: server.end,
      observed: 1_767_225_600_123_000_000n,
      severity: 9,
      severityText: 'INFO',
      body: 'GET /cart/17?user=* 200',
      traceId: server.traceId,
      spanId: server.spanId,
      eventName: 'sidecast.request',
    })
    expect(good!.attributes).toEqual({ ...server.attributes, 'sidecast.duration_ns': 20_000_000 })
    expect(bad).toMatchObject({ severity: 17, severityText: 'ERROR', body: 'GET /cart/17?user=* 503 UF,URX' })
  })
})
