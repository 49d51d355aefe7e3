import type { AccessEntry } from '../../entry/entry.ts'
import type { LineFault, LineParser } from '../parser.ts'
import { parseInstant } from '../unwrap/time.ts'
import { type JsonForm, textOf } from './json.ts'
import { durationNs, integer, present, setPod, setService, TCP_CONNECTION_END } from './values.ts'

/**
 * Access log of ztunnel (Istio ambient): one line per finished connection, written by both of its ends.
 *
 *     2026-01-01T00:00:00.250000Z<tab>info<tab>access<tab>connection complete<tab>src.addr=10.0.0.1:40000 … duration="2ms"
 *
 * or JSON with the same keys (`LOG_FORMAT=json`). `sent` and `recv` are as seen from the network: the source's end sends
 * requests, the destination's end sends answers. The row has them as a client has: request and response.
 */
export const ztunnel: LineParser = {
  name: 'ztunnel',
  precisionNs: 1_000_000,
  source: 'text',
  parse(line, entry) {
    const head = HEAD.exec(line)
    if (head === null) return NOT_ACCESS.test(line) ? 'not_an_entry' : 'unmatched'
    if (head[2] !== 'complete') return 'not_an_entry'
    const values = keyValues(line, head[0].length)
    return values === null ? 'bad_value' : fill(entry, (key) => values.get(key) ?? '', head[1] ?? '')
  },
}

export const ztunnelJson: JsonForm = {
  name: 'ztunnel-json',
  precisionNs: 1_000_000,
  detects: (record) => typeof record.scope === 'string' && typeof record.message === 'string',
  fill(record, entry) {
    if (!/^access\b/.test(textOf(record, 'scope'))) return 'not_an_entry'
    if (record.message !== 'connection complete') return 'not_an_entry'
    return fill(entry, (key) => textOf(record, key), textOf(record, 'time'))
  },
}

/** The time may be cut off by who handed the line on. */
const HEAD =
  /^(?:(\d{4}-\d\d-\d\dT[\d:.]+Z)\s+)?(?:info|error|warn|debug)\s+access\S*\s+connection (complete|opened|failed)\S*\s+/
/** ztunnel's other lines, and those of Istio's agents: time, level, scope. */
const NOT_ACCESS = /^\d{4}-\d\d-\d\dT[\d:.]+Z\s+(?:trace|debug|info|warn|error)\s+/

/** More pairs than any release writes. */
const PAIRS_MAX = 64

/** `key=value key="quoted \"value\""`, separated by blanks. Null: what stands there is something else. */
function keyValues(text: string, from: number): Map<string, string> | null {
  const values = new Map<string, string>()
  const { length } = text
  let at = from
  while (at < length) {
    const equals = endOfKey(text, at)
    if (equals === at || text.charCodeAt(equals) !== EQUALS || values.size >= PAIRS_MAX) return null
    const quoted = text.charCodeAt(equals + 1) === QUOTE
    const start = quoted ? equals + 2 : equals + 1
    const end = quoted ? endOfQuoted(text, start) : endOfWord(text, start)
    if (end < 0) return null
    const value = text.slice(start, end)
    values.set(text.slice(at, equals), quoted && value.includes('\\') ? value.replace(/\\(.)/g, '$1') : value)
    at = quoted ? end + 1 : end
    if (at < length && !isBlank(text.charCodeAt(at))) return null
    while (at < length && isBlank(text.charCodeAt(at))) at++
  }
  return values
}

const EQUALS = 0x3d
const QUOTE = 0x22
const BACKSLASH = 0x5c
const isBlank = (unit: number): boolean => unit === 0x20 || unit === 0x09

/** Behind letters, digits, `_` and `.`. */
function endOfKey(text: string, from: number): number {
  let at = from
  for (; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    const letter = (unit | 0x20) >= 0x61 && (unit | 0x20) <= 0x7a
    if (!letter && unit !== 0x5f && unit !== 0x2e && (unit < 0x30 || unit > 0x39)) break
  }
  return at
}

/** At the quote that is not escaped; −1: there is none. */
function endOfQuoted(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit === QUOTE) return at
    if (unit === BACKSLASH) at++
  }
  return -1
}

/** At the next blank or the end; −1: a quote in the middle. */
function endOfWord(text: string, from: number): number {
  let at = from
  for (; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit === QUOTE) return -1
    if (isBlank(unit)) break
  }
  return at
}

function fill(entry: AccessEntry, value: (key: string) => string, time: string): LineFault | null {
  const direction = value('direction')
  if (direction !== 'inbound' && direction !== 'outbound') return 'bad_value'
  const sent = integer(value('bytes_sent') || '0')
  const received = integer(value('bytes_recv') || '0')
  const duration = durationNs(value('duration'))
  if (Number.isNaN(sent) || Number.isNaN(received) || Number.isNaN(duration)) return 'bad_value'
  if (time !== '') {
    const at = parseInstant(time)
    if (at === null) return 'bad_value'
    entry.endSeconds = at.seconds
    entry.endNanos = at.nanos
  }
  entry.tcp = true
  entry.type = TCP_CONNECTION_END
  entry.durationNs = duration
  const outbound = direction === 'outbound'
  entry.reporter = outbound ? 'source' : 'destination'
  entry.requestBodyBytes = outbound ? sent : received
  entry.responseBodyBytes = outbound ? received : sent
  entry.downstreamRemote = value('src.addr')
  entry.upstreamHost = value('dst.addr')
  // The tunnel's own port, 15008, is no address that the client asked for; this one is.
  if (present(value('dst.hbone_addr'))) entry.downstreamLocal = value('dst.hbone_addr')
  entry.connectionTerminationDetails = value('error')
  setParties(entry, value)
  return null
}

/** Keys that ztunnel and Kmesh share. The namespace of the destination is the called service's; a pod's may be a waypoint's. */
export function setParties({ source, destination }: AccessEntry, value: (key: string) => string): void {
  setPod(source, value('src.workload'))
  source.set('namespace', value('src.namespace'))
  source.set('principal', value('src.identity'))
  setPod(destination, value('dst.workload'))
  destination.set('namespace', value('dst.namespace'))
  destination.set('principal', value('dst.identity'))
  setService(destination, value('dst.service'))
}
