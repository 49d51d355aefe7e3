import type { AccessEntry } from '../../entry/entry.ts'
import { isFormatError } from '../format/grammar.ts'
import { compileTextFormat } from '../format/text.ts'
import type { LineParser } from '../parser.ts'

/**
 * Text formats that products write, as Envoy's format strings. Sources: Envoy, `docs/root/configuration/observability/
 * access_log/usage.rst`; Istio, `pilot/pkg/networking/core/v1alpha3/accesslog.go` and its ancestors; Kuma,
 * `pkg/plugins/policies/meshaccesslog/plugin/xds`.
 */
export interface TextFormat {
  readonly name: string
  readonly format: string
  /** What the format cannot say; called for every entry. False: the line is of another form after all. */
  readonly after?: (entry: AccessEntry) => boolean
}

const START = '[%START_TIME%] '
const REQUEST = '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"'
const SIZES = '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%'
const CLIENT = '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%"'
const ADDRESSES =
  '%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME%'
const STATUS = '%RESPONSE_CODE% %RESPONSE_FLAGS%'

export const ENVOY_DEFAULT = `${START}${REQUEST} ${STATUS} ${SIZES} ${CLIENT} "%UPSTREAM_HOST%"`
export const ENVOY_DETAILS = `${START}${REQUEST} ${STATUS} %RESPONSE_CODE_DETAILS% ${SIZES} ${CLIENT} "%UPSTREAM_HOST%"`
/** Since about 1.9. */
export const ISTIO_1_9 = `${START}${REQUEST} ${STATUS} %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ${SIZES} ${CLIENT} "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% ${ADDRESSES} %ROUTE_NAME%`
/** 1.3 to 1.8: Mixer's status and the transport's failure, both quoted. */
export const ISTIO_1_3 = `${START}${REQUEST} ${STATUS} "%DYNAMIC_METADATA(istio.mixer:status)%" "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ${SIZES} ${CLIENT} "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% ${ADDRESSES} %ROUTE_NAME%`
/** 1.1 and 1.2: no transport failure, and no route at the end. 1.0 had Envoy's default. */
export const ISTIO_1_1 = `${START}${REQUEST} ${STATUS} "%DYNAMIC_METADATA(istio.mixer:status)%" ${SIZES} ${CLIENT} "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% ${ADDRESSES}`

const KUMA_REQUEST = `${START}%KUMA_MESH% ${REQUEST} ${STATUS} ${SIZES} "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%"`
const KUMA_ENDS =
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%KUMA_SOURCE_SERVICE%" "%KUMA_DESTINATION_SERVICE%" "%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%" "%UPSTREAM_HOST%"'
/** MeshAccessLog, since 2.0: a trace id before the request id. */
export const KUMA_HTTP = `${KUMA_REQUEST} "%REQ(X-B3-TRACEID?X-DATADOG-TRACEID)%" ${KUMA_ENDS}`
/** TrafficLog, up to 2.x. */
export const KUMA_HTTP_OLD = `${KUMA_REQUEST} ${KUMA_ENDS}`
export const KUMA_TCP = `${START}%RESPONSE_FLAGS% %KUMA_MESH% %KUMA_SOURCE_ADDRESS_WITHOUT_PORT%(%KUMA_SOURCE_SERVICE%)->%UPSTREAM_HOST%(%KUMA_DESTINATION_SERVICE%) took %DURATION%ms, sent %BYTES_SENT% bytes, received: %BYTES_RECEIVED% bytes`

export const ENVOY_FORMATS: readonly TextFormat[] = [
  { name: 'envoy-details', format: ENVOY_DETAILS, after: sound },
  { name: 'envoy-default', format: ENVOY_DEFAULT, after: sound },
]

/** Emissary and Ambassador. */
export const EMISSARY_FORMATS: readonly TextFormat[] = [
  { name: 'emissary', format: `ACCESS ${ENVOY_DEFAULT}`, after: gateway },
]

/** Longer layouts first. People leave the time out, where the collector has one. */
export const ISTIO_FORMATS: readonly TextFormat[] = [
  { name: 'istio-1.9', format: ISTIO_1_9, after: trailing },
  { name: 'istio-1.3', format: ISTIO_1_3, after: trailing },
  { name: 'istio-1.1', format: ISTIO_1_1, after: trailing },
  { name: 'istio-1.9-without-time', format: ISTIO_1_9.slice(START.length), after: trailing },
  { name: 'istio-1.3-without-time', format: ISTIO_1_3.slice(START.length), after: trailing },
]

export const KUMA_FORMATS: readonly TextFormat[] = [
  { name: 'kuma-http', format: KUMA_HTTP, after: kuma },
  { name: 'kuma-http-traffic-log', format: KUMA_HTTP_OLD, after: kuma },
  { name: 'kuma-tcp', format: KUMA_TCP, after: kuma },
]

export function compileForms(formats: readonly TextFormat[]): readonly LineParser[] {
  return formats.map(compileForm)
}

function compileForm({ name, format, after }: TextFormat): LineParser {
  const parser = compileTextFormat(format, { name })
  if (isFormatError(parser)) throw new TypeError(`format of ${name}: ${parser.error}`)
  if (after === undefined) return parser
  return {
    name,
    precisionNs: parser.precisionNs,
    source: 'text',
    parse(line, entry) {
      const fault = parser.parse(line, entry)
      if (fault !== null) return fault
      return after(entry) ? null : 'unmatched'
    },
  }
}

/**
 * Nothing is escaped, so the compiler reads a line in any way that fits. An address with a blank or a quote in it, though,
 * is no address: the line was broken by somebody on the way, or is of another form.
 */
function sound(entry: AccessEntry): boolean {
  // Somebody's Envoy leaves the service time out (`suppress_envoy_headers`): a host was chosen, and nothing went wrong.
  entry.untold = !entry.answered && !entry.tcp && entry.upstreamHost !== '' && entry.flags === ''
  return !/[\s"]/.test(entry.upstreamHost)
}

function gateway(entry: AccessEntry): boolean {
  entry.reporter = 'gateway'
  return sound(entry)
}

/**
 * The last column takes what is left of the line. Route names and SNIs have no quotes: what begins with one is a column
 * that somebody added at the end (`"Internal"`).
 */
function trailing(entry: AccessEntry): boolean {
  if (entry.route.includes('"')) entry.route = withoutTrailing(entry, entry.route)
  if (entry.sni.includes('"')) entry.sni = withoutTrailing(entry, entry.sni)
  return !entry.sni.includes(' ') && sound(entry)
}

function withoutTrailing(entry: AccessEntry, text: string): string {
  const at = text.search(/ ?"/)
  entry.customTags.add('trailing', text.slice(at).trim())
  const rest = text.slice(0, at)
  return rest === '-' ? '' : rest
}

/**
 * Kuma names both services on every line, but `unknown` for the source of what comes in. A name is a tag
 * `kuma.io/service`: `<service>_<namespace>_svc_<port>` on Kubernetes. The compiler keeps operators it does not know as
 * custom tags.
 */
function kuma(entry: AccessEntry): boolean {
  const { names, values } = entry.customTags
  let kept = 0
  for (let k = 0; k < entry.customTags.count; k++) {
    const name = names[k]!
    const value = values[k]!
    if (name === 'kuma_source_service') setKumaService(entry.source, value)
    else if (name === 'kuma_destination_service') setKumaService(entry.destination, value)
    else if (name === 'kuma_source_address_without_port') entry.downstreamRemote = value
    else {
      names[kept] = name
      values[kept++] = value
    }
  }
  entry.customTags.count = kept
  return sound(entry)
}

function setKumaService(party: AccessEntry['source'], tag: string): void {
  if (tag === 'unknown' || tag === '*') return
  const match = /^(.+)_([^_]+)_svc(?:_\d+)?$/.exec(tag)
  party.set('service', match?.[1] ?? tag)
  party.set('namespace', match?.[2] ?? '')
}
