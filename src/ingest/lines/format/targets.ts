import { ENTRY_TYPES } from '../../../model/row-columns.ts'
import type { EntryParty, PartyField } from '../../entry/entry.ts'
import { tlsCipherNumber } from '../../entry/tls-ciphers.ts'
import { ADDRESSES, type AddressField, type Filling, POINTS } from './filling.ts'
import type { Operator } from './grammar.ts'
import { grpcStatusNumber } from './grpc-status.ts'
import { SET_COUNT, SET_NS, SET_TEXT } from './setters.ts'
import { DEFAULT_TIME, TimeReader } from './time.ts'

/**
 * What a value can look like in a line of text, where nothing is escaped: the tighter the shape, the surer the split.
 *
 * `number` digits · `flags` short or long names with commas · `protocol` HTTP/x · `token` no blank and no quote ·
 * `address` a token with a point, a colon or a slash · `balanced` brackets close · `text` anything
 */
export type Shape = 'number' | 'flags' | 'protocol' | 'token' | 'address' | 'balanced' | 'json' | 'text'

/** What to do with the value of an operator. */
export type Target =
  | {
      readonly kind: 'text'
      readonly shape: Shape
      readonly set: (into: Filling, value: string) => void
    }
  | {
      readonly kind: 'number'
      /** False: out of range. */
      readonly set: (into: Filling, value: number) => boolean | undefined
      /** Resolution of a duration, ns; 0 where it is none. */
      readonly precisionNs: number
    }
  | {
      /** JSON of any type; in text, strings stand without quotes. */
      readonly kind: 'json'
      readonly set: (into: Filling, json: string) => void
    }
  | { readonly kind: 'time'; readonly reader: TimeReader; readonly end: boolean }
  /** Known, and kept as a custom tag, since no column is for it. */
  | { readonly kind: 'tag'; readonly shape: Shape; readonly name: string }
  /** Not kept. */
  | { readonly kind: 'ignored'; readonly shape: Shape }

export interface TargetOptions {
  /** Zone of `%START_TIME_LOCAL%` where its format has none is that of this machine; else UTC. */
  readonly localTime?: boolean
}

/** What the value of an operator is for. Operators that are not known become custom tags named like them. */
export function targetOf(operator: Operator, options: TargetOptions = {}): Target {
  const { name, parameters } = operator
  const simple = SIMPLE[name]
  if (simple !== undefined) return simple
  switch (name) {
    case 'START_TIME':
    case 'START_TIME_LOCAL':
    case 'EMIT_TIME':
    case 'EMIT_TIME_LOCAL': {
      const local = name.endsWith('_LOCAL') && (options.localTime ?? true)
      return {
        kind: 'time',
        reader: new TimeReader(parameters || DEFAULT_TIME, { local }),
        end: name.startsWith('EMIT'),
      }
    }
    case 'REQ':
    case 'REQUEST_HEADER':
    case 'REQ_WITHOUT_QUERY':
      return requestHeader(...headerNames(parameters))
    case 'RESP':
    case 'RESPONSE_HEADER':
      return responseHeader(...headerNames(parameters))
    case 'TRAILER':
    case 'RESPONSE_TRAILER': {
      const [main] = headerNames(parameters)
      return { kind: 'text', shape: 'text', set: ({ entry }, value) => entry.responseTrailers.add(main, value) }
    }
    case 'PATH':
      return parameters.endsWith('ORIG') && !parameters.endsWith('_ORIG')
        ? textField('originalPath')
        : textField('path')
    case 'COMMON_DURATION':
      return commonDuration(operator)
    case 'GRPC_STATUS':
      return GRPC_STATUS
    case 'REQUESTED_SERVER_NAME':
      return parameters === '' || parameters.startsWith('SNI_ONLY') ? textField('sni', 'token') : tag(operator, 'token')
    case 'DYNAMIC_METADATA':
      return metadata(parameters.split(':'))
    case 'METADATA': {
      const [type, ...path] = parameters.split(':')
      if (type === 'DYNAMIC') return metadata(path)
      return type === 'UPSTREAM_HOST' ? upstreamMetadata(operator, path) : tag(operator, 'json')
    }
    case 'UPSTREAM_METADATA':
      return upstreamMetadata(operator, parameters.split(':'))
    case 'FILTER_STATE':
    case 'UPSTREAM_FILTER_STATE':
      return filterState(parameters)
    case 'COALESCE':
      return coalesce(operator, options)
    // Values of queries are not kept anywhere.
    case 'QUERY_PARAM':
    case 'QUERY_PARAMS':
      return { kind: 'ignored', shape: 'text' }
  }
  const address = ADDRESS_OPERATOR.exec(name)
  if (address !== null) return addressOf(address[1]!, address[2] ?? '')
  return tag(operator, TAG_SHAPES[name] ?? 'text')
}

const MS = 1e6

function textField(field: keyof typeof SET_TEXT, shape: Shape = 'text'): Target {
  const set = SET_TEXT[field]
  return { kind: 'text', shape, set: (into, value) => set(into.entry, value) }
}

function count(field: keyof typeof SET_COUNT): Target {
  const set = SET_COUNT[field]
  return {
    kind: 'number',
    precisionNs: 0,
    set(into, value) {
      if (value < 0 || value > Number.MAX_SAFE_INTEGER) return false
      set(into.entry, Math.floor(value))
      return true
    },
  }
}

/** A duration or a point, printed in units of `unitNs`. */
export function durationField(field: keyof typeof SET_NS, unitNs: number): Target {
  const set = SET_NS[field]
  return {
    kind: 'number',
    precisionNs: unitNs,
    set(into, value) {
      if (value >= 0) set(into.entry, Math.round(value * unitNs))
      return true
    },
  }
}

function tag(operator: Operator, shape: Shape): Target {
  return { kind: 'tag', shape, name: operator.text.toLowerCase() }
}

const GRPC_STATUS: Target = {
  kind: 'text',
  shape: 'token',
  set({ entry }, value) {
    const status = grpcStatusNumber(value)
    if (status >= 0) entry.grpcStatus = status
    else entry.customTags.add('grpc_status', value)
  },
}

/** The first to say it is right; another value is kept beside it. */
function firstHost(name: string): Target {
  return {
    kind: 'text',
    shape: 'address',
    set({ entry }, value) {
      const host = value.startsWith('tcp://') ? value.slice('tcp://'.length) : value
      if (entry.upstreamHost === '') entry.upstreamHost = host
      else if (entry.upstreamHost !== host) entry.customTags.add(name, host)
    },
  }
}

function firstCluster(name: string): Target {
  return {
    kind: 'text',
    shape: 'token',
    set({ entry }, value) {
      if (entry.upstreamCluster === '') entry.upstreamCluster = value
      else if (entry.upstreamCluster !== value) entry.customTags.add(name, value)
    },
  }
}

const SIMPLE: Readonly<Record<string, Target>> = {
  DURATION: durationField('durationNs', MS),
  REQUEST_DURATION: durationField('rxEndNs', MS),
  REQUEST_TX_DURATION: durationField('upTxEndNs', MS),
  RESPONSE_DURATION: durationField('upRxBeginNs', MS),
  RESPONSE_TX_DURATION: span(POINTS.indexOf('upRxBeginNs'), POINTS.indexOf('downTxEndNs'), MS),
  RESPONSE_CODE: {
    kind: 'number',
    precisionNs: 0,
    set({ entry }, value) {
      if (value < 0 || value > 999) return false
      entry.code = value
      return true
    },
  },
  RESPONSE_CODE_DETAILS: textField('responseCodeDetails', 'balanced'),
  RESPONSE_FLAGS: {
    kind: 'text',
    shape: 'flags',
    set({ entry }, value) {
      entry.flags = value
    },
  },
  RESPONSE_FLAGS_LONG: {
    kind: 'text',
    shape: 'flags',
    set({ entry }, value) {
      if (entry.flags === '') entry.flags = value
    },
  },
  CUSTOM_FLAGS: {
    kind: 'text',
    shape: 'flags',
    set({ entry }, value) {
      entry.flags = entry.flags === '' ? value : `${entry.flags},${value}`
    },
  },
  CONNECTION_TERMINATION_DETAILS: textField('connectionTerminationDetails'),
  UPSTREAM_TRANSPORT_FAILURE_REASON: textField('upstreamTransportFailure'),
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: textField('downstreamTransportFailure'),
  BYTES_RECEIVED: count('requestBodyBytes'),
  BYTES_SENT: count('responseBodyBytes'),
  REQUEST_HEADERS_BYTES: count('requestHeadersBytes'),
  RESPONSE_HEADERS_BYTES: count('responseHeadersBytes'),
  UPSTREAM_WIRE_BYTES_SENT: count('upstreamWireSent'),
  UPSTREAM_WIRE_BYTES_RECEIVED: count('upstreamWireReceived'),
  UPSTREAM_HEADER_BYTES_SENT: count('upstreamHeaderSent'),
  UPSTREAM_HEADER_BYTES_RECEIVED: count('upstreamHeaderReceived'),
  DOWNSTREAM_WIRE_BYTES_SENT: count('downstreamWireSent'),
  DOWNSTREAM_WIRE_BYTES_RECEIVED: count('downstreamWireReceived'),
  DOWNSTREAM_HEADER_BYTES_SENT: count('downstreamHeaderSent'),
  DOWNSTREAM_HEADER_BYTES_RECEIVED: count('downstreamHeaderReceived'),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: count('attempts'),
  PROTOCOL: {
    kind: 'text',
    shape: 'protocol',
    set({ entry }, value) {
      entry.protocol = protocolOf(value)
    },
  },
  UPSTREAM_HOST: firstHost('upstream_host'),
  UPSTREAM_CLUSTER: firstCluster('upstream_cluster'),
  UPSTREAM_CLUSTER_RAW: {
    kind: 'text',
    shape: 'token',
    set({ entry }, value) {
      if (entry.upstreamCluster !== '' && entry.upstreamCluster !== value) {
        entry.customTags.add('upstream_cluster', entry.upstreamCluster)
      }
      entry.upstreamCluster = value
    },
  },
  ROUTE_NAME: textField('route'),
  LISTENER_NAME: textField('listener'),
  STREAM_ID: textField('streamId', 'token'),
  TRACE_ID: hexId('traceId', 'trace_id', /^(?:[0-9a-f]{16}|[0-9a-f]{32})$/),
  SPAN_ID: hexId('spanId', 'span_id', /^[0-9a-f]{16}$/),
  GRPC_STATUS_NUMBER: {
    kind: 'number',
    precisionNs: 0,
    set({ entry }, value) {
      if (value < 0 || value > 255) return false
      entry.grpcStatus = value
      return true
    },
  },
  ACCESS_LOG_TYPE: {
    kind: 'text',
    shape: 'token',
    set(into, value) {
      const type = ENTRY_TYPES.indexOf(value as (typeof ENTRY_TYPES)[number])
      into.typeSaid = true
      into.entry.type = type < 0 ? ENTRY_TYPES.length - 1 : type
    },
  },
  DOWNSTREAM_TLS_VERSION: textField('tlsVersion', 'token'),
  DOWNSTREAM_TLS_CIPHER: {
    kind: 'text',
    shape: 'token',
    set({ entry }, value) {
      entry.tlsCipher = tlsCipherNumber(value)
      if (entry.tlsCipher === 0) entry.customTags.add('downstream_tls_cipher', value)
    },
  },
  DOWNSTREAM_TLS_SESSION_ID: textField('tlsSession', 'token'),
  DOWNSTREAM_PEER_URI_SAN: textField('peerSan'),
  DOWNSTREAM_PEER_SUBJECT: textField('peerSubject'),
  DOWNSTREAM_PEER_ISSUER: textField('peerIssuer'),
  DOWNSTREAM_LOCAL_URI_SAN: textField('localSan'),
  DOWNSTREAM_LOCAL_SUBJECT: textField('localSubject'),
  TLS_JA3_FINGERPRINT: textField('ja3', 'token'),
}

function hexId(field: 'traceId' | 'spanId', name: string, form: RegExp): Target {
  return {
    kind: 'text',
    shape: 'token',
    set({ entry }, value) {
      const id = value.toLowerCase()
      if (form.test(id)) entry[field] = id
      else entry.customTags.add(name, value)
    },
  }
}

/** Shapes of known operators that no column is for. Others are text. */
const TAG_SHAPES: Readonly<Record<string, Shape>> = {
  BYTES_RETRANSMITTED: 'number',
  PACKETS_RETRANSMITTED: 'number',
  RESPONSE_TRAILERS_BYTES: 'number',
  ROUNDTRIP_DURATION: 'number',
  DOWNSTREAM_HANDSHAKE_DURATION: 'number',
  UPSTREAM_CONNECTION_POOL_READY_DURATION: 'number',
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: 'number',
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: 'number',
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: 'number',
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: 'number',
  ROUTE_RESOLUTION_TIME_US: 'number',
  ROUTE_RESOLUTION_COUNT: 'number',
  DOWNSTREAM_CX_RTT: 'number',
  CONNECTION_ID: 'number',
  UPSTREAM_CONNECTION_ID: 'number',
  UPSTREAM_PROTOCOL: 'protocol',
  UPSTREAM_HOST_NAME: 'token',
  UPSTREAM_HOST_NAME_WITHOUT_PORT: 'token',
  UPSTREAM_HOSTS_ATTEMPTED: 'token',
  UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT: 'token',
  UPSTREAM_HOST_NAMES_ATTEMPTED: 'token',
  UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT: 'token',
  UPSTREAM_CONNECTION_IDS_ATTEMPTED: 'token',
  UPSTREAM_TLS_VERSION: 'token',
  UPSTREAM_TLS_CIPHER: 'token',
  UPSTREAM_TLS_SESSION_ID: 'token',
  UPSTREAM_SERVER_NAME: 'token',
  DOWNSTREAM_TLS_GROUP: 'token',
  UPSTREAM_TLS_GROUP: 'token',
  TLS_JA4_FINGERPRINT: 'token',
  UPSTREAM_DETECTED_CLOSE_TYPE: 'token',
  DOWNSTREAM_DETECTED_CLOSE_TYPE: 'token',
  HOSTNAME: 'token',
  UNIQUE_ID: 'token',
  CLUSTER_METADATA: 'json',
}

/** `HTTP/2.0` and `HTTP/3.0` are older spellings. */
function protocolOf(value: string): string {
  return value === 'HTTP/2.0' ? 'HTTP/2' : value === 'HTTP/3.0' ? 'HTTP/3' : value
}

function headerNames(parameters: string): [string, string] {
  const [main = '', alternative = ''] = parameters.split('?').map((name) => name.trim().toLowerCase())
  return [main, alternative]
}

/** Request headers that have a field of their own. */
const REQUEST_FIELDS: Readonly<Record<string, Target>> = {
  ':method': textField('method', 'token'),
  ':path': textField('path'),
  path: textField('path'),
  'x-envoy-original-path': textField('originalPath'),
  ':authority': textField('authority', 'token'),
  host: textField('authority', 'token'),
  ':scheme': textField('scheme', 'token'),
  'user-agent': textField('userAgent'),
  referer: textField('referer'),
  'x-forwarded-for': textField('forwardedFor'),
  'x-request-id': textField('requestId', 'token'),
}

/** With an alternative the value may be of either: the more common one of the two, the alternative, names it. */
function requestHeader(main: string, alternative: string): Target {
  const field = REQUEST_FIELDS[alternative] ?? REQUEST_FIELDS[main]
  if (field !== undefined) return field
  return { kind: 'text', shape: 'text', set: ({ entry }, value) => entry.requestHeaders.add(main, value) }
}

function responseHeader(main: string, alternative: string): Target {
  if (main === ':status' || alternative === ':status') return SIMPLE.RESPONSE_CODE!
  if (main === 'x-envoy-upstream-service-time') return SERVICE_TIME
  return { kind: 'text', shape: 'text', set: ({ entry }, value) => entry.responseHeaders.add(main, value) }
}

/** Envoy adds this header to what the upstream answers, and to nothing else. */
const SERVICE_TIME: Target = {
  kind: 'text',
  shape: 'token',
  set({ entry }, value) {
    entry.responseHeaders.add('x-envoy-upstream-service-time', value)
    entry.answered = true
  },
}

/** Names of the time points, in the order of `POINTS`; the first is the start. */
const TIME_POINTS = [
  'DS_RX_BEG',
  'DS_RX_END',
  'US_TX_BEG',
  'US_TX_END',
  'US_RX_BEG',
  'US_RX_END',
  'DS_TX_BEG',
  'DS_TX_END',
]
const UNITS: Readonly<Record<string, number>> = { '': MS, ms: MS, us: 1000, ns: 1 }

function commonDuration(operator: Operator): Target {
  const [begin = '', end = '', unit = ''] = operator.parameters.split(':')
  const from = TIME_POINTS.indexOf(begin) - 1
  const to = TIME_POINTS.indexOf(end) - 1
  const unitNs = UNITS[unit]
  if (unitNs === undefined || from < -1 || to < 0) return tag(operator, 'number')
  return from < 0 ? durationField(POINTS[to]!, unitNs) : span(from, to, unitNs)
}

function span(from: number, to: number, unitNs: number): Target {
  return {
    kind: 'number',
    precisionNs: unitNs,
    set(into, value) {
      into.addSpan(from, to, Math.round(value * unitNs))
      return true
    },
  }
}

const ADDRESS_OPERATOR =
  /^(DOWNSTREAM_ADDRESS|UPSTREAM_REMOTE|UPSTREAM_LOCAL|DOWNSTREAM_REMOTE|DOWNSTREAM_DIRECT_REMOTE|DOWNSTREAM_LOCAL)(?:_(ADDRESS|ADDRESS_WITHOUT_PORT|PORT))?$/
const ADDRESS_FIELDS: Readonly<Record<string, AddressField>> = {
  UPSTREAM_REMOTE: 'upstreamHost',
  UPSTREAM_LOCAL: 'upstreamLocal',
  DOWNSTREAM_ADDRESS: 'downstreamRemote',
  DOWNSTREAM_REMOTE: 'downstreamRemote',
  DOWNSTREAM_DIRECT_REMOTE: 'downstreamDirect',
  DOWNSTREAM_LOCAL: 'downstreamLocal',
}

/** With and without the port, in one format: what has the port is kept. */
function addressOf(which: string, part: string): Target {
  const field = ADDRESS_FIELDS[which]!
  if (part === 'PORT') {
    const index = ADDRESSES.indexOf(field)
    return {
      kind: 'number',
      precisionNs: 0,
      set(into, value) {
        if (value < 0 || value > 65_535) return false
        into.setPort(index, value)
        return true
      },
    }
  }
  if (field === 'upstreamHost') return firstHost('upstream_remote_address')
  return { kind: 'text', shape: 'address', set: LONGER[field] }
}

/** With the port is longer than without it. */
const LONGER: Readonly<Record<AddressField, (into: Filling, value: string) => void>> = {
  upstreamHost({ entry }, value) {
    if (entry.upstreamHost.length < value.length) entry.upstreamHost = value
  },
  upstreamLocal({ entry }, value) {
    if (entry.upstreamLocal.length < value.length) entry.upstreamLocal = value
  },
  downstreamRemote({ entry }, value) {
    if (entry.downstreamRemote.length < value.length) entry.downstreamRemote = value
  },
  downstreamDirect({ entry }, value) {
    if (entry.downstreamDirect.length < value.length) entry.downstreamDirect = value
  },
  downstreamLocal({ entry }, value) {
    if (entry.downstreamLocal.length < value.length) entry.downstreamLocal = value
  },
}

function metadata(path: readonly string[]): Target {
  return { kind: 'json', set: (into, json) => into.addMetadata(path, json) }
}

/** Istio's endpoints: `istio:workload` is `workload;namespace;canonical name;canonical revision;cluster`. */
function upstreamMetadata(operator: Operator, path: readonly string[]): Target {
  if (path.join(':') !== 'istio:workload') return tag(operator, 'json')
  return {
    kind: 'text',
    shape: 'text',
    set({ entry }, value) {
      const [workload = '', namespace = '', service = '', version = '', cluster = ''] = value.split(';')
      const { destination } = entry
      destination.set('workload', workload)
      destination.set('namespace', namespace)
      destination.set('service', service)
      destination.set('version', version)
      destination.set('cluster', cluster)
    },
  }
}

/** Fields of Istio's peers. */
const PEER_FIELDS: Readonly<Record<string, PartyField>> = {
  workload: 'workload',
  namespace: 'namespace',
  service: 'service',
  revision: 'version',
  version: 'version',
  identity: 'principal',
  app: 'app',
  cluster: 'cluster',
}
const PEER_SIDES: Readonly<Record<string, 'source' | 'destination'>> = {
  downstream_peer: 'source',
  'wasm.downstream_peer': 'source',
  upstream_peer: 'destination',
  'wasm.upstream_peer': 'destination',
}

/** `key`, `key:PLAIN`, `key:TYPED`, `key:FIELD:name`. */
function filterState(parameters: string): Target {
  const [key = '', form = '', name = ''] = parameters.split(':')
  if (form !== 'FIELD') return { kind: 'json', set: ({ entry }, json) => entry.filterState.add(key, json) }
  const side = PEER_SIDES[key]
  const field = PEER_FIELDS[name]
  if (side !== undefined && field !== undefined) {
    return {
      kind: 'text',
      shape: 'text',
      set({ entry }, value) {
        const party: EntryParty = entry[side]
        if (field !== 'version' || value !== 'latest') party.set(field, value)
      },
    }
  }
  return { kind: 'json', set: ({ entry }, json) => entry.filterState.add(`${key}.${name}`, json) }
}

/** The value of one of several operators, it is not said which: kept as that of the last one, the common case. */
function coalesce(operator: Operator, options: TargetOptions): Target {
  let last: Operator | null = null
  try {
    const { operators } = JSON.parse(operator.parameters) as { operators?: unknown }
    const found: unknown = Array.isArray(operators) ? operators.at(-1) : undefined
    const { command, param } = (typeof found === 'string' ? { command: found } : found) as {
      command?: unknown
      param?: unknown
    }
    if (typeof command === 'string') {
      const parameters = typeof param === 'string' ? param : ''
      last = { name: command, parameters, lengthMax: 0, text: command }
    }
  } catch {
    // Not JSON: Envoy would not have started with it.
  }
  if (last === null || last.name === 'COALESCE') return tag(operator, 'text')
  const target = targetOf(last, options)
  return target.kind === 'text' ? { ...target, shape: 'text' } : target
}
