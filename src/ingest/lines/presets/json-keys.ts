import { GRPC_CODES } from '../../../lib/grpc-codes.ts'
import type { AccessEntry, EntryReporter, Pairs } from '../../entry/entry.ts'
import type { FlatValues } from '../flat-json.ts'
import { settle } from '../format/filling.ts'
import { SET_ADDRESS, SET_COUNT, SET_NS, SET_TEXT } from '../format/setters.ts'
import type { LineFault } from '../parser.ts'
import { type Instant, instantOfEpoch, parseInstant } from '../unwrap/time.ts'
import type { JsonForm, JsonRecord } from './json.ts'
import { decimal, durationNs, integer, msToNs, present, protocolOf, setUri } from './values.ts'

/**
 * Access logs of Envoys in JSON, read by the names of their keys: every product has its own set and spelling of the same
 * operators (`x-envoy-origin-path`, `path`, `reqPath`; `upstream_host`, `upstreamHost`), so keys are folded to lower case
 * letters and digits and looked up in one table. A value may be typed or a text, and absent as null, `-` or the empty
 * text. What the table does not have becomes a custom tag. For keys that say nothing there are format strings.
 */
export function createJsonKeys(options: JsonKeysOptions): JsonForm {
  const fieldOf = createFolding()
  return {
    name: options.name,
    precisionNs: 1_000_000,
    detects: options.detects,
    fill(record, entry) {
      const fault = fill(record, entry, fieldOf)
      if (fault === null && options.reporter !== undefined) entry.reporter = options.reporter
      return fault
    },
    flat(keys) {
      const fields = keys.map((key) => fieldOf(key))
      const told = fields.some((field) => field?.tells)
      return (values, entry) => {
        if (!fillFlat(values, keys, fields, entry)) return false
        settle(entry)
        entry.untold = !told && !entry.tcp
        if (options.reporter !== undefined) entry.reporter = options.reporter
        return true
      }
    },
  }
}

export interface JsonKeysOptions {
  readonly name: string
  readonly detects: (record: JsonRecord) => boolean
  /** For products that are only gateways. */
  readonly reporter?: EntryReporter
}

function fill(record: JsonRecord, entry: AccessEntry, fieldOf: Folding): LineFault | null {
  let evidence = false
  let told = false
  let keys = 0
  for (const key in record) {
    if (++keys > KEYS_MAX) return 'too_large'
    const value = record[key]
    const field = fieldOf(key)
    if (field?.tells) told = true
    if (value === null) continue
    if (field === undefined) {
      if (typeof value === 'string' ? present(value) : typeof value === 'number' || typeof value === 'boolean') {
        entry.customTags.add(key, String(value))
      }
      continue
    }
    if (field.evidence) evidence = true
    if (typeof value === 'object') {
      if (field.pairs !== undefined) addPairs(field.pairs(entry), value as JsonRecord)
      continue
    }
    if (typeof value === 'number' && field.number !== undefined) {
      if (field.number(entry, value) === false) return 'bad_value'
    } else if (field.set !== undefined) {
      const text = typeof value === 'string' ? value : String(value)
      if (present(text) && field.set(entry, text) === false) return 'bad_value'
    }
  }
  if (!evidence) return OWN_LOG.some((key) => record[key] !== undefined) ? 'not_an_entry' : 'unmatched'
  settle(entry)
  entry.untold = !told && !entry.tcp
  return null
}

/** As `fill`, of a line without objects. False: it is no access log entry, or a value is not of its field's type. */
function fillFlat(
  values: FlatValues,
  keys: readonly string[],
  fields: readonly (Field | undefined)[],
  entry: AccessEntry,
): boolean {
  let evidence = false
  for (let k = 0; k < fields.length; k++) {
    const field = fields[k]
    const text = values[2 * k + 1]
    const scalar = text === undefined ? values[2 * k + 2] : undefined
    if (text === undefined && scalar === undefined) continue
    if (field === undefined) {
      if (scalar !== undefined) entry.customTags.add(keys[k]!, plainOf(scalar))
      else if (present(text!)) entry.customTags.add(keys[k]!, text!)
      continue
    }
    if (field.evidence) evidence = true
    if (scalar !== undefined && field.number !== undefined && isNumber(scalar)) {
      if (field.number(entry, Number(scalar)) === false) return false
    } else if (field.set !== undefined) {
      const given = text ?? plainOf(scalar!)
      if (present(given) && field.set(entry, given) === false) return false
    }
  }
  return evidence
}

const isNumber = (scalar: string): boolean => scalar.charCodeAt(0) < 0x3a

/** A number as a number is printed, `true` and `false` as they are. */
const plainOf = (scalar: string): string => (isNumber(scalar) ? String(Number(scalar)) : scalar)

/** More keys than anybody logs; custom tags are cut by the decoder, but reading them costs too. */
const KEYS_MAX = 512
/** Keys of programs' own logs: Envoy's, Istio's agents', Consul's, controllers'. */
const OWN_LOG = ['level', 'msg', 'message', '@level', '@message', 'severity', 'logger']

interface Field {
  /** False: not a value of this field's type. */
  readonly set?: (entry: AccessEntry, text: string) => boolean | undefined
  /** The same, of a typed number. */
  readonly number?: (entry: AccessEntry, value: number) => boolean | undefined
  /** For fields that are an object of names and texts. */
  readonly pairs?: (entry: AccessEntry) => Pairs
  /** Only access logs have it. */
  readonly evidence: boolean
  /** A format with this key tells who answered, also where the value is absent. */
  readonly tells?: true
}

const text = (name: keyof typeof SET_TEXT, evidence = false): Field => {
  const assign = SET_TEXT[name]
  return {
    set(entry, value) {
      assign(entry, value)
    },
    evidence,
  }
}
const address = (name: keyof typeof SET_ADDRESS): Field => {
  const assign = SET_ADDRESS[name]
  return {
    set(entry, value) {
      // Envoy before 1.6 printed `tcp://10.0.0.7:80`.
      assign(entry, value.startsWith('tcp://') ? value.slice('tcp://'.length) : value)
    },
    evidence: true,
  }
}
/** A whole number, ≥ 0. */
const count = (name: keyof typeof SET_COUNT, evidence = false): Field => {
  const assign = SET_COUNT[name]
  return {
    set(entry, text) {
      const value = integer(text)
      if (Number.isNaN(value)) return false
      assign(entry, value)
    },
    number(entry, value) {
      if (!Number.isSafeInteger(value) || value < 0) return false
      assign(entry, value)
    },
    evidence,
  }
}
/** Milliseconds, as a text perhaps with a unit that somebody's own template has. */
const duration = (name: keyof typeof SET_NS, evidence = false): Field => {
  const assign = SET_NS[name]
  return {
    set(entry, text) {
      const ms = msToNs(text)
      const ns = Number.isNaN(ms) ? durationNs(text) : ms
      if (Number.isNaN(ns)) return false
      assign(entry, ns)
    },
    number(entry, value) {
      if (!(value >= 0 && value < 1e12)) return false
      assign(entry, Math.round(value * 1e6))
    },
    evidence,
  }
}
const instant = (value: string): Instant | null => {
  return parseInstant(value) ?? instantOfEpoch(decimal(value))
}
const tag = (name: string): Field => ({
  set: (entry, value) => {
    entry.customTags.add(name, value)
  },
  evidence: false,
})

const START: Field = {
  set: (entry, value) => {
    const at = instant(value)
    if (at === null) return false
    entry.startSeconds = at.seconds
    entry.startNanos = at.nanos
  },
  evidence: false,
}
const END: Field = {
  set: (entry, value) => {
    const at = instant(value)
    if (at === null) return false
    entry.endSeconds = at.seconds
    entry.endNanos = at.nanos
  },
  evidence: false,
}
const PATH: Field = {
  set: (entry, value) => {
    if (entry.path === '') setUri(entry, value)
  },
  evidence: true,
}
const PROTOCOL: Field = {
  set: (entry, value) => {
    entry.protocol = protocolOf(value)
  },
  evidence: false,
}
const SERVICE_TIME: Field = {
  set: (entry, value) => {
    if (Number.isNaN(decimal(value))) return false
    entry.responseHeaders.add('x-envoy-upstream-service-time', value)
    entry.answered = true
  },
  evidence: true,
  tells: true,
}
const DETAILS: Field = { ...text('responseCodeDetails', true), tells: true }
/** `00-<trace id>-<span id>-<flags>`. https://www.w3.org/TR/trace-context/ */
const TRACEPARENT: Field = {
  set: (entry, value) => {
    const match = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-/.exec(value)
    if (match === null) return
    entry.traceId = match[1]!
    entry.spanId = match[2]!
  },
  evidence: false,
}
/** Jaeger's `uber-trace-id`: `<trace id>:<span id>:<parent>:<flags>`, without leading zeros. */
const UBER_TRACE_ID: Field = {
  set: (entry, value) => {
    const match = /^([0-9a-f]{1,32}):([0-9a-f]{1,16}):/.exec(value)
    if (match === null) return
    entry.traceId = match[1]!.padStart(match[1]!.length > 16 ? 32 : 16, '0')
    entry.spanId = match[2]!.padStart(16, '0')
  },
  evidence: false,
}
const hex = (name: 'traceId' | 'spanId'): Field => ({
  set: (entry, value) => {
    // Datadog's are decimal: no id of ours, but worth keeping.
    if (/^(?:[0-9a-f]{16}|[0-9a-f]{32})$/i.test(value)) entry[name] = value.toLowerCase()
    else entry.customTags.add(name === 'traceId' ? 'trace_id' : 'span_id', value)
  },
  evidence: false,
})

/** Folded key → field. Several keys of one line may mean the same field; one that has a value wins. */
const FIELDS: Readonly<Record<string, Field>> = {
  starttime: START,
  timestamp: START,
  time: START,
  requesttime: START,
  endtime: END,
  emittime: END,

  method: text('method', true),
  requestmethod: text('method', true),
  reqmethod: text('method', true),
  httpmethod: text('method', true),
  path: PATH,
  requestpath: PATH,
  reqpath: PATH,
  xenvoyoriginpath: PATH,
  xenvoyoriginalpath: PATH,
  xenvoyoriginalpathpath: PATH,
  originalpath: PATH,
  uri: PATH,
  requesturi: PATH,
  pathtemplate: text('pathTemplate'),
  protocol: PROTOCOL,
  httpprotocol: PROTOCOL,
  requestprotocol: PROTOCOL,
  scheme: text('scheme'),
  xforwardedproto: text('scheme'),
  authority: text('authority', true),
  requestauthority: text('authority', true),
  host: text('authority'),
  useragent: text('userAgent'),
  referer: text('referer'),
  referrer: text('referer'),
  xforwardedfor: text('forwardedFor'),
  forwardedfor: text('forwardedFor'),
  requestid: text('requestId'),
  xrequestid: text('requestId'),
  streamid: text('streamId'),

  responsecode: count('code', true),
  responsestatus: count('code', true),
  statuscode: count('code', true),
  httpstatus: count('code', true),
  httpstatuscode: count('code', true),
  responseflags: text('flags', true),
  responsecodedetails: DETAILS,
  responsedetails: DETAILS,
  connectionterminationdetails: text('connectionTerminationDetails', true),
  upstreamtransportfailurereason: text('upstreamTransportFailure', true),
  downstreamtransportfailurereason: text('downstreamTransportFailure', true),
  grpcstatusnumber: count('grpcStatus'),
  grpcstatus: {
    set: (entry, value) => {
      const at = GRPC_STATUS.indexOf(value.toUpperCase().replace(/[^A-Z0-9]/g, ''))
      const code = at >= 0 ? at : integer(value)
      if (!Number.isNaN(code)) entry.grpcStatus = code
    },
    evidence: false,
  },
  attempts: count('attempts'),
  upstreamrequestattemptcount: count('attempts'),
  requestattemptcount: count('attempts'),

  duration: duration('durationNs', true),
  totalduration: duration('durationNs', true),
  requestduration: duration('rxEndNs', true),
  requesttxduration: duration('upTxEndNs', true),
  responseduration: duration('upRxBeginNs', true),
  upstreamservicetime: SERVICE_TIME,
  xenvoyupstreamservicetime: SERVICE_TIME,
  respxenvoyupstreamservicetime: SERVICE_TIME,

  bytesreceived: count('requestBodyBytes', true),
  bytessent: count('responseBodyBytes', true),
  requestheadersbytes: count('requestHeadersBytes'),
  responseheadersbytes: count('responseHeadersBytes'),
  downstreamwirebytesreceived: count('downstreamWireReceived'),
  downstreamwirebytessent: count('downstreamWireSent'),
  upstreamwirebytesreceived: count('upstreamWireReceived'),
  upstreamwirebytessent: count('upstreamWireSent'),
  downstreamheaderbytesreceived: count('downstreamHeaderReceived'),
  downstreamheaderbytessent: count('downstreamHeaderSent'),
  upstreamheaderbytesreceived: count('upstreamHeaderReceived'),
  upstreamheaderbytessent: count('upstreamHeaderSent'),

  upstreamhost: address('upstreamHost'),
  upstreamremoteaddress: address('upstreamHost'),
  upstreamlocaladdress: address('upstreamLocal'),
  downstreamremoteaddress: address('downstreamRemote'),
  downstreamdirectremoteaddress: address('downstreamDirect'),
  downstreamlocaladdress: address('downstreamLocal'),
  upstreamcluster: text('upstreamCluster', true),
  upstreamclustername: text('upstreamCluster', true),
  upstreamclusterraw: text('upstreamCluster', true),
  cluster: text('upstreamCluster'),
  routename: text('route', true),
  route: text('route'),
  listener: text('listener'),
  filterchainname: text('listener'),

  requestedservername: text('sni', true),
  sni: text('sni'),
  downstreamtlsversion: text('tlsVersion'),
  downstreamtlscipher: tag('downstream_tls_cipher'),
  downstreampeerurisan: text('peerSan'),
  downstreamlocalurisan: text('localSan'),
  downstreampeersubject: text('peerSubject'),
  downstreampeerissuer: text('peerIssuer'),
  ja3fingerprint: text('ja3'),

  traceid: hex('traceId'),
  xb3traceid: hex('traceId'),
  spanid: hex('spanId'),
  xb3spanid: hex('spanId'),
  traceparent: TRACEPARENT,
  ubertraceid: UBER_TRACE_ID,

  requestheaders: { pairs: (entry) => entry.requestHeaders, evidence: false },
  responseheaders: { pairs: (entry) => entry.responseHeaders, evidence: false },
  responsetrailers: { pairs: (entry) => entry.responseTrailers, evidence: false },
}

/** By number. `%GRPC_STATUS(CAMEL_STRING)%`, `SNAKE_STRING` and the number itself are all in use. */
const GRPC_STATUS: readonly string[] = GRPC_CODES.map((name) => name.replaceAll('_', ''))

/** The field that a key means, if any. */
type Folding = (key: string) => Field | undefined

/** Different keys remembered: those of lines repeat, and what a hostile sender makes up is folded anew each time. */
const FOLDED_MAX = 2048

function createFolding(): Folding {
  const folded = new Map<string, Field | undefined>()
  return (key) => {
    const known = folded.get(key)
    if (known !== undefined || folded.has(key)) return known
    const name = key.length > 64 ? '' : key.toLowerCase().replace(/[^a-z0-9]/g, '')
    const field = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined
    if (folded.size < FOLDED_MAX) folded.set(key, field)
    return field
  }
}

/** Header names in lower case; pseudo headers are what the entry's own fields say. */
function addPairs(pairs: Pairs, record: JsonRecord): void {
  for (const name of Object.keys(record)) {
    const value = record[name]
    if (name.startsWith(':') || pairs.count >= KEYS_MAX) continue
    if (typeof value === 'string' || typeof value === 'number') pairs.add(name.toLowerCase(), String(value))
  }
}
