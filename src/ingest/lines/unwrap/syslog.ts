import { type Hints, type Layer, layer } from './envelope.ts'
import { type Instant, parseInstant } from './time.ts'

/** The head of a syslog message, of either RFC. */
export interface SyslogHead {
  /** −1 where no `<pri>` stands before it. */
  readonly facility: number
  readonly severity: number
  readonly at: Instant | null
  readonly host: string
  /** RFC 5424's APP-NAME, RFC 3164's tag. */
  readonly app: string
  readonly processId: string
  readonly messageId: string
  /** Structured data as `id.name` → value; null when there is none. */
  readonly data: ReadonlyMap<string, string> | null
  readonly message: string
}

export interface SyslogClock {
  /** RFC 3164 has neither a year nor a zone: the year is that which makes the time nearest to now, the zone this one. */
  readonly nowMs: number
  /** Minutes that local time is ahead of UTC. */
  readonly offsetMinutes: number
}

const PRI = /^<(\d{1,3})>/
const RFC5424 = /^1 (-|\S{1,64}) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) /
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
/** `Jan  1 00:00:00`, with some senders a year after the day or a fraction after the seconds; or RFC 3339, as rsyslog writes. */
const RFC3164 =
  /^(?:([A-Z][a-z]{2}) {1,2}(\d{1,2}) (?:(\d{4}) )?(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?|(\d{4}-\d\d-\d\dT\S{8,24}))(?: [A-Z]{3,4}:)? /
const HOST_AND_TAG = /^(?:([^\s:[\]]+) )?([^\s:[\]]{1,48})(?:\[([^\]\s]{1,32})\])?: ?/

/** Null: no syslog message. A message without `<pri>` (a file that a syslog daemon wrote) needs a host and a tag. */
export function parseSyslog(text: string, clock: SyslogClock): SyslogHead | null {
  const pri = PRI.exec(text)
  const value = pri === null ? -1 : Number(pri[1])
  if (value > 191) return null
  const rest = pri === null ? text : text.slice(pri[0].length)
  const facility = value < 0 ? -1 : value >> 3
  const severity = value < 0 ? -1 : value & 7
  return (pri === null ? null : parse5424(rest, facility, severity)) ?? parse3164(rest, facility, severity, clock)
}

function parse5424(text: string, facility: number, severity: number): SyslogHead | null {
  const head = RFC5424.exec(text)
  if (head === null) return null
  const at = head[1] === '-' ? null : parseInstant(head[1]!)
  if (at === null && head[1] !== '-') return null
  const nil = (value: string): string => (value === '-' ? '' : value)
  const data = structuredData(text, head[0].length)
  if (data === null) return null
  // The message may begin with the byte order mark of UTF-8.
  let message = text.slice(data.end)
  if (message.startsWith(' ')) message = message.slice(1)
  if (message.startsWith('\ufeff')) message = message.slice(1)
  return {
    facility,
    severity,
    at,
    host: nil(head[2]!),
    app: nil(head[3]!),
    processId: nil(head[4]!),
    messageId: nil(head[5]!),
    data: data.values,
    message,
  }
}

/** More elements than any sender has; what follows is read past and left out. */
const DATA_MAX = 64

/** `-`, or `[id name="value" …]…`; `"`, `\` and `]` in values are escaped with `\`. Null: not well-formed. */
function structuredData(text: string, from: number): { values: Map<string, string> | null; end: number } | null {
  if (text[from] === '-') return { values: null, end: from + 1 }
  const values = new Map<string, string>()
  let at = from
  while (text[at] === '[') {
    const id = /[^\s=\]"]{1,256}/y
    id.lastIndex = at + 1
    const name = id.exec(text)?.[0]
    if (name === undefined) return null
    at += 1 + name.length
    const parameter = / +([^\s=\]"]{1,256})="((?:[^"\\]|\\[\s\S])*)"/y
    for (;;) {
      parameter.lastIndex = at
      const match = parameter.exec(text)
      if (match === null) break
      if (values.size < DATA_MAX) values.set(`${name}.${match[1]}`, match[2]!.replace(/\\(["\\\]])/g, '$1'))
      at += match[0].length
    }
    if (text[at] !== ']') return null
    at++
  }
  return at === from ? null : { values, end: at }
}

function parse3164(text: string, facility: number, severity: number, clock: SyslogClock): SyslogHead | null {
  const time = RFC3164.exec(text)
  if (time === null) {
    // A sender that leaves the time out: only what says `<pri>` is believed.
    return facility < 0 ? null : afterTime(text, facility, severity, null)
  }
  const at = time[8] === undefined ? localInstant(time, clock) : parseInstant(time[8])
  if (at === null) return null
  return afterTime(text.slice(time[0].length), facility, severity, at)
}

function afterTime(text: string, facility: number, severity: number, at: Instant | null): SyslogHead | null {
  const match = HOST_AND_TAG.exec(text)
  if (match === null || (facility < 0 && match[1] === undefined)) {
    // RFC 3164 leaves the rest to the sender: with a `<pri>` and a time it is a message all the same, if no host or tag can be told.
    return facility < 0 || at === null ? null : { ...NO_TAG, facility, severity, at, message: text }
  }
  return {
    ...NO_TAG,
    facility,
    severity,
    at,
    host: match[1] ?? '',
    app: match[2]!,
    processId: match[3] ?? '',
    message: text.slice(match[0].length),
  }
}

const NO_TAG: Pick<SyslogHead, 'host' | 'app' | 'processId' | 'messageId' | 'data'> = {
  host: '',
  app: '',
  processId: '',
  messageId: '',
  data: null,
}

function localInstant(match: RegExpExecArray, clock: SyslogClock): Instant | null {
  const month = MONTHS.indexOf(match[1]!)
  const [, , day, year, hour, minute, second, fraction = ''] = match
  if (month < 0 || Number(day) < 1 || Number(day) > 31 || Number(hour) > 23 || Number(minute) > 59) return null
  const atYear = (of: number): number =>
    Date.UTC(of, month, Number(day), Number(hour), Number(minute), Number(second)) - clock.offsetMinutes * 60_000
  let ms: number
  if (year !== undefined) ms = atYear(Number(year))
  else {
    const now = new Date(clock.nowMs).getUTCFullYear()
    const years = [now - 1, now, now + 1].map(atYear)
    ms = years.reduce((best, next) => (Math.abs(next - clock.nowMs) < Math.abs(best - clock.nowMs) ? next : best))
  }
  return { seconds: ms / 1000, nanos: Number(fraction.padEnd(9, '0')) }
}

/** As a layer around a log line. Hints: the host is the node, the tag the program; structured data may name a pod. */
export function syslog(text: string, clock: SyslogClock): Layer | null {
  const head = parseSyslog(text, clock)
  if (head === null) return null
  const hints: { -readonly [Key in keyof Hints]?: string } = {}
  if (head.host !== '') hints.node = head.host
  if (head.app !== '') hints.app = head.app
  for (const [name, value] of head.data ?? []) {
    // `kubernetes@<number>` is what Fluent Bit and rsyslog's mmkubernetes write.
    if (/\.(?:pod_name|pod)$/.test(name)) hints.pod = value
    else if (/\.(?:namespace_name|namespace)$/.test(name)) hints.namespace = value
    else if (/\.(?:container_name|container)$/.test(name)) hints.container = value
  }
  return layer(head.message, hints, head.at?.seconds ?? -1, head.at?.nanos ?? 0)
}
