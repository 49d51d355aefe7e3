import { createGenerations } from '../../../lib/generations.ts'
import { cri } from './cri.ts'
import { type Hints, type Layer, NO_HINTS, type Unwrapped } from './envelope.ts'
import { jsonEnvelope } from './json-envelope.ts'
import { createParts } from './parts.ts'
import { compose, kubectl, stern, timestamp, uncolour } from './prefixes.ts'
import { type SyslogClock, syslog } from './syslog.ts'

/**
 * Takes away what stands around a line: byte order mark, carriage return, colours, and up to `LAYERS_MAX` envelopes, one in
 * the other, the outermost first (a CRI head before a collector's JSON before syslog …). One for each source: lines that
 * a runtime has cut are joined.
 */
export interface Unwrapper {
  /** Null: part of a line whose end has not come yet, or one given up. The object is reused. Never throws. */
  unwrap(line: string): Unwrapped | null
  /** What is known of a line that nothing stands around. */
  readonly bare: Hints
  /** The source has ended: what is held is given up and counted. */
  end(): number
  /** Lines that have begun and not ended; while above 0, a position in a file must stay before the oldest of them. */
  readonly held: number
  readonly counters: Readonly<UnwrapCounters>
}

export interface UnwrapCounters {
  /** Lines longer than `charsMax` after joining. */
  tooLong: number
  /** Lines whose end never came. */
  abandoned: number
}

export interface UnwrapperOptions {
  /** What is known without the line: a file's path, a request's parameters. The line wins. */
  readonly hints?: Partial<Hints>
  readonly now?: () => number
  /** Minutes that the local time of syslog senders without a zone is ahead of UTC. Default 0. */
  readonly offsetMinutes?: number
  /** Characters of a line joined from parts. Default 1 Mi; Envoy's own are below 100 Ki. */
  readonly charsMax?: number
  /** Streams (pod, container, stdout or stderr) with an unfinished line at once. Default 64. */
  readonly streamsMax?: number
  /** Different hints remembered. Default 4096, about 1 MiB. */
  readonly hintsMax?: number
}

/** As many as can be met: syslog of a CRI line of a collector's JSON of a time of kubectl's. */
const LAYERS_MAX = 6

export function createUnwrapper(options: UnwrapperOptions = {}): Unwrapper {
  const now = options.now ?? Date.now
  const parts = createParts({ charsMax: options.charsMax ?? 1 << 20, streamsMax: options.streamsMax ?? 64 })
  const known = createGenerations<string, Hints>(options.hintsMax ?? 4096)
  const base: Hints = { ...NO_HINTS, ...options.hints }
  const result: Unwrapped = { text: '', hints: base, seconds: -1, nanos: 0 }
  const clock: { nowMs: number; readonly offsetMinutes: number } = {
    nowMs: 0,
    offsetMinutes: options.offsetMinutes ?? 0,
  }

  const intern = (hints: Hints): Hints => {
    const key = keyOf(hints)
    const found = known.get(key)
    if (found !== undefined) return found
    known.set(key, hints)
    return hints
  }

  return {
    bare: base,
    unwrap(line) {
      let text = trim(line)
      result.hints = base
      result.seconds = -1
      result.nanos = 0
      let hints: Hints | null = null
      let stream = ''
      for (let depth = 0; depth < LAYERS_MAX; depth++) {
        if (text.charCodeAt(0) === ESCAPE) text = uncolour(text)
        const found = peel(text, clock, now)
        if (found === null) break
        if (found.hints !== null) hints = merge(found.hints, hints ?? base)
        // The innermost time is nearest to the proxy.
        if (found.seconds >= 0) {
          result.seconds = found.seconds
          result.nanos = found.nanos
        }
        stream = found.stream === '' ? stream : `${stream}/${found.stream}`
        text = trim(found.text)
        if (found.part === 'end' && parts.held === 0) continue
        const whole = parts.add(`${stream}\0${keyOf(hints ?? base)}`, text, found.part)
        if (whole === null) return null
        text = trim(whole)
      }
      if (hints !== null) result.hints = intern(hints)
      result.text = text.trimEnd()
      return result
    },
    end: () => parts.clear(),
    get held() {
      return parts.held
    },
    get counters() {
      return { tooLong: parts.tooLong, abandoned: parts.abandoned }
    },
  }
}

const ESCAPE = 0x1b

/** Decides by the first character which layers can be there, so that a bare line costs a comparison or two. */
function peel(text: string, clock: SyslogClock & { nowMs: number }, now: () => number): Layer | null {
  const first = text.charCodeAt(0)
  if (first === 0x7b) return jsonEnvelope(text)
  if (first === 0x5b) return text.startsWith('[pod/') ? kubectl(text) : null
  if (first === 0x22) return null
  if (first === 0x3c) {
    clock.nowMs = now()
    return syslog(text, clock)
  }
  if (first >= 0x30 && first <= 0x39) {
    // `2026-01-01T`: a date. Everything else that begins with a digit is an address, or a name.
    if (text.charCodeAt(4) !== 0x2d || text.charCodeAt(7) !== 0x2d || text.charCodeAt(10) !== 0x54)
      return stern(text) ?? compose(text)
    const found = cri(text)
    if (found !== null) return found
    clock.nowMs = now()
    return syslog(text, clock) ?? timestamp(text)
  }
  const letter = first | 0x20
  if (letter < 0x61 || letter > 0x7a || text.startsWith('ACCESS [')) return null
  if (SYSLOG_DATE.test(text)) {
    clock.nowMs = now()
    return syslog(text, clock)
  }
  return compose(text) ?? stern(text)
}

const SYSLOG_DATE = /^[A-Z][a-z]{2} {1,2}\d{1,2} /

/** Without a byte order mark (as UTF-8, or read as Latin-1) and the end of the line. Blanks stay: a part may end in one. */
function trim(text: string): string {
  let from = 0
  let to = text.length
  if (text.charCodeAt(0) === 0xfeff) from = 1
  else if (text.charCodeAt(0) === 0xef && text.startsWith('\u00ef\u00bb\u00bf')) from = 3
  while (to > from) {
    const last = text.charCodeAt(to - 1)
    if (last !== 0x0a && last !== 0x0d) break
    to--
  }
  return from === 0 && to === text.length ? text : text.slice(from, to)
}

function merge(inner: Partial<Hints>, outer: Hints): Hints {
  const hints: { -readonly [Key in keyof Hints]: string } = { ...outer }
  for (const field of Object.keys(inner) as (keyof Hints)[]) {
    const value = inner[field]
    if (value !== undefined && value !== '') hints[field] = value
  }
  return hints
}

function keyOf(hints: Hints): string {
  return `${hints.pod}\0${hints.namespace}\0${hints.container}\0${hints.node}\0${hints.cluster}\0${hints.app}\0${hints.service}\0${hints.version}`
}
