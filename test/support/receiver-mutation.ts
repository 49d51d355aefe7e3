import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { ExtData, encode } from '@msgpack/msgpack'
import { readMessage } from '../../src/ingest/fluentd/message.ts'
import { ValueScanner } from '../../src/ingest/fluentd/scan.ts'
import { commitPage } from '../../src/ingest/scrape/commit.ts'
import { Page } from '../../src/ingest/scrape/page.ts'
import { createProtobufParser } from '../../src/ingest/scrape/protobuf.ts'
import { createTextParser } from '../../src/ingest/scrape/text.ts'
import { SyslogFrames } from '../../src/ingest/syslog/frames.ts'
import { seededRandom } from '../../src/lib/random.ts'
import { mutate } from './als-mutation.ts'
import { recordMetrics } from './metric-recorder.ts'

/**
 * Damages what scrape targets, Fluentd and syslog senders send. Nothing may throw; what stands whole before the damage must come
 * through, unless the input as a whole is refused; and what is remembered of damaged pages must not change what a sound one says.
 */
export const MUTATED = ['text', 'openmetrics', 'protobuf', 'fluentd', 'syslog'] as const
export type Mutated = (typeof MUTATED)[number]

export interface ReceiverMutationReport {
  readonly count: number
  /** Inputs with something refused. */
  readonly rejected: number
  /** First thing found wrong, with the seed. */
  readonly failure: string | null
}

export async function runReceiverMutations(
  what: Mutated,
  options: { readonly seed: number; readonly count: number },
): Promise<ReceiverMutationReport> {
  const random = seededRandom(options.seed)
  const samples = SAMPLES[what]()
  const check = CHECKS[what]()
  let rejected = 0
  for (let k = 0; k < options.count; k++) {
    const sample = samples[Math.floor(random() * samples.length)]!
    const { bytes, from } = mutate(sample, random)
    const label = `${what}, seed ${options.seed}, input ${k}`
    try {
      const outcome = await check(bytes, sample, from, random)
      if (typeof outcome === 'string') {
        return { count: k, rejected, failure: `${label}: ${outcome}: ${bytes.toString('base64')}` }
      }
      if (outcome) rejected++
    } catch (error) {
      const stack = error instanceof Error ? error.stack : String(error)
      return { count: k, rejected, failure: `${label}: ${stack}: ${bytes.toString('base64')}` }
    }
  }
  return { count: options.count, rejected, failure: null }
}

/** True: something was refused; false: nothing was; a text: what is wrong. */
type Check = (
  bytes: Buffer,
  sound: Buffer,
  from: number,
  random: () => number,
) => boolean | string | Promise<boolean | string>

const fixture = (name: string): Buffer => readFileSync(new URL(`../fixtures/stats/${name}`, import.meta.url))

function textSamples(end: string, eof: string): () => Buffer[] {
  return () => {
    const lines = fixture('stats-prometheus.txt').toString().split('\n')
    const pages: Buffer[] = []
    for (let at = 0; at + 30 < lines.length; at += 30)
      pages.push(Buffer.from(`${lines.slice(at, at + 30).join(end)}${end}${eof}`))
    pages.push(
      Buffer.from(
        `# TYPE a counter${end}# UNIT a seconds${end}# HELP a x\\ny${end}a_total{x="1\\"\\\\"} 1e3 1700000000 ${eof === '' ? '' : '# {t="1"} 0.5 1.5'}${end}{"b.c","d.e"="f"} NaN${end}${eof}`,
      ),
    )
    return pages
  }
}

const SAMPLES: Readonly<Record<Mutated, () => Buffer[]>> = {
  text: textSamples('\n', ''),
  openmetrics: textSamples('\n', '# EOF\n'),
  protobuf: () =>
    ['stats-prometheus-part.pb', 'stats-prometheus-part-native.pb'].flatMap((name) => {
      const families = messagesOf(fixture(name))
      const pages: Buffer[] = []
      for (let at = 0; at < families.length; at += 8) pages.push(Buffer.concat(families.slice(at, at + 8)))
      return pages
    }),
  fluentd: () => {
    const record = {
      start_time: '2026-11-21T03:24:15.406Z',
      method: 'GET',
      path: '/a',
      response_code: 200,
      tags: [1, null, { a: 1.5 }],
    }
    const time = new ExtData(0, Uint8Array.of(0x65, 0x53, 0xf1, 0, 0, 0, 0, 5))
    const packed = Buffer.concat([encode([1, record]), encode([time, record])])
    return [
      ['t', 1, record, { chunk: 'c' }],
      [
        't',
        [
          [1, record],
          [time, record],
          [[time, {}], record],
        ],
        { chunk: 'c', size: 3 },
      ],
      ['t', packed, { chunk: 'c' }],
      ['t', gzipSync(packed), { compressed: 'gzip' }],
    ].map((message) => Buffer.from(encode(message)))
  },
  syslog: () => {
    const line = '<190>Nov 21 11:59:59 web-1 nginx: 10.0.0.9 - - [21/Nov/2026:11:59:58 +0000] "GET /a HTTP/1.1" 200 612'
    return [`${line}\n`.repeat(6), `${line.length} ${line}`.repeat(6), `${line}\n${line.length} ${line}`.repeat(3)].map(
      (text) => Buffer.from(text),
    )
  },
}

/** Length and message of each. */
function messagesOf(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    let end = at
    let length = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[end++]!
      length += (byte & 127) * 2 ** shift
      if (byte < 128) break
    }
    messages.push(bytes.subarray(at, end + length))
    at = end + length
  }
  return messages
}

type ParsePage = (page: Page, bytes: Buffer) => ReturnType<ReturnType<typeof createTextParser>['parse']>

function pageCheck(parse: ParsePage, wholeBefore: (sound: Buffer, from: number) => Buffer): () => Check {
  return () => {
    let page = new Page()
    const store = recordMetrics()
    const attach = (labels: readonly (readonly [string, string])[]) => ({ job: 'j', instance: 'i', labels })
    const written = (of: Page): string => {
      store.written.length = 0
      commitPage(of, { store, timeMs: 1, attach })
      return JSON.stringify(
        store.written.map(({ series, type, value, distribution }) => [series, type, value, distribution]),
      )
    }
    let round = 0
    return (bytes, sound, from) => {
      const result = parse(page, bytes)
      if (result.samples < 0 || (result.firstReason === null) !== (result.rejected === 0))
        return 'a reason without a rejection'
      if (result.failure === null) {
        const whole = parse(new Page(), wholeBefore(sound, from)).samples
        // A name or label that damage has made equal to an earlier one is a duplicate, never the other way round.
        if (result.samples < whole) return `${result.samples} samples, ${whole} before the damage`
        written(page)
      }
      if (++round % 16 === 0) {
        // The same page object reads a sound page as a new one does: types that damage declared are declared anew by it.
        const fresh = new Page()
        parse(fresh, sound)
        const again = parse(page, sound)
        if (again.failure === null && written(page) !== written(fresh) && !declaresTypes(page, fresh))
          return 'what is remembered is wrong'
        if (page.isMostlyOld || page.items.length > 5000) page = new Page()
      }
      return result.rejected > 0 || result.failure !== null
    }
  }
}

/** Whether the page knows a family by a type, help or unit that the sound page does not declare: then it may differ. */
function declaresTypes(page: Page, fresh: Page): boolean {
  return page.families.some((family) => {
    const other = fresh.knownFamily(family.name)
    return family.declared && (other === undefined || other.type !== family.type || !other.declared)
  })
}

const textParser = createTextParser()
const protobufParser = createProtobufParser()
const lineBefore = (sound: Buffer, from: number): Buffer =>
  sound.subarray(0, from === 0 ? 0 : sound.lastIndexOf(0x0a, from - 1) + 1)

const CHECKS: Readonly<Record<Mutated, () => Check>> = {
  text: pageCheck(
    (page, bytes) => textParser.parse(page, bytes, 0, bytes.length, { openMetrics: false, timestamps: true }),
    lineBefore,
  ),
  openmetrics: pageCheck((page, bytes) => {
    page.onExemplar = () => {}
    return textParser.parse(page, bytes, 0, bytes.length, { openMetrics: true, timestamps: true })
  }, lineBefore),
  protobuf: pageCheck(
    (page, bytes) => {
      page.onExemplar = () => {}
      return protobufParser.parse(page, bytes, 0, bytes.length, { timestamps: true })
    },
    (sound, from) => {
      let end = 0
      for (const message of messagesOf(sound)) {
        if (end + message.length > from) break
        end += message.length
      }
      return sound.subarray(0, end)
    },
  ),
  fluentd: () => {
    const limits = { bytesMax: 1 << 16, depthMax: 16, valuesMax: 10_000 }
    return async (bytes, _sound, _from, random) => {
      const scanner = new ValueScanner(limits)
      // In two pieces, as a socket may give it.
      const first = scanner.scan(bytes.subarray(0, Math.floor(random() * bytes.length)))
      const length =
        typeof first === 'number' && first > 0 ? first : typeof first === 'string' ? first : scanner.scan(bytes)
      const whole = new ValueScanner(limits).scan(bytes)
      if (length !== whole) return `${length} in pieces, ${whole} at once`
      if (typeof length === 'string' || length === 0) return true
      const message = await readMessage(bytes.subarray(0, length), limits)
      if (message === null || typeof message === 'string') return true
      for (const { seconds, nanos } of message.events) {
        if (!(seconds >= 0 && nanos >= 0 && nanos < 1e9)) return `time ${seconds}.${nanos}`
      }
      return message.rejected.length > 0
    }
  },
  syslog: () => (bytes, sound, from, random) => {
    const read = (chunks: readonly Buffer[]): { messages: string[]; faults: number } => {
      const messages: string[] = []
      let faults = 0
      const frames = new SyslogFrames({
        messageBytesMax: 500,
        onMessage: (message, start, end) => messages.push(message.toString('latin1', start, end)),
        onFault: () => faults++,
      })
      for (const chunk of chunks) frames.push(chunk)
      frames.end()
      return { messages, faults }
    }
    const cut = Math.floor(random() * bytes.length)
    const pieces = read([bytes.subarray(0, cut), bytes.subarray(cut)])
    const whole = read([bytes])
    if (JSON.stringify(pieces) !== JSON.stringify(whole)) return 'other messages in pieces'
    // Messages that end before the damage, but for the last: damage may stand at its end.
    const before = read([sound.subarray(0, from)]).messages.slice(0, -1)
    for (const [k, message] of before.entries())
      if (whole.messages[k] !== message) return `message ${k} before the damage`
    return whole.faults > 0
  },
}
