import type { LineParser } from '../parser.ts'
import { parseInstant } from '../unwrap/time.ts'
import { durationNs, integer, present, TCP_CONNECTION_END, TCP_PERIODIC } from './values.ts'
import { setParties } from './ztunnel.ts'

/**
 * Access log of Kmesh (connections, seen by eBPF): `accesslog: <time> src.addr=…, key=value, …`, alone or as the `msg` of
 * logrus. Durations are Go's, to the nanosecond. Newer releases also write connections that go on (`state=BPF_TCP_ESTABLISHED`).
 */
export const kmesh: LineParser = {
  name: 'kmesh',
  precisionNs: 1,
  source: 'text',
  parse(line, entry) {
    const at = line.indexOf('accesslog: ')
    if (at < 0 || (at > 0 && !LOGRUS.test(line.slice(0, at)))) {
      return /^time="[^"]*" level=\w+ msg=/.test(line) ? 'not_an_entry' : 'unmatched'
    }
    const head = HEAD.exec(line.slice(at, at + 128))
    if (head === null) return 'unmatched'
    const values = pairs(line.slice(at + head[0].length))
    const value = (key: string): string => values.get(key) ?? ''
    const time = parseInstant(head[1]!)
    const outbound = value('direction') === 'OUTBOUND'
    if (!outbound && value('direction') !== 'INBOUND') return 'bad_value'
    const sent = integer(value('sent_bytes') || '0')
    const received = integer(value('received_bytes') || '0')
    const duration = durationNs(value('duration'))
    if (time === null || Number.isNaN(sent) || Number.isNaN(received) || Number.isNaN(duration)) return 'bad_value'
    entry.tcp = true
    const state = value('state')
    entry.type = state === '' || state.endsWith('CLOSE') ? TCP_CONNECTION_END : TCP_PERIODIC
    entry.endSeconds = time.seconds
    entry.endNanos = time.nanos
    entry.durationNs = duration
    entry.reporter = outbound ? 'source' : 'destination'
    entry.requestBodyBytes = outbound ? sent : received
    entry.responseBodyBytes = outbound ? received : sent
    entry.downstreamRemote = value('src.addr')
    entry.upstreamHost = value('dst.addr')
    setParties(entry, (key) => (present(value(key)) ? value(key) : ''))
    return null
  },
}

const LOGRUS = /^time="[^"]*" level=\w+ msg="$/
const HEAD = /^accesslog: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,9})? [+-]\d{4})(?: [A-Z]{2,5})?(?: m=\S+)? /

/** Between commas or, before some keys, blanks; no value contains either. In logrus's `msg` a quote ends the last one. */
function pairs(text: string): Map<string, string> {
  const values = new Map<string, string>()
  for (const pair of text.split(/[\s,]+/, PAIRS_MAX)) {
    const equals = pair.indexOf('=')
    if (equals > 0) values.set(pair.slice(0, equals), pair.slice(equals + 1).replace(/"$/, ''))
  }
  return values
}

const PAIRS_MAX = 64
