import { isRecord } from '../../../lib/json.ts'
import type { AccessEntry } from '../../entry/entry.ts'
import { instantOfEpoch } from '../unwrap/time.ts'
import { type JsonForm, type JsonRecord, recordOf, textOf } from './json.ts'
import { decimal, integer, msToNs, or, setUri } from './values.ts'

/**
 * Kong's log plugins (file-log, http-log, tcp-log …): one object per request. Latencies are whole ms: `kong` until the
 * request left for the service, `proxy` from there to the head of the answer, −1 where it never came, `request` in all.
 */
export const kongJson: JsonForm = {
  name: 'kong-json',
  precisionNs: 1_000_000,
  detects: (record) => isRecord(record.latencies) && ('request' in record || 'session' in record),
  fill(record, entry) {
    const latencies = recordOf(record, 'latencies')
    const duration = msToNs(textOf(latencies, 'request') || textOf(latencies, 'session'))
    if (Number.isNaN(duration)) return 'bad_value'
    entry.durationNs = duration
    entry.reporter = 'gateway'
    setStart(entry, record.started_at)
    setHttp(entry, recordOf(record, 'request'), recordOf(record, 'response'))
    if (isRecord(record.session)) entry.tcp = true
    entry.downstreamRemote = textOf(record, 'client_ip')
    const kong = msToNs(textOf(latencies, 'kong'))
    const proxy = msToNs(textOf(latencies, 'proxy'))
    const tries = Array.isArray(record.tries) ? record.tries.filter(isRecord) : []
    const last = tries.at(-1)
    if (last !== undefined) {
      entry.upstreamHost = addressOf(textOf(last, 'ip'), textOf(last, 'port'))
      entry.attempts = tries.length
      if (!Number.isNaN(kong) && !entry.tcp) {
        entry.upTxBeginNs = kong
        entry.upTxEndNs = kong
        // −1 is no decimal: the answer never came.
        if (!Number.isNaN(proxy)) entry.upRxBeginNs = Math.min(kong + proxy, duration)
      }
    }
    // Cut off by who handed it on: there is no answer in it at all.
    entry.untold = !('response' in record)
    const service = recordOf(record, 'service')
    entry.upstreamCluster = textOf(service, 'name') || textOf(service, 'host')
    const route = recordOf(record, 'route')
    entry.route = textOf(route, 'name') || textOf(route, 'id')
    if (entry.requestId === '') entry.requestId = textOf(recordOf(record, 'request'), 'id')
    const source = textOf(record, 'source')
    if (source !== '') entry.customTags.add('source', source)
    return null
  },
}

/** APISIX's logger plugins in their default format. Latencies are ms with the noise of binary fractions. */
export const apisixJson: JsonForm = {
  name: 'apisix-json',
  precisionNs: 1_000_000,
  detects: (record) => 'apisix_latency' in record || ('latency' in record && 'route_id' in record),
  fill(record, entry) {
    const duration = msToNs(textOf(record, 'latency'))
    if (Number.isNaN(duration)) return 'bad_value'
    entry.durationNs = duration
    entry.reporter = 'gateway'
    setStart(entry, record.start_time)
    setHttp(entry, recordOf(record, 'request'), recordOf(record, 'response'))
    entry.downstreamRemote = textOf(record, 'client_ip')
    // After retries a list.
    const hosts = textOf(record, 'upstream').split(/, | : /)
    entry.upstreamHost = or(hosts.at(-1)!)
    entry.attempts = entry.upstreamHost === '' ? 0 : hosts.length
    entry.answered = 'upstream_latency' in record
    entry.route = textOf(record, 'route_id')
    entry.upstreamCluster = textOf(record, 'service_id')
    for (const key of ['upstream_latency', 'apisix_latency']) {
      const value = textOf(record, key)
      if (value !== '') entry.customTags.add(key, value)
    }
    return null
  },
}

/** Knative's queue-proxy with its stock template: an object `httpRequest` as in Google's logs; no time of its own. */
export const knative: JsonForm = {
  name: 'knative',
  precisionNs: 100_000,
  detects: (record) => isRecord(record.httpRequest) && 'latency' in record.httpRequest,
  fill(record, entry) {
    const request = recordOf(record, 'httpRequest')
    const code = integer(textOf(request, 'status'))
    const latency = /^(\d+(?:\.\d+)?)s$/.exec(textOf(request, 'latency'))
    if (Number.isNaN(code) || latency === null) return 'bad_value'
    entry.code = code
    entry.durationNs = Math.round(Number(latency[1]) * 1e9)
    entry.reporter = 'destination'
    entry.untold = true
    entry.method = textOf(request, 'requestMethod')
    setUri(entry, textOf(request, 'requestUrl'))
    entry.protocol = textOf(request, 'protocol')
    entry.userAgent = textOf(request, 'userAgent')
    entry.referer = textOf(request, 'referer')
    entry.downstreamRemote = textOf(request, 'remoteIp')
    entry.downstreamLocal = textOf(request, 'serverIp')
    entry.requestBodyBytes = integer(textOf(request, 'requestSize')) || 0
    entry.responseBodyBytes = integer(textOf(request, 'responseSize')) || 0
    const trace = textOf(record, 'traceId')
    if (/^(?:[0-9a-f]{16}|[0-9a-f]{32})$/.test(trace)) entry.traceId = trace
    return null
  },
}

function setStart(entry: AccessEntry, epochMs: unknown): void {
  if (typeof epochMs !== 'number' && typeof epochMs !== 'string') return
  const at = instantOfEpoch(decimal(String(epochMs)))
  if (at === null) return
  entry.startSeconds = at.seconds
  entry.startNanos = at.nanos
}

/** `request` and `response`, the same in both products; sizes are numbers or texts. */
function setHttp(entry: AccessEntry, request: JsonRecord, response: JsonRecord): void {
  const code = integer(textOf(response, 'status'))
  if (!Number.isNaN(code)) entry.code = code
  entry.method = textOf(request, 'method')
  setUri(entry, textOf(request, 'url'))
  // Behind the gateway's own port and scheme: the path that was asked for, with its query.
  const uri = textOf(request, 'uri')
  if (uri.startsWith('/')) entry.path = uri
  entry.requestBodyBytes = integer(textOf(request, 'size')) || 0
  entry.responseBodyBytes = integer(textOf(response, 'size')) || 0
  const headers = recordOf(request, 'headers')
  entry.authority = textOf(headers, 'host') || entry.authority
  entry.userAgent = textOf(headers, 'user-agent')
  entry.referer = textOf(headers, 'referer')
  entry.forwardedFor = textOf(headers, 'x-forwarded-for')
  entry.requestId = textOf(headers, 'x-request-id')
}

function addressOf(ip: string, port: string): string {
  if (ip === '') return ''
  const host = ip.includes(':') ? `[${ip}]` : ip
  return port === '' ? host : `${host}:${port}`
}
