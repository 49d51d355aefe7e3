import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import protobuf from 'protobufjs'
import { snappyUncompress } from '../../src/lib/snappy.ts'
import type { Behaviour, ContractTarget } from './sink-contract.ts'

/**
 * Messages of remote write by the definitions of their specifications, and a receiver that speaks both versions. Written
 * from github.com/prometheus/prometheus, prompb/{remote,types}.proto and prompb/io/prometheus/write/v2/types.proto.
 */
const HISTOGRAM = (more: string) => `message Histogram {
    oneof count { uint64 count_int = 1; double count_float = 2; }
    double sum = 3; sint32 schema = 4; double zero_threshold = 5;
    oneof zero_count { uint64 zero_count_int = 6; double zero_count_float = 7; }
    repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9; repeated double negative_counts = 10;
    repeated BucketSpan positive_spans = 11; repeated sint64 positive_deltas = 12; repeated double positive_counts = 13;
    enum ResetHint { UNKNOWN = 0; YES = 1; NO = 2; GAUGE = 3; }
    ResetHint reset_hint = 14; int64 timestamp = 15; ${more}
  }
  message BucketSpan { sint32 offset = 1; uint32 length = 2; }`
const V1 = protobuf.parse(
  `syntax = "proto3"; package prometheus;
  message WriteRequest { repeated TimeSeries timeseries = 1; reserved 2; repeated MetricMetadata metadata = 3; }
  message TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }
  message Label { string name = 1; string value = 2; }
  message Sample { double value = 1; int64 timestamp = 2; }
  message Exemplar { repeated Label labels = 1; double value = 2; int64 timestamp = 3; }
  message MetricMetadata {
    enum MetricType { UNKNOWN = 0; COUNTER = 1; GAUGE = 2; HISTOGRAM = 3; GAUGEHISTOGRAM = 4; SUMMARY = 5; INFO = 6; STATESET = 7; }
    MetricType type = 1; string metric_family_name = 2; string help = 4; string unit = 5;
  }
  ${HISTOGRAM('')}`,
  { keepCase: true },
).root
const V2 = protobuf.parse(
  `syntax = "proto3"; package io.prometheus.write.v2;
  message Request { reserved 1 to 3; repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
  message TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2; repeated Histogram histograms = 3; repeated Exemplar exemplars = 4; Metadata metadata = 5; }
  message Sample { double value = 1; int64 timestamp = 2; int64 start_timestamp = 3; }
  message Exemplar { repeated uint32 labels_refs = 1; double value = 2; int64 timestamp = 3; }
  message Metadata {
    enum MetricType { UNSPECIFIED = 0; COUNTER = 1; GAUGE = 2; HISTOGRAM = 3; GAUGEHISTOGRAM = 4; SUMMARY = 5; INFO = 6; STATESET = 7; }
    MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4;
  }
  ${HISTOGRAM('repeated double custom_values = 16; int64 start_timestamp = 17;')}`,
  { keepCase: true },
).root

export const WRITE_REQUEST = V1.lookupType('prometheus.WriteRequest')
export const REQUEST_V2 = V2.lookupType('io.prometheus.write.v2.Request')

export interface SpecHistogram {
  readonly count_int?: number
  readonly count_float?: number
  readonly sum: number
  readonly schema: number
  readonly zero_threshold: number
  readonly zero_count_int?: number
  readonly positive_spans: readonly { readonly offset: number; readonly length: number }[]
  readonly positive_deltas: readonly number[]
  readonly negative_spans: readonly { readonly offset: number; readonly length: number }[]
  readonly negative_deltas: readonly number[]
  readonly timestamp: number
  readonly start_timestamp?: number
}

/** One series of a request, read by the definition. */
export interface SpecSeries {
  /** `name{label="value"}`, labels in the order in which they came. */
  readonly key: string
  readonly labels: Readonly<Record<string, string>>
  readonly samples: readonly { readonly value: number; readonly timestamp: number; readonly start_timestamp?: number }[]
  readonly histograms: readonly SpecHistogram[]
  readonly exemplars: readonly {
    readonly labels?: readonly { readonly name: string; readonly value: string }[]
    readonly value: number
    readonly timestamp: number
  }[]
  readonly type?: string
  readonly help?: string
  readonly unit?: string
}

const OBJECTS = { longs: Number, enums: String, arrays: true } as const

export function readV1(bytes: Uint8Array) {
  const { timeseries, metadata } = WRITE_REQUEST.toObject(WRITE_REQUEST.decode(bytes), OBJECTS) as {
    timeseries: (Omit<SpecSeries, 'labels' | 'key'> & { labels: { name: string; value: string }[] })[]
    metadata: { type: string; metric_family_name: string; help: string; unit: string }[]
  }
  const series = timeseries.map(({ labels, ...rest }) => ({
    ...rest,
    ...named(labels.map(({ name, value }) => [name, value])),
  }))
  return { series: series as SpecSeries[], metadata }
}

export function readV2(bytes: Uint8Array): SpecSeries[] {
  const message = REQUEST_V2.decode(bytes)
  const { symbols, timeseries } = REQUEST_V2.toObject(message, OBJECTS) as {
    symbols: string[]
    timeseries: (Omit<SpecSeries, 'labels' | 'key'> & {
      labels_refs: number[]
      metadata: { type?: string; help_ref?: number; unit_ref?: number }
    })[]
  }
  if (symbols[0] !== '') throw new Error('the first symbol is not empty')
  return timeseries.map(({ labels_refs: refs, metadata, ...rest }) => {
    if (refs.length % 2 !== 0) throw new Error('a label has no value')
    const labels = Array.from(
      { length: refs.length / 2 },
      (_, k) => [symbols[refs[2 * k]!]!, symbols[refs[2 * k + 1]!]!] as const,
    )
    const { type = 'UNSPECIFIED', help_ref: help = 0, unit_ref: unit = 0 } = metadata
    return { ...rest, ...named(labels), type, help: symbols[help]!, unit: symbols[unit]! }
  })
}

/** Names ascend, come once, and no value is empty, as both specifications ask for. */
function named(labels: readonly (readonly [string, string])[]) {
  labels.forEach(([name, value], k) => {
    if (value === '' || (k > 0 && name <= labels[k - 1]![0])) throw new Error(`label ${name} of ${labels}`)
  })
  const all = Object.fromEntries(labels)
  const text = labels.filter(([name]) => name !== '__name__').map(([name, value]) => `${name}="${value}"`)
  return { labels: all, key: `${all.__name__}{${text.join(',')}}` }
}

export interface FakeReceiver extends ContractTarget {
  readonly url: string
  readonly requests: { readonly headers: IncomingMessage['headers']; readonly series: readonly SpecSeries[] }[]
  readonly metadata: { readonly type: string; readonly metric_family_name: string }[]
  /** The next answers, before those of `behave`. */
  answerWith(...answers: FakeAnswer[]): void
}
export interface FakeAnswer {
  readonly status: number
  readonly text?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** `versions`: those it knows; of others it takes what a program of its time would. */
export async function startFakeReceiver(versions: readonly ('1.0' | '2.0')[] = ['1.0', '2.0']): Promise<FakeReceiver> {
  let how: Behaviour = 'accept'
  const next: FakeAnswer[] = []
  const seen = new Set<string>()
  const requests: FakeReceiver['requests'] = []
  const metadata: FakeReceiver['metadata'] = []
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      response.statusCode = 500
      response.end(String(error))
    })
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const planned = next.shift()
    if (planned !== undefined) {
      response.writeHead(planned.status, planned.headers ?? {}).end(planned.text)
      return
    }
    if (how === 'hang') return
    if (how === 'slow') await sleep(200)
    if (how === 'retry') return void response.writeHead(500).end('not now')
    if (how === 'reject') return void response.writeHead(400).end('never')
    const raw = snappyUncompress(Buffer.concat(chunks), 64 << 20)
    if (typeof raw === 'string') throw new Error(raw)
    const isV2 = /proto=io\.prometheus\.write\.v2\.Request/.test(String(request.headers['content-type']))
    // A program that knows 1.0 alone does not look at the type, and finds nothing in a request of 2.0.
    if (isV2 && !versions.includes('2.0')) {
      if (readV1(raw).series.length > 0) throw new Error('a request of 2.0 means something in 1.0')
      return void response.writeHead(204).end()
    }
    const v1 = isV2 ? null : readV1(raw)
    const series = v1 === null ? readV2(raw) : v1.series
    if (v1 !== null) metadata.push(...v1.metadata)
    requests.push({ headers: request.headers, series })
    let samples = 0
    let histograms = 0
    for (const one of series) {
      samples += one.samples.length
      histograms += one.histograms.length
      for (const { timestamp } of [...one.samples, ...one.histograms]) seen.add(`${one.key} ${timestamp}`)
    }
    response
      .writeHead(204, {
        ...(isV2
          ? {
              'x-prometheus-remote-write-samples-written': samples,
              'x-prometheus-remote-write-histograms-written': histograms,
              'x-prometheus-remote-write-exemplars-written': 0,
            }
          : {}),
      })
      .end()
  }

  const listen = (port: number) => new Promise<void>((done) => server.listen(port, '127.0.0.1', done))
  const close = async () => {
    const closed = new Promise((done) => server.close(done))
    for (const socket of sockets) socket.destroy()
    await closed
  }
  await listen(0)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/api/v1/write`,
    requests,
    metadata,
    answerWith: (...answers) => void next.push(...answers),
    async behave(to) {
      if (to === 'away') await close()
      else if (how === 'away') await listen(port)
      how = to
      if (to !== 'hang') for (const socket of sockets) socket.destroy()
    },
    taken: () => seen.size,
    close: async () => {
      if (how !== 'away') await close()
    },
  }
}
