import { isUtf8 } from 'node:buffer'
import { hashOf } from './head-table.ts'
import { readHead, unescaped } from './head-text.ts'
import { NumberReader } from './number.ts'
import { type FamilyType, type Item, PART, type Page, type PageResult, type Rejection } from './page.ts'
import { roleOf } from './role.ts'

/**
 * Reads a page in Prometheus text 0.0.4 or OpenMetrics 1.0 from its bytes into `page`. A line that came before costs the
 * comparison of its head with the one expected, and reading a number.
 *
 * A line that cannot be read is rejected alone. The page as a whole fails when nothing in it could be read, when it has too many
 * samples, or when the end mark of OpenMetrics is missing, since then the rest of it is missing, too.
 */
export interface TextOptions {
  readonly openMetrics: boolean
  /** Whether timestamps of the page count; without, its samples are of the time of the scrape. */
  readonly timestamps: boolean
}

export interface TextParser {
  parse(page: Page, bytes: Buffer, start: number, end: number, options: TextOptions): PageResult
}

const NEWLINE = 0x0a
const RETURN = 0x0d
const SPACE = 0x20
const TAB = 0x09
const HASH = 0x23
const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN = 0x7b
const CLOSE = 0x7d

/** Rejections of a head are kept by number in place of an item. */
const REASONS: readonly Rejection[] = [
  'syntax',
  'name',
  'duplicate_label',
  'labels_limit',
  'label_length',
  'bucket',
  'buckets_limit',
  'utf8',
]
const TYPES: Readonly<Record<string, FamilyType>> = {
  counter: 'counter',
  gauge: 'gauge',
  histogram: 'histogram',
  gaugehistogram: 'gaugehistogram',
  summary: 'summary',
  untyped: 'untyped',
  unknown: 'untyped',
  info: 'info',
  stateset: 'stateset',
}

export function createTextParser(): TextParser {
  return new LineParser()
}

class LineParser implements TextParser {
  readonly #number = new NumberReader()
  #page!: Page
  #bytes!: Buffer
  #start = 0
  #openMetrics = false
  #timestamps = true
  #eof = false

  parse(page: Page, bytes: Buffer, start: number, end: number, options: TextOptions): PageResult {
    this.#page = page
    this.#bytes = bytes
    this.#start = start
    this.#openMetrics = options.openMetrics
    this.#timestamps = options.timestamps
    this.#eof = false
    page.begin()
    const { result, heads } = page
    const { samplesMax } = page.limits
    for (let at = start; at < end; ) {
      const head = heads.expected(bytes, at, end)
      if (head >= 0 && page.holds(head)) {
        const part = page.headPart[head]!
        const behind = at + heads.lengthOf(head)
        at = part === PART.comment ? behind : this.#rest(head, part, at, behind, end)
      } else at = this.#line(at, end)
      if (result.samples > samplesMax) {
        result.failure = 'sample_limit'
        return result
      }
    }
    if (this.#openMetrics && !this.#eof && result.samples > 0) result.failure = 'no_eof'
    else if (result.samples === 0 && result.rejected > 0) result.failure = 'malformed'
    return result
  }

  /** What follows a head: number, time, exemplar. Returns where the next line begins. */
  #rest(head: number, part: number, line: number, behind: number, end: number): number {
    const page = this.#page
    const bytes = this.#bytes
    if (part === PART.rejected) return this.#reject(REASONS[page.headItem[head]!]!, line, end)
    let at = behind
    while (bytes[at] === SPACE || bytes[at] === TAB) at++
    const reader = this.#number
    const value = reader.read(bytes, at, end)
    if (reader.end === at) {
      // A head without labels, found as the beginning of one with: `x {a="b"} 1`.
      return bytes[at] === OPEN && bytes[behind - 1] !== CLOSE
        ? this.#line(line, end)
        : this.#reject('value', line, end)
    }
    at = reader.end
    let time = Number.NaN
    if (bytes[at] !== NEWLINE) {
      while (at < end && (bytes[at] === SPACE || bytes[at] === TAB || bytes[at] === RETURN)) at++
      if (at < end && bytes[at] !== NEWLINE && bytes[at] !== HASH) {
        const stamp = reader.read(bytes, at, end)
        if (reader.end === at || !Number.isFinite(stamp)) return this.#reject('timestamp', line, end)
        if (!this.#openMetrics && !Number.isInteger(stamp)) return this.#reject('timestamp', line, end)
        const ms = this.#openMetrics ? Math.round(stamp * 1000) : stamp
        if (Math.abs(ms) > TIME_MAX) return this.#reject('timestamp', line, end)
        if (this.#timestamps) time = ms
        at = reader.end
        while (at < end && (bytes[at] === SPACE || bytes[at] === TAB || bytes[at] === RETURN)) at++
      }
      // A number that the end of the page cuts off may be a part of it.
      if (at >= end) return this.#reject('syntax', line, end)
    }
    const number = page.headItem[head]!
    let next = at + 1
    if (bytes[at] !== NEWLINE) {
      if (bytes[at] !== HASH || !this.#openMetrics) return this.#reject('syntax', line, end)
      next = lineEnd(bytes, at, end)
      page.result.exemplars++
      if (page.onExemplar !== null) this.#exemplar(page.items[number]!, at, next)
    }
    if (page.put(number, part, value, time)) page.result.samples++
    else page.reject('duplicate', line - this.#start)
    return next
  }

  /** A line that is not the one expected. */
  #line(line: number, end: number): number {
    const page = this.#page
    const bytes = this.#bytes
    let at = line
    while (bytes[at] === SPACE || bytes[at] === TAB || bytes[at] === RETURN) at++
    if (at >= end) return end
    if (bytes[at] === NEWLINE) return at + 1
    if (bytes[at] === HASH) return this.#comment(line, at, end)
    const to = headEnd(bytes, at, end)
    if (to < 0) return this.#reject('syntax', line, end)
    const hash = hashOf(bytes, line, to, page.hashSeed)
    let head = page.heads.find(bytes, line, to, hash)
    const isNew = head < 0
    if (isNew || !page.holds(head)) {
      const role = this.#resolve(at, to)
      if (isNew) head = page.heads.add(bytes, line, to, hash)
      if (typeof role === 'string') page.assign(head, REASONS.indexOf(role), PART.rejected, -1)
      else page.assign(head, role.item, role.part, role.family.number)
    }
    const part = page.headPart[head]!
    return this.#rest(head, part, line, to, end)
  }

  #resolve(from: number, to: number) {
    const bytes = this.#bytes
    if (to - from > HEAD_MAX) return 'label_length'
    if (!isUtf8(bytes.subarray(from, to))) return 'utf8'
    const head = readHead(bytes.toString('utf8', from, to).trimEnd(), this.#page.limits)
    return typeof head === 'string' ? head : roleOf(this.#page, head, this.#openMetrics)
  }

  #comment(line: number, at: number, end: number): number {
    const page = this.#page
    const bytes = this.#bytes
    const next = lineEnd(bytes, at, end)
    const hash = hashOf(bytes, line, next, page.hashSeed)
    let head = page.heads.find(bytes, line, next, hash)
    if (head >= 0 && page.holds(head)) return next
    const [family, item] = this.#metadata(bytes.toString('utf8', at, Math.min(next, at + COMMENT_MAX)))
    // The end mark is looked at each time; what is cut off by the end of the page is not remembered.
    if (item === EOF || bytes[next - 1] !== NEWLINE) return next
    if (head < 0) head = page.heads.add(bytes, line, next, hash)
    page.assign(head, item, PART.comment, family)
    return next
  }

  /** Reads a comment; the family whose TYPE it gives, −1 otherwise. */
  #metadata(text: string): [family: number, item: number] {
    if (/^# EOF\s*$/.test(text)) {
      this.#eof = true
      return [-1, EOF]
    }
    const match = METADATA.exec(text)
    if (match === null) return [-1, 0]
    const family = this.#page.family(match[2] === undefined ? match[3]! : unescaped(match[2]))
    const rest = (match[4] ?? '').trim()
    if (match[1] === 'HELP') {
      if (family.help === '') family.help = unescaped(rest).slice(0, HELP_MAX)
    } else if (match[1] === 'UNIT') family.unit = rest.slice(0, UNIT_MAX)
    else {
      // A type that nobody knows is none.
      this.#page.declare(family, TYPES[rest.toLowerCase()] ?? 'untyped')
      return [family.number, 0]
    }
    return [-1, 0]
  }

  #exemplar(item: Item, at: number, next: number): void {
    const page = this.#page
    const match = EXEMPLAR.exec(this.#bytes.toString('utf8', at, Math.min(next, at + EXEMPLAR_MAX)))
    const head = match === null ? 'exemplar' : readHead(`x${match[1]}`, page.limits)
    const value = Number(match?.[2])
    const time = match?.[3] === undefined ? Number.NaN : Number(match[3])
    if (typeof head === 'string' || Number.isNaN(value)) page.reject('exemplar', at - this.#start)
    else page.onExemplar!(item, { labels: head.labels, value, time })
  }

  #reject(reason: Rejection, line: number, end: number): number {
    this.#page.reject(reason, line - this.#start)
    return lineEnd(this.#bytes, line, end)
  }
}

/** In place of an item number: the line `# EOF`. */
const EOF = 1
/** ± 273 000 years, as JavaScript's dates. */
const TIME_MAX = 8.64e15
/** Labels of one line together. */
const HEAD_MAX = 65_536
const COMMENT_MAX = 4096
const HELP_MAX = 512
const UNIT_MAX = 64
/** OpenMetrics allows 128 characters of labels. */
const EXEMPLAR_MAX = 1024
const METADATA = /^#[ \t]+(HELP|TYPE|UNIT)[ \t]+(?:"((?:[^"\\]|\\.)*)"|([a-zA-Z_:][a-zA-Z0-9_:]*))(?:[ \t]([^\n]*))?/
const EXEMPLAR = /^#[ \t](\{.*\}) (\S+)(?: (\S+))?\s*$/

function lineEnd(bytes: Buffer, at: number, end: number): number {
  const newline = bytes.indexOf(NEWLINE, at)
  return newline < 0 || newline >= end ? end : newline + 1
}

/**
 * Where the head of the line ends: behind the closing brace, or behind the one blank that ends a name without labels, so that no
 * head is the beginning of another. −1 when the line has none.
 */
function headEnd(bytes: Buffer, from: number, end: number): number {
  let at = from
  for (; at < end; at++) {
    const byte = bytes[at]!
    if (byte === OPEN) return labelsEnd(bytes, at + 1, end)
    if (byte === SPACE || byte === TAB) break
    if (byte === NEWLINE) return -1
  }
  if (at >= end) return -1
  let next = at + 1
  while (next < end && (bytes[next] === SPACE || bytes[next] === TAB)) next++
  return bytes[next] === OPEN ? labelsEnd(bytes, next + 1, end) : at + 1
}

function labelsEnd(bytes: Buffer, from: number, end: number): number {
  let isQuoted = false
  for (let at = from; at < end; at++) {
    const byte = bytes[at]!
    if (byte === NEWLINE) return -1
    if (byte === QUOTE) isQuoted = !isQuoted
    else if (byte === BACKSLASH && isQuoted) at++
    else if (byte === CLOSE && !isQuoted) return at + 1
  }
  return -1
}
