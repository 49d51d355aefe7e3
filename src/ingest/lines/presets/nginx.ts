import type { AccessEntry } from '../../entry/entry.ts'
import type { LineParser } from '../parser.ts'
import { clfInstant } from './clf.ts'
import { or, present, secondsToNs, setRequestLine } from './values.ts'

/**
 * NGINX's `combined`, as it is and as people extend it: a virtual host in front of the address, the user's dash missing, no
 * referer and agent (Kong's older default), further columns behind (`$http_x_forwarded_for`, times), Kong's request id.
 * What stands behind the agent is not named, so only what names itself is read: a number there may be anything.
 *
 * The time is when the answer was written; there is no duration unless the form has one.
 */
export const nginx: LineParser = {
  name: 'nginx',
  precisionNs: 1_000_000,
  source: 'text',
  parse(line, entry) {
    const match = COMBINED.exec(line)
    if (match === null) return ERROR_LOG.test(line) ? 'not_an_entry' : 'unmatched'
    const [, host = '', client, user = '-', time, request, status, bytes, referer = '', agent = '', rest = ''] =
      match as unknown as string[]
    if (!setEnd(entry, time!)) return 'bad_value'
    setRequest(entry, client!, user, request!, status!, bytes!)
    entry.authority = host.replace(/^([^:]+):(?:80|443)$/, '$1')
    entry.referer = unescapeBytes(or(referer))
    entry.userAgent = unescapeBytes(or(agent))
    const id = /\bkong_request_id: "([^"]+)"/.exec(rest)
    if (id !== null) entry.requestId = id[1]!
    return null
  },
}

const QUOTED = String.raw`"((?:[^"\\]|\\.)*)"`
/** Tokens are bounded, so that no line takes more than a look at each of its characters. */
const VHOST = String.raw`(?=[0-9_.:-]{0,256}[A-Za-z])[A-Za-z0-9_.-]{1,253}(?::\d{1,5})?`
const COMBINED = new RegExp(
  String.raw`^(?:(${VHOST}) (?=(?!- )\S{1,253} -))?(\S{1,253}) -(?: (.{0,256}?))? \[(\d\d\/[A-Z][a-z]{2}\/\d{4}:[^\]]{1,32})\] ${QUOTED} (\d{3}) (\d+|-)(?: ${QUOTED} ${QUOTED}(.*))?$`,
)
const ERROR_LOG = /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d \[[a-z]+\] \d+#\d+:/

/**
 * APISIX's default: `… [time] host "request" status bytes request_time "referer" "agent" upstream_addr upstream_status
 * upstream_response_time "upstream url" "request id"`; its AI plugins write other columns behind.
 */
export const apisix: LineParser = {
  name: 'apisix',
  precisionNs: 1_000_000,
  source: 'text',
  parse(line, entry) {
    const match = APISIX.exec(line)
    if (match === null) return 'unmatched'
    const [, client, user, time, host, request, status, bytes, seconds, referer, agent, upstream, times, url, id] =
      match as unknown as string[]
    if (!setEnd(entry, time!)) return 'bad_value'
    entry.durationNs = secondsToNs(seconds!)
    setRequest(entry, client!, user!, request!, status!, bytes!)
    entry.reporter = 'gateway'
    entry.authority = or(host!)
    entry.referer = unescapeBytes(or(referer!))
    entry.userAgent = unescapeBytes(or(agent!))
    entry.requestId = or(id!)
    const hosts = upstream!.split(/, | : /)
    entry.upstreamHost = or(hosts.at(-1)!)
    entry.attempts = entry.upstreamHost === '' ? 0 : hosts.length
    entry.untold = false
    entry.answered = /^\d+(?:\.\d+)?$/.test(times!.split(/, | : /).at(-1)!)
    if (present(times!)) entry.customTags.add('upstream_response_time', times!)
    if (present(url!)) entry.customTags.add('upstream_url', url!)
    return null
  },
}

const LIST = String.raw`(\S+(?:(?:, | : )\S+)*)`
const APISIX = new RegExp(
  String.raw`^(\S+) - (\S+) \[([^\]]+)\] (\S+) ${QUOTED} (\d{3}) (\d+) (\d+\.\d+) ${QUOTED} ${QUOTED} ${LIST} (?:(?:\d+|-)(?:(?:, | : )(?:\d+|-))*) ((?:[\d.]+|-)(?:(?:, | : )(?:[\d.]+|-))*) ${QUOTED} ${QUOTED}`,
)

/** Nginx Proxy Manager: `[time] [cache upstream_status] status - method scheme host "path" [Client ip] [Length n] …`. */
export const nginxProxyManager: LineParser = {
  name: 'nginx-proxy-manager',
  precisionNs: 1_000_000,
  source: 'text',
  parse(line, entry) {
    const match = PROXY_MANAGER.exec(line)
    if (match === null) return ERROR_LOG.test(line) ? 'not_an_entry' : 'unmatched'
    const [, time, upstream = '', status, method, scheme, host, path, client, bytes, sentTo = '', agent, referer] =
      match as unknown as string[]
    if (!setEnd(entry, time!)) return 'bad_value'
    entry.code = Number(status)
    entry.reporter = 'gateway'
    entry.method = or(method!)
    entry.scheme = or(scheme!)
    entry.authority = or(host!)
    entry.path = unescapeBytes(or(path!))
    entry.downstreamRemote = client!
    entry.responseBodyBytes = Number(or(bytes!, '0'))
    entry.upstreamHost = or(sentTo)
    entry.answered = present(upstream)
    entry.userAgent = unescapeBytes(or(agent!))
    entry.referer = unescapeBytes(or(referer!))
    return null
  },
}

const PROXY_MANAGER = new RegExp(
  String.raw`^\[([^\]]+)\] (?:[A-Z-]+ (\d{3}|-) )?(\d{3}) - (\S+) (\S+) (\S+) ${QUOTED} \[Client ([^\]]+)\] \[Length (\d+|-)\] \[Gzip [^\]]*\](?: \[Sent-to ([^\]]+)\])? ${QUOTED} ${QUOTED}$`,
)

function setEnd(entry: AccessEntry, text: string): boolean {
  const at = clfInstant(text)
  if (at === null) return false
  entry.endSeconds = at.seconds
  entry.endNanos = at.nanos
  return true
}

function setRequest(
  entry: AccessEntry,
  client: string,
  user: string,
  request: string,
  status: string,
  bytes: string,
): void {
  entry.downstreamRemote = client
  if (present(user)) entry.customTags.add('user', user)
  setRequestLine(entry, unescapeBytes(request))
  entry.untold = true
  entry.code = Number(status)
  entry.responseBodyBytes = Number(or(bytes, '0'))
}

/** `\xHH`, as NGINX writes quotes, backslashes and what is not ASCII: the bytes are UTF-8 where they are a text. */
function unescapeBytes(text: string): string {
  if (!text.includes('\\x')) return text
  return text.replace(/(?:\\x[0-9A-Fa-f]{2})+/g, (run) =>
    Buffer.from(run.replaceAll('\\x', ''), 'hex').toString('utf8'),
  )
}
