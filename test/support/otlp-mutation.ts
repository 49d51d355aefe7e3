import { readFileSync } from 'node:fs'
import { createOrigins } from '../../src/ingest/entry/origins.ts'
import { createPreset } from '../../src/ingest/lines/presets/index.ts'
import type { Decoded } from '../../src/ingest/otlp/counters.ts'
import { Fields } from '../../src/ingest/otlp/fields.ts'
import { jsonToProtobuf } from '../../src/ingest/otlp/json.ts'
import { createLogsDecoder } from '../../src/ingest/otlp/logs.ts'
import { SIGNALS, type Signal } from '../../src/ingest/otlp/messages.ts'
import { createResourceReader } from '../../src/ingest/otlp/resource.ts'
import { type Random, seededRandom } from '../../src/lib/random.ts'
import { framed } from './als-decoding.ts'
import { createWriting } from './entry-writing.ts'
import { createOtlpDecoding, otlp, SENDER } from './otlp.ts'

/**
 * Damages OTLP requests of all three kinds, in protobuf and in JSON, and decodes them: nothing may throw or hang, no item
 * is written that was not counted, items beside a damaged one are what they were, and a request that is whole reads the same
 * after all that as before.
 */
export interface OtlpMutationReport {
  readonly count: number
  readonly rejected: number
  /** Items beside a damaged one, compared with those of the whole request. */
  readonly compared: number
  readonly failure: string | null
}

const NOW_MS = 1_795_231_480_000
/** A whole request is read after so many damaged ones. */
const PRISTINE_EVERY = 25

interface Sample {
  readonly signal: Signal
  readonly message: Buffer
  readonly json: string
}

/** Requests with every field there is, for what Envoy never sends. */
const MADE: Readonly<Record<Signal, unknown>> = {
  logs: {
    resourceLogs: [
      {
        resource: { attributes: [{ key: 'node_name', value: { stringValue: 'n' } }], droppedAttributesCount: 1 },
        schemaUrl: 's',
        scopeLogs: [
          {
            scope: { name: 'x', attributes: [{ key: 'a', value: { boolValue: true } }] },
            logRecords: [
              {
                timeUnixNano: '1795231455406514000',
                observedTimeUnixNano: '1795231455406514001',
                severityNumber: 9,
                severityText: 'INFO',
                flags: 1,
                traceId: '5b8efff798038103d269b633813fc60c',
                spanId: 'eee19b7ec3c1b174',
                body: { kvlistValue: { values: [{ key: 'response_code', value: { intValue: '200' } }] } },
                attributes: [
                  { key: 'http.response.status_code', value: { intValue: '503' } },
                  { key: 'url.path', value: { stringValue: '/a?b=c' } },
                  { key: 'http.request.header.x', value: { arrayValue: { values: [{ stringValue: 'y' }] } } },
                  { key: 'm', value: { kvlistValue: { values: [{ key: 'k', value: { doubleValue: 1.5 } }] } } },
                  { key: 'b', value: { bytesValue: 'AAEC' } },
                ],
              },
              {
                body: {
                  stringValue:
                    '[2026-01-01T00:00:00.250Z] "GET /r HTTP/1.1" 200 - 0 295 44 43 "-" "c" "i" "h" "1.2.3.4:5"',
                },
              },
            ],
          },
        ],
      },
    ],
  },
  metrics: {
    resourceMetrics: [
      {
        resource: { attributes: [{ key: 'service.name', value: { stringValue: 'cart' } }] },
        scopeMetrics: [
          {
            metrics: [
              {
                name: 'g',
                unit: 'By',
                description: 'd',
                gauge: { dataPoints: [{ timeUnixNano: '1795231455406514000', asDouble: 1.5 }] },
              },
              {
                name: 's',
                sum: { aggregationTemporality: 1, isMonotonic: true, dataPoints: [{ asInt: '3', flags: 0 }] },
              },
              {
                name: 'h',
                histogram: {
                  aggregationTemporality: 2,
                  dataPoints: [{ count: '3', sum: 1, bucketCounts: ['1', '2'], explicitBounds: [1], min: 0, max: 9 }],
                },
              },
              {
                name: 'e',
                exponentialHistogram: {
                  aggregationTemporality: 2,
                  dataPoints: [
                    {
                      count: '3',
                      sum: 1,
                      scale: 3,
                      zeroCount: '1',
                      positive: { offset: 2, bucketCounts: ['1', '1'] },
                      negative: {},
                    },
                  ],
                },
              },
              {
                name: 'q',
                summary: { dataPoints: [{ count: '3', sum: 1, quantileValues: [{ quantile: 0.5, value: 1 }] }] },
              },
            ],
          },
        ],
      },
    ],
  },
  traces: {
    resourceSpans: [
      {
        scopeSpans: [
          {
            scope: { name: 'lib', version: '1' },
            spans: [
              {
                traceId: '5b8efff798038103d269b633813fc60c',
                spanId: 'eee19b7ec3c1b174',
                parentSpanId: 'eee19b7ec3c1b173',
                traceState: 'a=b',
                name: 'GET /',
                kind: 2,
                startTimeUnixNano: '1795231455406514000',
                endTimeUnixNano: '1795231455406519000',
                attributes: [{ key: 'http.url', value: { stringValue: 'http://x/y?z=1' } }],
                events: [{ timeUnixNano: '1', name: 'e', attributes: [{ key: 'k', value: { intValue: '1' } }] }],
                links: [{ traceId: '5b8efff798038103d269b633813fc60c', spanId: 'eee19b7ec3c1b174' }],
                status: { code: 2, message: 'no' },
                flags: 257,
              },
            ],
          },
        ],
      },
    ],
  },
}

export function otlpSamples(): Sample[] {
  return SIGNALS.flatMap((signal) => {
    const file = readFileSync(new URL(`../fixtures/otlp/otlp-${signal}.bin`, import.meta.url))
    const recorded = framed(file)
      .filter((message) => message.length < 6000)
      .map((message) => ({ signal, message, json: JSON.stringify(MADE[signal]) }))
    const made = { signal, message: otlp(signal, MADE[signal]), json: JSON.stringify(MADE[signal]) }
    return [...recorded, made, made, made]
  })
}

/** A request through fresh or used decoders, as the texts of what was written. */
function createReading() {
  const decoding = createOtlpDecoding()
  const writing = createWriting()
  const entries: string[] = []
  const { writer } = writing
  const { entry } = writer
  const logs = createLogsDecoder({
    resources: createResourceReader({ origins: createOrigins() }),
    createParser: () => createPreset('auto')!,
    writer: {
      entry,
      pending: 0,
      added: 0,
      taken: 0,
      commit: () => writer.commit(),
      add(origin) {
        const { code, path, durationNs, flags, startSeconds, startNanos, traceId, customTags } = entry
        const tags = customTags.values.slice(0, customTags.count)
        entries.push(
          JSON.stringify([origin.nodeId, code, path, durationNs, flags, startSeconds, startNanos, traceId, tags]),
        )
        return writer.add(origin)
      },
    },
  })
  return {
    /** Decodes, and gives what was written. Throws when a figure is wrong. */
    read(signal: Signal, message: Buffer): { decoded: Decoded; written: string[] } {
      entries.length = 0
      decoding.metrics.written.length = 0
      decoding.spans.length = 0
      const { metrics, traces } = decoding.decoders
      const decoded =
        signal === 'logs'
          ? logs.decode(message, 0, message.length, SENDER)
          : signal === 'metrics'
            ? metrics.decode(message, 0, message.length, SENDER, NOW_MS)
            : traces.decode(message, 0, message.length, SENDER, NOW_MS)
      const { added, rejected, pending } = writer.commit()
      if (added + rejected !== entries.length || pending !== 0) throw new Error('entries were lost behind the writer')
      const written =
        signal === 'logs'
          ? [...entries]
          : signal === 'metrics'
            ? decoding.metrics.written.filter(({ name }) => name !== 'target_info').map((one) => JSON.stringify(one))
            : decoding.spans.map((span) =>
                JSON.stringify(span, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
              )
      // Beyond the items, each place where framing was lost counts as one rejected.
      if (written.length > decoded.items || written.length < decoded.items - decoded.rejected) {
        throw new Error(`${decoded.items} items, ${decoded.rejected} rejected, but ${written.length} written`)
      }
      if (decoded.rejected > 0 && decoded.reason === '') throw new Error('rejected without a reason')
      return { decoded, written }
    },
    forget: () => void writing.take(),
  }
}

export function createOtlpMutationRun() {
  const samples = otlpSamples()
  const kinds = SIGNALS.map((signal) => [...samples.keys()].filter((at) => samples[at]!.signal === signal))
  let whole: string[][] | null = null
  return (options: { seed: number; count: number; onMessage?: (k: number) => void }): OtlpMutationReport => {
    const random = seededRandom(options.seed)
    const below = (most: number): number => Math.floor(random() * most)
    const reading = createReading()
    // By each sample's own decoders the first time: nothing that was read before it plays a part.
    whole ??= samples.map(({ signal, message }) => createReading().read(signal, message).written)
    let rejected = 0
    let compared = 0
    for (let k = 0; k < options.count; k++) {
      options.onMessage?.(k)
      // As many of each kind, whatever there is of samples.
      const kind = kinds[k % kinds.length]!
      const at = kind[below(kind.length)]!
      const sample = samples[at]!
      try {
        if (k % PRISTINE_EVERY === 0) {
          const { written } = reading.read(sample.signal, sample.message)
          if (JSON.stringify(written) !== JSON.stringify(whole[at]))
            throw new Error('a whole request reads differently')
          if (k % 1000 === 0) reading.forget()
          continue
        }
        if (random() < 0.2) {
          const converted = jsonToProtobuf(sample.signal, damagedText(sample.json, random))
          if (!converted.ok) rejected++
          else rejected += reading.read(sample.signal, converted.bytes).decoded.rejected > 0 ? 1 : 0
          continue
        }
        if (random() < 0.1) {
          const { written } = reading.read(sample.signal, sample.message.subarray(0, below(sample.message.length)))
          // The outermost length is wrong then: nothing of the last group is taken.
          comparePrefix(written, whole[at]!, written.length)
          rejected++
          continue
        }
        if (random() < 0.4) {
          const items = itemsOf(sample.message)
          const one = below(items.length)
          const { from, to } = items[one]!
          const message = Buffer.from(sample.message)
          for (let times = 1 + below(4); times > 0; times--) message[from + below(to - from)] = below(256)
          const { decoded, written } = reading.read(sample.signal, message)
          if (decoded.rejected > 0) rejected++
          comparePrefix(written, whole[at]!, one)
          comparePrefix(written.toReversed(), whole[at]!.toReversed(), items.length - one - 1)
          compared += items.length - 1
          continue
        }
        const { decoded } = reading.read(
          sample.signal,
          damaged(sample.message, samples[below(samples.length)]!.message, random),
        )
        if (decoded.rejected > 0) rejected++
      } catch (error) {
        const text = error instanceof Error ? String(error.stack) : String(error)
        return { count: k, rejected, compared, failure: `seed ${options.seed}, message ${k}: ${text}` }
      }
    }
    return { count: options.count, rejected, compared, failure: null }
  }
}

/** The first `count` items must be those of the whole request. */
function comparePrefix(written: readonly string[], whole: readonly string[], count: number): void {
  for (let k = 0; k < count; k++) {
    if (written[k] !== whole[k]) throw new Error(`item ${k}, which is not damaged, is ${written[k]}, not ${whole[k]}`)
  }
}

/** Where the content of each log record, metric or span lies: `resource…` #1, `scope…` #2, item #2. */
function itemsOf(message: Buffer): { from: number; to: number }[] {
  const items: { from: number; to: number }[] = []
  const request = new Fields().enter(message, 0, message.length)
  while (request.next()) {
    const group = new Fields().into(request)
    while (group.next()) {
      if (group.number !== 2) continue
      const scoped = new Fields().into(group)
      while (scoped.next()) if (scoped.number === 2) items.push({ from: scoped.from, to: scoped.to })
    }
  }
  return items
}

function damaged(message: Buffer, other: Buffer, random: Random): Buffer {
  const below = (most: number): number => Math.floor(random() * most)
  const copy = Buffer.from(message)
  const times = 1 + below(4)
  let made = copy
  for (let k = 0; k < times; k++) {
    const at = below(made.length)
    switch (below(7)) {
      case 0:
        made[at] = below(256)
        break
      case 1:
        made[at] = made[at]! ^ (1 << below(8))
        break
      case 2: // A length that is far too long.
        made = Buffer.concat([made.subarray(0, at), Buffer.from('ffffffff7f', 'hex'), made.subarray(at)])
        break
      case 3:
        made = Buffer.concat([made.subarray(0, at), made.subarray(Math.min(made.length, at + 1 + below(16)))])
        break
      case 4: {
        const from = below(other.length)
        made = Buffer.concat([made.subarray(0, at), other.subarray(from, from + below(64)), made.subarray(at)])
        break
      }
      case 5:
        made = Buffer.concat([made.subarray(0, at), Buffer.alloc(1 + below(12), [0, 0x7f, 0x80, 0xff][below(4)])])
        break
      default: // NaN, infinities and the ends of what 64 bits hold, where eight bytes may be.
        if (at + 8 < made.length) Buffer.from(EIGHT[below(EIGHT.length)]!, 'hex').copy(made, at)
    }
    if (made.length === 0) return made
  }
  return made
}

const EIGHT = [
  '000000000000f87f',
  '000000000000f07f',
  '000000000000f0ff',
  'ffffffffffffffff',
  'ffffffffffffff7f',
  '0000000000000080',
]

function damagedText(text: string, random: Random): string {
  const below = (most: number): number => Math.floor(random() * most)
  const at = below(text.length)
  switch (below(6)) {
    case 0:
      return text.slice(0, at)
    case 1:
      return text.slice(0, at) + text.slice(at + 1 + below(8))
    case 2: {
      const values = ['null', '-1', '1e400', '"NaN"', '{}', '[]', '"x"', 'true', '18446744073709551616', '[[[[]]]]']
      return text.replace(/"(?:[^"\\]|\\.)*"(?=[,}\]])|\d+/g, (found) =>
        random() < 0.1 ? values[below(values.length)]! : found,
      )
    }
    case 3:
      return text.replace(/\{/g, (found) => (random() < 0.05 ? '[{' : found))
    case 4:
      return `${text.slice(0, at)}${'{"arrayValue":{"values":['.repeat(1 + below(200))}${text.slice(at)}`
    default:
      return text.slice(0, at) + String.fromCharCode(below(0x300)) + text.slice(at)
  }
}
