import { serviceOfHost } from '../../als/cluster-name.ts'
import { workloadOfPod } from '../../als/workload.ts'
import type { AccessEntry } from '../../entry/entry.ts'
import { NOT_A_NUMBER, readDigits } from '../format/digits.ts'

/** Texts of log lines as values of an entry. Functions that read numbers return NaN for what is none. */

/** `-`, the empty text, `null` and nginx's `<nil>` are how lines say that there is nothing. */
export function present(text: string): boolean {
  return text !== '' && text !== '-'
}

export function or(text: string, otherwise = ''): string {
  return present(text) ? text : otherwise
}

/** Digits only: no sign, no exponent, at most 15 so that the number is exact. */
export function integer(text: string): number {
  const value = text.length > 15 ? NOT_A_NUMBER : readDigits(text, 0, text.length)
  return value === NOT_A_NUMBER ? Number.NaN : value
}

/** A decimal number, without a sign. */
export function decimal(text: string): number {
  const whole = integer(text)
  if (!Number.isNaN(whole)) return whole
  return /^\d{1,15}(?:\.\d{1,17})?(?:[eE][-+]?\d{1,2})?$/.test(text) ? Number(text) : Number.NaN
}

/** Milliseconds, whole or with decimals, as ns. */
export function msToNs(text: string): number {
  return Math.round(decimal(text) * 1e6)
}

/** Seconds with decimals as ns. The text is cut at the point, so that no binary fraction is in the way. */
export function secondsToNs(text: string): number {
  const match = /^(\d{1,9})(?:\.(\d{1,9})\d*)?$/.exec(text)
  return match === null ? Number.NaN : Number(match[1]) * 1e9 + Number((match[2] ?? '').padEnd(9, '0'))
}

const GO_UNITS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3, // U+00B5
  μs: 1e3, // U+03BC
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
}

/** A duration with units, as Go and Rust print it: `412.6µs`, `2ms`, `1m2.5s`. In ns, rounded. */
export function durationNs(text: string): number {
  if (text === '0') return 0
  const parts = /(\d{1,15}(?:\.\d{1,15})?)(ns|us|µs|μs|ms|s|m|h)/y
  let sum = 0
  let at = 0
  while (at < text.length) {
    parts.lastIndex = at
    const match = parts.exec(text)
    if (match === null) return Number.NaN
    sum += Number(match[1]) * GO_UNITS[match[2]!]!
    at += match[0].length
  }
  return at === 0 ? Number.NaN : Math.round(sum)
}

/** Method, path and protocol of a request line; garbage that is no request line is left out. */
export function setRequestLine(entry: AccessEntry, line: string): void {
  const match = /^([A-Z][A-Z0-9_-]{0,31}) (\S.*?)(?: (HTTP\/\d(?:\.\d)?))?$/.exec(line)
  if (match === null) return
  entry.method = match[1]!
  setUri(entry, match[2]!)
  entry.protocol = protocolOf(match[3] ?? '')
}

/** A path, or an absolute URI, which also has scheme and authority. */
export function setUri(entry: AccessEntry, uri: string): void {
  if (uri.charCodeAt(0) === SLASH) {
    entry.path = uri
    return
  }
  const match = /^(https?):\/\/([^/?#]+)(.*)$/.exec(uri)
  if (match === null) {
    entry.path = uri
    return
  }
  entry.scheme = match[1]!
  if (entry.authority === '') entry.authority = match[2]!
  entry.path = match[3] === '' ? '/' : match[3]!
}

const SLASH = 0x2f

/** Envoy's spelling: `HTTP/2.0` is `HTTP/2`, as NGINX, Linkerd and Traefik write it. */
export function protocolOf(text: string): string {
  return text === 'HTTP/2.0' ? 'HTTP/2' : text === 'HTTP/3.0' ? 'HTTP/3' : text
}

/** Host of a Kubernetes service into a party. */
export function setService(party: AccessEntry['destination'], host: string): void {
  const { service, namespace } = serviceOfHost(host)
  party.set('service', service)
  party.set('namespace', namespace)
}

/** The name of a pod into a party, as the workload that it belongs to. */
export function setPod(party: AccessEntry['destination'], pod: string): void {
  party.set('workload', workloadOfPod(pod))
}

/** AccessLogType of a connection that has ended. */
export const TCP_CONNECTION_END = 3
/** AccessLogType of a connection that goes on. */
export const TCP_PERIODIC = 2
