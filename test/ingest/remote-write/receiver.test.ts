import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { SidecastError } from '../../../src/errors.ts'
import { createRemoteWriteReceiver, versionOf } from '../../../src/ingest/remote-write/receiver.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { snappyCompress } from '../../../src/lib/snappy.ts'
import { createMetricStore } from '../../../src/metrics/metric-store.ts'
import { recordMetrics } from '../../support/metric-recorder.ts'
import { REQUEST_V2, WRITE_REQUEST } from '../../support/remote-write.ts'

const V1 = 'application/x-protobuf'
const V2 = 'application/x-protobuf;proto=io.prometheus.write.v2.Request'
const NOW = Date.now()

function setUp(synced: () => Promise<void> = async () => {}) {
  const store = { ...recordMetrics(), synced }
  const gate = { closed: false }
  const receiver = createRemoteWriteReceiver({ store, gate, limits: { bodyBytesMax: 100_000, unpackedBytesMax: 1e6 } })
  const send = (raw: Uint8Array, contentType = V1, contentEncoding = 'snappy') =>
    receiver.take({
      body: Readable.from([snappyCompress(raw)]),
      contentType,
      contentEncoding,
      contentLength: Number.NaN,
    })
  return { store, gate, receiver, send }
}

const label = (name: string, value: string) => ({ name, value })
const SERIES = [
  label('__name__', 'http_requests_total'),
  label('instance', 'a:1'),
  label('job', 'api'),
  label('code', '200'),
]
const v1 = (message: object) => WRITE_REQUEST.encode(WRITE_REQUEST.fromObject(message)).finish()
const v2 = (message: object) => REQUEST_V2.encode(REQUEST_V2.fromObject(message)).finish()
/** protobufjs writes a NaN without its payload: it is put in afterwards. */
const withStale = (bytes: Uint8Array): Buffer => {
  const patched = Buffer.from(bytes)
  const marker = Buffer.alloc(8)
  marker.writeDoubleLE(123_456.789)
  const at = patched.indexOf(marker)
  Buffer.from('02000000' + '0000f07f', 'hex').copy(patched, at)
  return patched
}

describe('version 1.0', () => {
  test('samples become stats, by job and instance; answered with 204', async () => {
    const { send, store, receiver } = setUp()
    const samples = [
      { value: 5, timestamp: NOW - 1000 },
      { value: 7.5, timestamp: NOW },
    ]
    expect(await send(v1({ timeseries: [{ labels: SERIES, samples }] }))).toEqual({
      status: 204,
      headers: {},
      message: '',
    })
    expect(store.identities).toEqual([
      expect.objectContaining({
        job: 'api',
        instance: 'a:1',
        name: 'http_requests_total',
        type: 'counter',
        labels: [['code', '200']],
      }),
    ])
    expect(store.written.map(({ write, timeMs, value }) => [write, timeMs, value])).toEqual([
      ['setCounter', NOW - 1000, 5],
      ['setCounter', NOW, 7.5],
    ])
    expect(receiver.counters).toMatchObject({ requests: 1, samples: 2, histograms: 0 })
  })

  test('the type comes from what was said of the family, else from the name', async () => {
    const { send, store } = setUp()
    await send(
      v1({
        metadata: [
          { type: 'HISTOGRAM', metric_family_name: 'latency', help: 'Latency.', unit: 'seconds' },
          { type: 'GAUGE', metric_family_name: 'temperature', help: 'Heat.' },
        ],
      }),
    )
    const one = (name: string) => ({ labels: [label('__name__', name)], samples: [{ value: -1, timestamp: NOW }] })
    await send(v1({ timeseries: ['latency_bucket', 'latency_sum', 'temperature', 'anything', 'all_total'].map(one) }))
    expect(store.identities.map(({ name, type, help, unit }) => [name, type, help, unit])).toEqual([
      ['latency_bucket', 'counter', 'Latency.', 'seconds'],
      ['latency_sum', 'counter', 'Latency.', 'seconds'],
      ['temperature', 'gauge', 'Heat.', ''],
      ['anything', 'untyped', '', ''],
      ['all_total', 'counter', '', ''],
    ])
    // A counter does not go below 0: what does is kept as it is.
    expect(store.written.every(({ write }) => write === 'setGauge')).toBe(true)
  })

  test('a marker of the end is one; any other NaN is a value', async () => {
    const { send, store, receiver } = setUp()
    const samples = [
      { value: Number.NaN, timestamp: NOW - 5 },
      { value: 123_456.789, timestamp: NOW },
    ]
    await send(withStale(v1({ timeseries: [{ labels: SERIES, samples }] })))
    expect(store.written.map(({ write, timeMs }) => [write, timeMs])).toEqual([
      ['setGauge', NOW - 5],
      ['stale', NOW],
    ])
    expect(receiver.counters).toMatchObject({ samples: 1, staleMarkers: 1 })
  })

  test('native histograms of whole numbers and of floats', async () => {
    const { send, store } = setUp()
    const whole = {
      count_int: 12,
      sum: 18.4,
      schema: 0,
      zero_threshold: 0.001,
      zero_count_int: 2,
      positive_spans: [
        { offset: -2, length: 2 },
        { offset: 1, length: 2 },
      ],
      positive_deltas: [1, 1, -1, 1],
      negative_spans: [{ offset: 3, length: 1 }],
      negative_deltas: [4],
      timestamp: NOW,
    }
    const floats = {
      count_float: 2.5,
      sum: 1,
      schema: 3,
      zero_threshold: 0,
      zero_count_float: 0,
      positive_spans: [{ offset: 5, length: 1 }],
      positive_counts: [2.5],
      timestamp: NOW + 1,
    }
    expect((await send(v1({ timeseries: [{ labels: SERIES, histograms: [whole, floats] }] }))).status).toBe(204)
    expect(store.written.map(({ distribution }) => distribution)).toEqual([
      {
        kind: 'exponential',
        temporality: 'cumulative',
        count: 12,
        sum: 18.4,
        scale: 0,
        zeroThreshold: 0.001,
        zeroCount: 2,
        positive: { offset: -2, counts: Float64Array.of(1, 2, 0, 1, 2) },
        negative: { offset: 3, counts: Float64Array.of(4) },
      },
      {
        kind: 'exponential',
        temporality: 'cumulative',
        count: 2.5,
        sum: 1,
        scale: 3,
        zeroThreshold: 0,
        zeroCount: 0,
        positive: { offset: 5, counts: Float64Array.of(2.5) },
      },
    ])
  })
})

describe('version 2.0', () => {
  const symbols = [
    '',
    '__name__',
    'rpc_seconds_total',
    'job',
    'api',
    'instance',
    'b:2',
    'Calls.',
    'seconds',
    'trace_id',
    'abc',
  ]
  const labels_refs = [1, 2, 5, 6, 3, 4]

  test('symbols, metadata, starts; the answer says what was written', async () => {
    const { send, store } = setUp()
    const answer = await send(
      v2({
        symbols,
        timeseries: [
          {
            labels_refs,
            metadata: { type: 'COUNTER', help_ref: 7, unit_ref: 8 },
            samples: [{ value: 3, timestamp: NOW, start_timestamp: NOW - 60_000 }],
            exemplars: [{ labels_refs: [9, 10], value: 1, timestamp: NOW }],
          },
        ],
      }),
      V2,
    )
    expect(answer).toEqual({
      status: 204,
      message: '',
      headers: {
        'x-prometheus-remote-write-samples-written': '1',
        'x-prometheus-remote-write-histograms-written': '0',
        'x-prometheus-remote-write-exemplars-written': '1',
      },
    })
    expect(store.identities).toEqual([
      {
        job: 'api',
        instance: 'b:2',
        name: 'rpc_seconds_total',
        labels: [],
        type: 'counter',
        help: 'Calls.',
        unit: 'seconds',
      },
    ])
    expect(store.written).toMatchObject([
      { write: 'setCounter', value: 3, startMs: NOW - 60_000 },
      { write: 'exemplars', name: 'rpc_seconds_total', value: 1, timeMs: NOW },
    ])
  })

  test('exemplars that cannot be read cost their series nothing, and are counted', async () => {
    const { send, store, receiver } = setUp()
    const exemplars = [
      { labels_refs: [9], value: 1, timestamp: NOW },
      { labels_refs: [9, 99], value: 1, timestamp: NOW },
      { labels_refs: [9, 10, 9, 10], value: 1, timestamp: NOW },
      { labels_refs: [0, 10], value: 1, timestamp: NOW },
      { labels_refs: [], value: 2, timestamp: NOW },
    ]
    const samples = [{ value: 3, timestamp: NOW }]
    const answer = await send(
      v2({ symbols, timeseries: [{ labels_refs, metadata: { type: 'COUNTER' }, samples, exemplars }] }),
      V2,
    )
    expect(answer).toMatchObject({ status: 204, headers: { 'x-prometheus-remote-write-exemplars-written': '1' } })
    expect(store.written).toMatchObject([{ write: 'setCounter' }, { write: 'exemplars', value: 2 }])
    expect(receiver.counters).toMatchObject({ exemplars: 1, exemplarsDropped: 4 })
  })

  test('histograms with bounds of their own', async () => {
    const { send, store } = setUp()
    const histogram = {
      count_int: 6,
      sum: 3.5,
      schema: -53,
      custom_values: [0.1, 0.5, 1],
      positive_spans: [
        { offset: 0, length: 1 },
        { offset: 1, length: 2 },
      ],
      positive_deltas: [1, 1, 1],
      timestamp: NOW,
      start_timestamp: NOW - 1,
    }
    await send(
      v2({ symbols, timeseries: [{ labels_refs, metadata: { type: 'HISTOGRAM' }, histograms: [histogram] }] }),
      V2,
    )
    expect(store.written[0]?.distribution).toEqual({
      kind: 'explicit',
      temporality: 'cumulative',
      bounds: [0.1, 0.5, 1],
      counts: Float64Array.of(1, 0, 2, 3),
      count: 6,
      sum: 3.5,
      startMs: NOW - 1,
    })
  })

  test('a series that refers to nothing is told, and the others are stored', async () => {
    const { send, store, receiver } = setUp()
    const samples = [{ value: 1, timestamp: NOW }]
    const answer = await send(
      v2({
        symbols,
        timeseries: [
          { labels_refs: [1, 99], metadata: {}, samples },
          { labels_refs: [1, 2, 3], metadata: {}, samples },
          { labels_refs: [3, 4], metadata: {}, samples },
          { labels_refs, metadata: {}, samples },
        ],
      }),
      V2,
    )
    expect(answer.status).toBe(400)
    expect(answer.message).toContain('3 samples were not taken')
    expect(answer.headers['x-prometheus-remote-write-samples-written']).toBe('1')
    expect(store.written).toHaveLength(1)
    expect([...receiver.counters.rejected]).toEqual([['series', 3]])
  })
})

describe('what is refused', () => {
  const good = v1({ timeseries: [{ labels: SERIES, samples: [{ value: 1, timestamp: NOW }] }] })

  test.each([
    ['text/plain', null],
    ['application/x-protobuf', '1.0'],
    ['application/x-protobuf;proto=prometheus.WriteRequest', '1.0'],
    ['application/x-protobuf; proto=io.prometheus.write.v2.Request', '2.0'],
    ['application/x-protobuf;proto=io.prometheus.write.v3.Request', null],
  ])('%s is version %s', (type, version) => expect(versionOf(type)).toBe(version))

  test('other types and encodings: 415', async () => {
    const { send } = setUp()
    expect((await send(good, 'application/json')).status).toBe(415)
    expect((await send(good, V1, 'gzip')).status).toBe(415)
    expect((await send(good, V1, '')).status).toBe(415)
  })

  test('bodies that are none: 400; too large ones, packed or not: 413', async () => {
    const { send, receiver } = setUp()
    const take = (body: Uint8Array, contentLength = Number.NaN) =>
      receiver.take({ body: Readable.from([body]), contentType: V1, contentEncoding: 'snappy', contentLength })
    expect((await take(Buffer.from('not snappy'))).status).toBe(400)
    expect((await send(Buffer.from('\xff\xff\xff\xff'))).status).toBe(400)
    expect((await take(Buffer.alloc(100_001))).status).toBe(413)
    expect((await take(Buffer.alloc(1), 100_001)).status).toBe(413)
    expect((await send(Buffer.alloc(1_000_001))).status).toBe(413)
    expect([...receiver.counters.answers]).toEqual([
      [400, 2],
      [413, 3],
    ])
  })

  test.each<[string, { name: string; value: string }[]]>([
    ['a series has no __name__', [label('a', 'b')]],
    ['a label has no name', [label('__name__', 'x'), label('', 'b')]],
    ['the label a comes twice', [label('__name__', 'x'), label('a', '1'), label('a', '2')]],
    [
      'a series has more than 128 labels',
      Array.from({ length: 129 }, (_, k) => label(k === 0 ? '__name__' : `l${k}`, 'v')),
    ],
    ['the value of a is longer than 16384', [label('__name__', 'x'), label('a', 'b'.repeat(16_385))]],
  ])('%s', async (reason, labels) => {
    const { send, store } = setUp()
    const answer = await send(v1({ timeseries: [{ labels, samples: [{ value: 1, timestamp: NOW }] }] }))
    expect([answer.status, answer.message]).toEqual([400, expect.stringContaining(reason)])
    expect(store.written).toEqual([])
  })

  test.each([
    ['spans that do not fit', { schema: 0, positive_spans: [{ offset: 0, length: 2 }], positive_deltas: [1] }],
    [
      'spans that go back',
      {
        schema: 0,
        positive_spans: [
          { offset: 0, length: 1 },
          { offset: -1, length: 1 },
        ],
        positive_deltas: [1, 0],
      },
    ],
    ['spans of billions of buckets', { schema: 0, positive_spans: [{ offset: 0, length: 4e9 }], positive_deltas: [1] }],
    ['a negative count', { schema: 0, positive_spans: [{ offset: 0, length: 2 }], positive_deltas: [1, -2] }],
    ['a schema that nobody knows', { schema: 9 }],
  ])('histograms with %s', async (_, parts) => {
    const { send, store } = setUp()
    const histogram = { count_int: 1, sum: 1, zero_threshold: 0, zero_count_int: 0, timestamp: NOW, ...parts }
    expect((await send(v1({ timeseries: [{ labels: SERIES, histograms: [histogram] }] }))).status).toBe(400)
    expect(store.written).toEqual([])
  })

  test('without room in the journal: 503, and when to come again', async () => {
    const { send, gate } = setUp()
    gate.closed = true
    expect(await send(good)).toEqual({
      status: 503,
      headers: { 'retry-after': '5' },
      message: 'the journal has no room',
    })
    const full = setUp(async () => {
      throw new SidecastError('SC4104', 'the journal has no room')
    })
    expect((await full.send(good)).status).toBe(503)
  })

  test('a body that is cut off, and what was held of it is given back', async () => {
    const { receiver } = setUp()
    const body = new Readable({
      read() {
        this.push(Buffer.alloc(50_000))
        this.destroy(new Error('gone'))
      },
    })
    expect(
      await receiver.take({ body, contentType: V1, contentEncoding: 'snappy', contentLength: 60_000 }),
    ).toMatchObject({ status: 400 })
  })

  test('times and values that the store refuses are told with the reason', async () => {
    const store = createMetricStore({
      flush: () => true,
      synced: async () => {},
      clock: Date,
      seriesMax: 1,
      keepMs: 3_600_000,
    })
    const receiver = createRemoteWriteReceiver({ store, gate: { closed: false } })
    const send = (message: object) =>
      receiver.take({
        body: Readable.from([snappyCompress(v1(message))]),
        contentType: V1,
        contentEncoding: 'snappy',
        contentLength: Number.NaN,
      })
    const old = await send({
      timeseries: [
        {
          labels: SERIES,
          samples: [
            { value: 1, timestamp: NOW - 7_200_000 },
            { value: 1, timestamp: NOW },
          ],
        },
      ],
    })
    expect([old.status, old.message]).toEqual([
      400,
      expect.stringContaining('1 samples were not taken, the first because a time is older'),
    ])
    const again = await send({ timeseries: [{ labels: SERIES, samples: [{ value: 1, timestamp: NOW }] }] })
    expect(again.status).toBe(204)
    const other = [label('__name__', 'another')]
    expect(
      (await send({ timeseries: [{ labels: other, samples: [{ value: 1, timestamp: NOW }] }] })).message,
    ).toContain('the bound on series is reached')
    expect(Object.fromEntries(receiver.counters.rejected)).toEqual({ out_of_bounds: 1, series_limit: 1 })
  })
})

test('mutated requests are answered, whatever they are', async () => {
  const { receiver } = setUp()
  const random = seededRandom(7)
  const seeds = [
    v1({
      timeseries: [
        {
          labels: SERIES,
          samples: [{ value: 1, timestamp: NOW }],
          histograms: [
            {
              count_int: 3,
              sum: 1,
              schema: 2,
              positive_spans: [{ offset: 1, length: 2 }],
              positive_deltas: [1, 1],
              timestamp: NOW,
            },
          ],
        },
      ],
    }),
    v2({
      symbols: ['', '__name__', 'x'],
      timeseries: [{ labels_refs: [1, 2], metadata: { type: 1 }, samples: [{ value: 1, timestamp: NOW }] }],
    }),
  ]
  for (let k = 0; k < 1500; k++) {
    const bytes = Buffer.from(seeds[k % 2]!)
    for (let n = 1 + Math.floor(random() * 4); n > 0; n--)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
    const body = snappyCompress(bytes)
    if (random() < 0.3) body[Math.floor(random() * body.length)]! ^= 1 << Math.floor(random() * 8)
    const answer = await receiver.take({
      body: Readable.from([body]),
      contentType: k % 2 === 0 ? V1 : V2,
      contentEncoding: 'snappy',
      contentLength: body.length,
    })
    expect([204, 400, 413]).toContain(answer.status)
  }
})
