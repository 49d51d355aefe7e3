import { isRecord } from '../../../lib/json.ts'
import type { AccessEntry } from '../../entry/entry.ts'
import type { LineParser } from '../parser.ts'
import { parseInstant } from '../unwrap/time.ts'
import { clfInstant } from './clf.ts'
import { type JsonForm, type JsonRecord, textOf } from './json.ts'
import { integer, or, present, protocolOf, setUri } from './values.ts'

/** Access log of Traefik in JSON. All durations are whole nanoseconds; keys that do not apply are left out or 0. */
export const traefikJson: JsonForm = {
  name: 'traefik-json',
  precisionNs: 1,
  detects: (record) => 'DownstreamStatus' in record || ('OriginDuration' in record && 'Duration' in record),
  fill(record, entry) {
    const at = parseInstant(textOf(record, 'StartUTC') || textOf(record, 'StartLocal') || textOf(record, 'time'))
    const duration = integer(textOf(record, 'Duration'))
    const code = integer(textOf(record, 'DownstreamStatus'))
    if (at === null || Number.isNaN(duration) || Number.isNaN(code)) return 'bad_value'
    entry.startSeconds = at.seconds
    entry.startNanos = at.nanos
    entry.durationNs = duration
    entry.code = code
    entry.reporter = 'gateway'
    entry.method = or(textOf(record, 'RequestMethod'))
    entry.authority = or(textOf(record, 'RequestHost'))
    setUri(entry, or(textOf(record, 'RequestPath')))
    entry.protocol = protocolOf(or(textOf(record, 'RequestProtocol')))
    entry.scheme = or(textOf(record, 'RequestScheme'))
    entry.requestBodyBytes = integer(textOf(record, 'RequestContentSize')) || 0
    entry.responseBodyBytes = integer(textOf(record, 'DownstreamContentSize')) || 0
    entry.downstreamRemote = or(textOf(record, 'ClientAddr'))
    // What X-Forwarded-For said takes the place of the client's own address.
    const host = or(textOf(record, 'ClientHost'))
    if (host !== '' && !entry.downstreamRemote.includes(host)) entry.forwardedFor = host
    entry.route = or(textOf(record, 'RouterName'))
    entry.upstreamCluster = or(textOf(record, 'ServiceName'))
    entry.upstreamHost = or(textOf(record, 'ServiceAddr')) || hostOf(serviceUrl(record))
    const retries = integer(textOf(record, 'RetryAttempts')) || 0
    entry.attempts = entry.upstreamHost === '' ? 0 : retries + 1
    entry.answered = (integer(textOf(record, 'OriginStatus')) || 0) > 0
    const tls = textOf(record, 'TLSVersion')
    if (/^1\.[0-3]$/.test(tls)) entry.tlsVersion = tls === '1.0' ? 'TLSv1' : `TLSv${tls}`
    entry.traceId = hex(textOf(record, 'TraceId') || textOf(record, 'trace_id'), 32)
    entry.spanId = hex(textOf(record, 'SpanId') || textOf(record, 'span_id'), 16)
    setHeaders(record, entry)
    for (const [key, tag] of TAGS) {
      const value = or(textOf(record, key))
      if (value !== '') entry.customTags.add(tag, value)
    }
    return null
  },
}

const TAGS = [
  ['OriginDuration', 'origin_duration_ns'],
  ['Overhead', 'overhead_ns'],
  ['OriginStatus', 'origin_status'],
  ['entryPointName', 'entry_point'],
] as const

/** An object with its parts in 2.x, a text since 3.0. */
function serviceUrl(record: JsonRecord): string {
  const url = record.ServiceURL
  return isRecord(url) ? textOf(url, 'Host') : textOf(record, 'ServiceURL')
}

function hostOf(url: string): string {
  return /^(?:[a-z0-9]+:\/\/)?([^/?#]+)/.exec(or(url))?.[1] ?? ''
}

function hex(text: string, digits: number): string {
  return text.length === digits && /^[0-9a-f]+$/.test(text) ? text : ''
}

/** `request_<Name>` and `downstream_<Name>`, where the configuration keeps headers. */
function setHeaders(record: JsonRecord, entry: AccessEntry): void {
  for (const key of Object.keys(record)) {
    const request = key.startsWith('request_')
    if (!request && !key.startsWith('downstream_')) continue
    const value = textOf(record, key)
    if (value === '') continue
    const name = key.slice(key.indexOf('_') + 1).toLowerCase()
    if (!request) entry.responseHeaders.add(name, value)
    else if (name === 'user-agent') entry.userAgent = value
    else if (name === 'referer') entry.referer = value
    else if (name === 'x-request-id') entry.requestId = value
    else entry.requestHeaders.add(name, value)
  }
}

const COMMON =
  /^(\S+) - (\S+) \[([^\]]+)\] "(\S+) (\S+) (HTTP\/[\d.]+|[^"]*)" (\d{3}|-) (\d+|-) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" (\d+|-) (?:"((?:[^"\\]|\\.)*)"|-) (?:"((?:[^"\\]|\\.)*)"|-) (\d+)ms$/

/** Traefik's `common` format: NGINX's columns, then count of requests, router, server and whole milliseconds. */
export const traefikCommon: LineParser = {
  name: 'traefik-common',
  precisionNs: 1_000_000,
  source: 'text',
  parse(line, entry) {
    const match = COMMON.exec(line)
    if (match === null) return 'unmatched'
    const [, client, user, time, method, path, protocol, status, size, referer, agent, , router = '', server = '', ms] =
      match as unknown as string[]
    const at = clfInstant(time!)
    if (at === null) return 'bad_value'
    // Traefik takes the time when the request came.
    entry.startSeconds = at.seconds
    entry.startNanos = at.nanos
    entry.durationNs = Number(ms) * 1e6
    entry.code = Number(or(status!, '0'))
    entry.reporter = 'gateway'
    entry.downstreamRemote = client!
    entry.method = or(method!)
    setUri(entry, or(path!))
    entry.protocol = protocolOf(or(protocol!))
    entry.responseBodyBytes = Number(or(size!, '0'))
    entry.referer = or(referer!)
    entry.userAgent = or(agent!)
    entry.route = or(router)
    entry.upstreamHost = hostOf(server)
    // A server was chosen; whether it answered is not said.
    entry.untold = entry.upstreamHost !== ''
    if (present(user!)) entry.customTags.add('user', user!)
    return null
  },
}
