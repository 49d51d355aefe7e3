import { isDeepStrictEqual } from 'node:util'
import { centroidsOf } from '../../../src/adapters/wavefront/centroids.ts'
import { HOSTED_LIMITS, type Limits, PROXY_LIMITS } from '../../../src/adapters/wavefront/limits.ts'
import {
  type Distribution,
  distributionLine,
  GRANULARITIES,
  pointLine,
  type Span,
  spanLine,
  spanLogsLine,
  spanUuid,
  traceUuid,
} from '../../../src/adapters/wavefront/lines.ts'
import {
  DELTA,
  quote,
  sanitiseName,
  sanitiseSource,
  sanitiseSpanName,
  sanitiseSpanTags,
  sanitiseTags,
  type Tags,
} from '../../../src/adapters/wavefront/text.ts'
import type { Refusal } from '../../../src/adapters/wavefront/validate.ts'
import { type Random, seededRandom } from '../../../src/lib/random.ts'
import { Histogram } from '../../../src/model/histogram.ts'
import type { Parsed, ParsedKind, WavefrontParser } from './parser.ts'

/**
 * Lines made of hostile names and tags, against Wavefront's own parsers.
 *
 *   clean   texts made fit by us: the parser accepts every line, and understands what was sent
 *   raw     texts as they are: where we refuse, the parser refuses what somebody would have written who checks nothing, for
 *           the same reason; where we do not, it accepts
 */
export interface HostileReport {
  seed: number
  lines: number
  /** Made fit, and sent: all of them accepted, understood as they were meant. */
  accepted: Record<ParsedKind, number>
  /** Raw texts that were legal, and accepted by both. */
  rawAccepted: number
  /** Refused by us, by code; the parser gave the same reason. */
  refused: Record<string, number>
  /** Refused by us for what the parser lets through, or reads as something else: by what it is. */
  stricter: Record<string, number>
  /** What does not hold; a few of them. */
  wrong: string[]
  wrongs: number
}

export interface HostileOptions {
  readonly parser: WavefrontParser
  readonly seed: number
  readonly count: number
  /** Share of lines with raw texts. */
  readonly raw?: number
  readonly onProgress?: (lines: number) => void
}

const CHUNK = 2000
const SECONDS = 1_793_491_200
const BIN_MS = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }

/** One line: how it was made, and what the parser should say of it. */
interface Case {
  readonly kind: ParsedKind
  readonly line: string
  readonly limits: 'hosted' | 'proxy'
  check(parsed: Parsed): void
}

export async function runHostileLines(options: HostileOptions): Promise<HostileReport> {
  const { parser, seed, count, raw = 0.2, onProgress } = options
  const random = seededRandom(seed)
  const report: HostileReport = {
    seed,
    lines: 0,
    accepted: { metric: 0, histogram: 0, span: 0, spanLogs: 0 },
    rawAccepted: 0,
    refused: {},
    stricter: {},
    wrong: [],
    wrongs: 0,
  }
  while (report.lines < count) {
    const cases: Case[] = []
    for (let k = 0; k < CHUNK && report.lines < count; k++, report.lines++) {
      const made = random() < raw ? rawCase(random, report) : cleanCase(random, report)
      if (made !== null) cases.push(made)
    }
    const parsed = await Promise.all(cases.map(({ kind, line, limits }) => parser.parse(kind, line, limits)))
    for (const [k, one] of parsed.entries()) cases[k]!.check(one)
    onProgress?.(report.lines)
  }
  return report
}

/** Lines made of hostile texts that were made fit: points, distributions and spans in turn. */
export function fitLines(seed: number, count: number): { readonly kind: ParsedKind; readonly line: string }[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, (_, k) => {
    const { kind, line } = [cleanPoint, cleanDistribution, cleanSpan][k % 3]!(random)
    if (typeof line !== 'string') throw new Error(line.reason)
    return { kind, line }
  })
}

function wrong(report: HostileReport, what: string): void {
  report.wrongs++
  if (report.wrong.length < 20) report.wrong.push(what)
}

function count(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1
}

function cleanCase(random: Random, report: HostileReport): Case | null {
  const limits = random() < 0.5 ? 'hosted' : 'proxy'
  const made = [cleanPoint, cleanDistribution, cleanSpan, cleanSpanLogs][Math.floor(random() * 4)]!(random)
  if (typeof made.line !== 'string') {
    wrong(report, `refused what was made fit: ${made.line.reason}`)
    return null
  }
  const { kind, line, expected } = made
  return {
    kind,
    line,
    limits,
    check(parsed) {
      const same = Object.entries(expected).every(([key, value]) =>
        isDeepStrictEqual(parsed[key as keyof Parsed], value),
      )
      if (same) report.accepted[kind]++
      else wrong(report, `${JSON.stringify(line)} → ${JSON.stringify(parsed)}, expected ${JSON.stringify(expected)}`)
    },
  }
}

interface Made {
  readonly kind: ParsedKind
  readonly line: string | Refusal
  readonly expected: Partial<Parsed>
}

function cleanPoint(random: Random): Made {
  const delta = random() < 0.3
  const name = `${delta ? DELTA : ''}${sanitiseName(hostileText(random), 250)}`
  const value = delta ? 1 + Math.floor(random() * 1e6) : hostileNumber(random)
  const timestampMs = delta ? null : SECONDS * 1000 + Math.floor(random() * 1e9)
  const source = sanitiseSource(hostileText(random)) || 'none'
  const tags = sanitiseTags(hostileTags(random))
  const time = timestampMs === null ? {} : { timestampMs: Math.floor(timestampMs / 1000) * 1000 }
  const line = pointLine({ name, value, timestampMs, source, tags })
  return { kind: 'metric', line, expected: { name, value: value + 0 === 0 ? 0 : value, source, tags, ...time } }
}

function cleanDistribution(random: Random): Made {
  const histogram = new Histogram()
  const values = 1 + Math.floor(random() ** 3 * 400)
  const spread = random() * 25
  for (let k = 0; k < values; k++)
    histogram.record(Math.floor(Math.exp(random() * spread)), 1 + Math.floor(random() * 3))
  const [centroids] = centroidsOf(histogram)
  const name = sanitiseName(hostileText(random))
  const source = sanitiseSource(hostileText(random)) || 'none'
  const tags = sanitiseTags(hostileTags(random))
  const granularity = GRANULARITIES[Math.floor(random() * 3)]!
  const timestampMs = SECONDS * 1000 + Math.floor(random() * 1e9)
  const distribution: Distribution = { name, source, tags, granularity, timestampMs, ...centroids! }
  const binMs = BIN_MS[granularity]
  const expected = { name, source, tags, binMs, timestampMs: Math.floor(timestampMs / binMs) * binMs, ...centroids! }
  return { kind: 'histogram', line: distributionLine(distribution), expected }
}

const REQUIRED: Tags = [
  ['application', 'shop'],
  ['service', 'cart'],
  ['cluster', 'none'],
  ['shard', 'none'],
]

function hostileSpan(random: Random): Span {
  const tags = sanitiseSpanTags(hostileTags(random).filter(([key]) => !REQUIRED.some(([name]) => name === key)))
  const taken = new Set(REQUIRED.map(([key]) => key))
  return {
    name: sanitiseSpanName(hostileText(random)),
    source: sanitiseSource(hostileText(random)) || 'none',
    traceId: hex(random, 4),
    spanId: hex(random, 2),
    parentSpanId: random() < 0.5 ? '' : hex(random, 2),
    startUs: SECONDS * 1e6 + Math.floor(random() * 1e12),
    durationUs: Math.floor(random() * 1e9),
    tags: [...REQUIRED, ...tags.filter(([key]) => !taken.has(key)).slice(0, 14)],
  }
}

function cleanSpan(random: Random): Made {
  const span = hostileSpan(random)
  const parent: Tags = span.parentSpanId === '' ? [] : [['parent', spanUuid(span.parentSpanId)]]
  return {
    kind: 'span',
    line: spanLine(span),
    expected: {
      name: span.name,
      source: span.source,
      traceId: traceUuid(span.traceId),
      spanId: spanUuid(span.spanId),
      startMs: Math.floor(span.startUs / 1000),
      durationMs: Math.floor(span.durationUs / 1000),
      tags: [...parent, ...span.tags],
    },
  }
}

function cleanSpanLogs(random: Random): Made {
  const span = hostileSpan(random)
  const line = spanLine(span)
  if (typeof line !== 'string') return { kind: 'spanLogs', line, expected: {} }
  // Keys are names: the JSON reader of the parsers (Jackson 2.12) now and then takes a key `\"` for another one.
  const fields = Object.fromEntries([
    ...hostileTags(random).map(([key, value]) => [sanitiseName(key), value.toWellFormed()]),
    ['event', hostileText(random).toWellFormed()],
  ]) as Record<string, string>
  const timeUs = span.startUs + 7
  return {
    kind: 'spanLogs',
    line: spanLogsLine(span, [{ timeUs, fields: Object.entries(fields) }], line),
    expected: {
      traceId: traceUuid(span.traceId),
      spanId: spanUuid(span.spanId),
      span: line.trimEnd(),
      logs: [{ timeUs, fields }],
    },
  }
}

/** A record as somebody would write it who checks nothing, and what we say of it. */
interface Raw {
  readonly kind: ParsedKind
  readonly line: string
  readonly ours: string | Refusal
  readonly texts: readonly string[]
  /** Refused by us alone, for a reason of our own. */
  readonly own: string | null
}

function rawCase(random: Random, report: HostileReport): Case | null {
  const limits = random() < 0.5 ? 'hosted' : 'proxy'
  const kind = random()
  const make = kind < 0.6 ? rawPoint : kind < 0.8 ? rawDistribution : rawSpan
  const made = make(random, limits === 'hosted' ? HOSTED_LIMITS : PROXY_LIMITS)
  const refused = typeof made.ours === 'string' ? null : made.ours
  const why = made.own ?? whyNotCarried(made.texts)
  if (refused !== null && why !== null) {
    count(report.stricter, why)
    return null
  }
  return {
    kind: made.kind,
    line: made.line,
    limits,
    check(parsed) {
      const { error } = parsed
      const { line } = made
      if (refused === null && error === undefined) report.rawAccepted++
      else if (refused === null) wrong(report, `not refused: ${JSON.stringify(line)}, but by the parser: ${error}`)
      else if (isSameReason(refused, error)) count(report.refused, refused.code)
      else wrong(report, `${refused.reason}, but the parser says ${error} of ${JSON.stringify(line)}`)
    },
  }
}

const naiveTags = (tags: Tags): string => tags.map(([key, value]) => ` ${quote(key)}=${quote(value)}`).join('')

/** One thing is bad at a time, most often: so that all reasons come up. */
function rawSeries(random: Random, limits: Limits): { name: string; source: string; tags: Tags } {
  const one = random() < 0.5
  return {
    name: one && random() < 0.4 ? badName(random) : 'mesh.requests',
    source: one && random() < 0.3 ? badText(random, limits.source) : 'gw',
    tags: random() < 0.8 ? [badTag(random, limits)] : badTags(random, limits.tags),
  }
}

function rawPoint(random: Random, limits: Limits): Raw {
  const series = rawSeries(random, limits)
  const delta = random() < 0.1
  const name = delta ? `${DELTA}${series.name}` : series.name
  const value =
    random() < 0.1 ? [Number.NaN, Number.POSITIVE_INFINITY, -1, 0][Math.floor(random() * 4)]! : delta ? -1 : 42
  return {
    kind: 'metric',
    line: `${quote(name)} ${value} ${SECONDS} source=${quote(series.source)}${naiveTags(series.tags)}`,
    ours: pointLine({ ...series, name, value, timestampMs: SECONDS * 1000 }, { limits }),
    texts: [name, series.source, ...series.tags.flat()],
    own: Number.isFinite(value) ? null : 'a value that is no number',
  }
}

function rawDistribution(random: Random, limits: Limits): Raw {
  const series = rawSeries(random, limits)
  const length = random() < 0.3 ? [0, 100, 101][Math.floor(random() * 3)]! : 1 + Math.floor(random() * 5)
  const weight = (): number => (random() < 0.1 ? [0, 1.5, 2 ** 31, -1][Math.floor(random() * 4)]! : 1)
  const counts = Array.from({ length }, weight)
  const means = counts.map((_, k) => k)
  const centroids = counts.map((weight, k) => ` #${weight} ${means[k]}`).join('')
  return {
    kind: 'histogram',
    line: `!M ${SECONDS}${centroids} ${quote(series.name)} source=${quote(series.source)}${naiveTags(series.tags)}`,
    ours: distributionLine(
      { ...series, granularity: 'minute', timestampMs: SECONDS * 1000, counts, means },
      { limits },
    ),
    texts: [series.name, series.source, ...series.tags.flat()],
    own: null,
  }
}

function rawSpan(random: Random, limits: Limits): Raw {
  const what = random()
  const name = what < 0.2 ? [`GET *${hostileText(random)}`, 'n'.repeat(129)][Math.floor(random() * 2)]! : 'GET /cart'
  const source = what > 0.2 && what < 0.4 ? badText(random, limits.source) : 'gw'
  const [key, value] = badTag(random, { ...limits, tagKey: limits.spanTagKey })
  const more: Tags = what > 0.8 ? badTags(random, limits.spanTags - REQUIRED.length) : [[key, value.slice(0, 128)]]
  const span: Span = { ...hostileSpan(random), parentSpanId: '', name, source, tags: [...REQUIRED, ...more] }
  const ids = `traceId=${traceUuid(span.traceId)} spanId=${spanUuid(span.spanId)}`
  return {
    kind: 'span',
    line: `${quote(name)} source=${quote(source)} ${ids}${naiveTags(span.tags)} ${span.startUs} ${span.durationUs}`,
    ours: spanLine(span, { limits }),
    texts: [name, source, ...span.tags.flat()],
    own: null,
  }
}

/** What cannot be written inside quotes at all: what a parser makes of it depends on the rest of the line. */
function whyNotCarried(texts: readonly string[]): string | null {
  if (texts.some((text) => text.endsWith('\\'))) return 'a backslash before the closing quote'
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is looked for.
  if (texts.some((text) => /[\n\r\u0004]/.test(text))) return 'a line feed, carriage return or U+0004'
  if (texts.some((text) => !text.isWellFormed())) return 'half of a pair of surrogates'
  return null
}

function isSameReason(ours: Refusal, error: string | undefined): boolean {
  if (error === undefined) return false
  // The parser looks behind a delta sign without asking whether something is there.
  if (/^index 1, ?length 1$|^String index out of range/.test(error))
    return /illegal character\(s\): [\u2206\u0394]$/.test(ours.reason)
  return ours.reason === (error.startsWith('WF-') ? error : `WF-300: ${error}`)
}

const ALPHABETS: readonly string[] = [
  'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,/',
  ' "\'\\=#!{}[]@*()<>:;|&%$^`~+?',
  '\t\n\r\u0000\u0001\u0004\u0007\u001b\u001c\u007f\u0085\u00a0',
  'äöüß東京😀Ω∆Δ\u2028\u2029\u3000\u200b\ufeff\u0301',
  '\ud800\udc00\udbff',
]
const WORDS: readonly string[] = [
  '',
  ' ',
  '"',
  '\\',
  '\\\\',
  '\\"',
  '#',
  '=',
  '!M',
  '!M 1 #1 1',
  '@Event',
  '@SourceTag',
  'source',
  'host',
  'tag',
  'spanId',
  'traceId',
  'parent',
  '_spanLogs',
  '∆',
  'Δ~x',
  '~x',
  '12345',
  '1e999',
  'NaN',
  'null',
  '__proto__',
  "'; DROP TABLE x; --",
  '$\u007bjndi:ldap://x/}',
]

function hostileText(random: Random): string {
  const what = random()
  if (what < 0.25) return WORDS[Math.floor(random() * WORDS.length)]!
  const length = what > 0.95 ? Math.floor(random() * 600) : Math.floor(random() ** 2 * 60)
  const alphabets = 1 + Math.floor(random() * 3)
  let text = ''
  for (let k = 0; k < length; k++) {
    const alphabet = ALPHABETS[Math.floor(random() ** 2 * ALPHABETS.length + k) % alphabets] ?? ALPHABETS[0]!
    const other = random() < 0.2 ? ALPHABETS[Math.floor(random() * ALPHABETS.length)]! : alphabet
    text += other[Math.floor(random() * other.length)]!
  }
  return random() < 0.1 ? `${text}\\` : text
}

function hostileTags(random: Random): Tags {
  const tags = Array.from(
    { length: Math.floor(random() ** 2 * 25) },
    () => [hostileText(random), hostileText(random)] as const,
  )
  // As the keys of an object: what JavaScript treats in a special way, and repeated keys, are for other tests.
  return tags.filter(([key], k) => key !== '__proto__' && tags.findIndex(([other]) => other === key) === k)
}

function hostileNumber(random: Random): number {
  const value = (random() - 0.5) * 10 ** Math.floor(random() * 40 - 15)
  return random() < 0.5 ? Math.trunc(value) + 0 : value
}

function hex(random: Random, words: number): string {
  let text = ''
  for (let k = 0; k < words; k++) text += (Math.floor(random() * 2 ** 32) || 1).toString(16).padStart(8, '0')
  return text
}

const BAD_CHARACTERS = ' :;"\'#=*()ä\u2206~\u0000\u0004\n\r\\'

function badName(random: Random): string {
  const what = random()
  if (what < 0.2) return 'n'.repeat(200 + Math.floor(random() * 900))
  if (what < 0.3) return ''
  const bad = BAD_CHARACTERS[Math.floor(random() * BAD_CHARACTERS.length)]!
  return random() < 0.5 ? `a${bad}b` : `${bad}ab`
}

function badText(random: Random, ...lengths: readonly number[]): string {
  const what = random()
  if (what < 0.3) return ['', ' ', '\t', '\u2003 ', '\u00a0'][Math.floor(random() * 5)]!
  if (what < 0.6) return 'v'.repeat(lengths[Math.floor(random() * lengths.length)]! + Math.floor(random() * 4) - 2)
  return hostileText(random)
}

/** Keys that a proxy takes for something else are no tags: what they do is another matter. */
function badTag(random: Random, limits: Limits): readonly [string, string] {
  const what = random()
  if (what < 0.3) return [badName(random) || 'k', 'v']
  if (what < 0.5) return ['k'.repeat(limits.tagKey + Math.floor(random() * 4) - 2), 'v']
  return ['k', badText(random, 252, 254, 256)]
}

function badTags(random: Random, limit: number): Tags {
  const length = limit - 1 + Math.floor(random() * 3)
  return Array.from({ length }, (_, k) => [`k${k}`, 'v'] as const)
}
