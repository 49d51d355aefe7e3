import { METHODS, PROTOCOLS, TLS_VERSIONS } from '../../model/row-columns.ts'
import { OWN_FIELDS, SAID_TYPE } from '../als/own-fields.ts'
import type { AccessEntry, EntryParty, Pairs } from './entry.ts'
import { FlagEncoder } from './flags.ts'
import { anyOf, JsonMessages, structOf } from './struct.ts'

/**
 * Encodes access log entries as `HTTPAccessLogEntry` and `TCPAccessLogEntry` (envoy/data/accesslog/v3/accesslog.proto),
 * one after the other into one growing buffer, with the fields in the order Envoy writes them: that is what the decoder
 * is fast at. Nothing is allocated for an entry of the usual kind.
 *
 * Lengths of messages are written when their end is known. Two bytes are left for them, whatever the length (a varint
 * may have more bytes than it needs); a message over 16 KiB is moved to make room for more.
 */
export class EntryEncoder {
  bytes: Buffer
  /** End of what is encoded. */
  end = 0
  readonly #flags = new FlagEncoder()
  readonly #json = new JsonMessages()
  readonly #said = new Map<string, Uint8Array>()
  readonly #sizeMin: number

  constructor(sizeMin: number) {
    this.#sizeMin = sizeMin
    this.bytes = Buffer.allocUnsafeSlow(sizeMin)
  }

  /** Begins again at the start of the buffer; one that a burst made large is given back. */
  reset(): void {
    this.end = 0
    if (this.bytes.length > 4 * this.#sizeMin) this.bytes = Buffer.allocUnsafeSlow(this.#sizeMin)
  }

  /** Appends `entry` with its tag and length, as one element of `log_entry`. */
  add(entry: AccessEntry): void {
    const start = this.#begin(10)
    const common = this.#begin(10)
    this.#common(entry)
    this.#finish(common)
    if (entry.tcp) this.#connection(entry)
    else {
      const protocol = entry.protocol === '' ? 0 : PROTOCOLS.indexOf(entry.protocol as (typeof PROTOCOLS)[number])
      if (protocol > 0) this.#number(16, protocol)
      this.#request(entry)
      this.#response(entry)
    }
    this.#own(entry)
    this.#finish(start)
  }

  /** Makes room for `size` more bytes, and the 16 that the decoder wants behind an entry. */
  reserve(size: number): void {
    const needed = this.end + size + SLACK
    if (needed <= this.bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length))
    this.bytes.copy(grown, 0, 0, this.end)
    this.bytes = grown
  }

  #common(entry: AccessEntry): void {
    if (entry.downstreamRemote !== '') this.#address(18, entry.downstreamRemote)
    if (entry.downstreamLocal !== '') this.#address(26, entry.downstreamLocal)
    this.#tls(entry)
    this.#start(entry)
    if (entry.rxEndNs >= 0) this.#duration(50, entry.rxEndNs)
    if (entry.upTxBeginNs >= 0) this.#duration(58, entry.upTxBeginNs)
    if (entry.upTxEndNs >= 0) this.#duration(66, entry.upTxEndNs)
    if (entry.upRxBeginNs >= 0) this.#duration(74, entry.upRxBeginNs)
    if (entry.upRxEndNs >= 0) this.#duration(82, entry.upRxEndNs)
    if (entry.downTxBeginNs >= 0) this.#duration(90, entry.downTxBeginNs)
    if (entry.downTxEndNs >= 0) this.#duration(98, entry.downTxEndNs)
    if (entry.upstreamHost !== '') this.#address(106, entry.upstreamHost)
    if (entry.upstreamLocal !== '') this.#address(114, entry.upstreamLocal)
    if (entry.upstreamCluster !== '') this.#text(122, entry.upstreamCluster)
    if (entry.flags !== '') {
      const { message } = this.#flags.encode(entry.flags)
      if (message.length > 0) this.#bytes(130, message)
    }
    if (entry.metadata !== '') {
      const message = this.#json.metadata(entry.metadata)
      if (message !== null) this.#bytes(138, message)
    }
    if (entry.upstreamTransportFailure !== '') this.#text(146, entry.upstreamTransportFailure)
    if (entry.route !== '') this.#text(154, entry.route)
    if (entry.downstreamDirect !== '') this.#address(162, entry.downstreamDirect)
    if (entry.filterState.count > 0) this.#filterState(entry.filterState)
    if (entry.customTags.count > 0) this.#pairs(178, entry.customTags)
    if (entry.durationNs >= 0) this.#duration(186, entry.durationNs)
    if (entry.attempts > 0) this.#number(192, entry.attempts)
    if (entry.connectionTerminationDetails !== '') this.#text(202, entry.connectionTerminationDetails)
    if (entry.streamId !== '') this.#text(210, entry.streamId)
    if (entry.intermediate) this.#number(216, 1)
    if (entry.downstreamTransportFailure !== '') this.#text(226, entry.downstreamTransportFailure)
    if (entry.downstreamWireSent > 0) this.#number(232, entry.downstreamWireSent)
    if (entry.downstreamWireReceived > 0) this.#number(240, entry.downstreamWireReceived)
    if (entry.upstreamWireSent > 0) this.#number(248, entry.upstreamWireSent)
    if (entry.upstreamWireReceived > 0) this.#number(256, entry.upstreamWireReceived)
    if (entry.type > 0) this.#number(264, entry.type)
  }

  /** `tls_properties`: version #1, cipher #2, SNI #3, local #4 and peer #5 certificate, session #6, JA3 #7. */
  #tls(entry: AccessEntry): void {
    const local = entry.localSan !== '' || entry.localSubject !== '' || entry.localIssuer !== ''
    const peer = entry.peerSan !== '' || entry.peerSubject !== '' || entry.peerIssuer !== ''
    if (entry.sni === '' && entry.tlsVersion === '' && !local && !peer) {
      if (entry.tlsCipher === 0 && entry.tlsSession === '' && entry.ja3 === '') return
    }
    const start = this.#begin(34)
    const version =
      entry.tlsVersion === '' ? 0 : TLS_VERSIONS.indexOf(entry.tlsVersion as (typeof TLS_VERSIONS)[number])
    if (version > 0) this.#number(8, version)
    if (entry.tlsCipher > 0) this.#wrapped(18, entry.tlsCipher)
    if (entry.sni !== '') this.#text(26, entry.sni)
    if (local) this.#certificate(34, entry.localSan, entry.localSubject, entry.localIssuer)
    if (peer) this.#certificate(42, entry.peerSan, entry.peerSubject, entry.peerIssuer)
    if (entry.tlsSession !== '') this.#text(50, entry.tlsSession)
    if (entry.ja3 !== '') this.#text(58, entry.ja3)
    this.#finish(start)
  }

  /** SANs joined with commas stay one: the column has them joined. */
  #certificate(tag: number, san: string, subject: string, issuer: string): void {
    const start = this.#begin(tag)
    if (san !== '') {
      const name = this.#begin(10)
      this.#text(10, san)
      this.#finish(name)
    }
    if (subject !== '') this.#text(18, subject)
    if (issuer !== '') this.#text(26, issuer)
    this.#finish(start)
  }

  #start(entry: AccessEntry): void {
    let seconds = entry.startSeconds
    let nanos = entry.startNanos
    if (seconds <= 0) {
      if (entry.endSeconds <= 0) return
      const before = Math.max(entry.durationNs, 0)
      const whole = Math.floor(before / 1e9)
      seconds = entry.endSeconds - whole
      nanos = entry.endNanos - (before - whole * 1e9)
      if (nanos < 0) {
        nanos += 1e9
        seconds--
      }
      if (seconds <= 0) return
    }
    this.reserve(32)
    const { bytes } = this
    const at = this.end
    bytes[at] = 42
    bytes[at + 2] = 8
    let p = varint(bytes, at + 3, seconds)
    if (nanos > 0) {
      bytes[p] = 16
      p = varint(bytes, p + 1, nanos)
    }
    bytes[at + 1] = p - at - 2
    this.end = p
  }

  /** Tags up to 127 and from 128 have one and two bytes. */
  #duration(tag: number, ns: number): void {
    this.reserve(32)
    const { bytes } = this
    let at = this.end
    if (tag > 127) bytes[at++] = (tag & 127) | 128
    bytes[at++] = tag > 127 ? tag >> 7 : tag
    let p = at + 1
    let nanos = ns
    if (ns >= 1e9) {
      const seconds = Math.floor(ns / 1e9)
      nanos = ns - seconds * 1e9
      bytes[p] = 8
      p = varint(bytes, p + 1, seconds)
    }
    nanos = Math.floor(nanos)
    if (nanos > 0) {
      bytes[p] = 16
      p = varint(bytes, p + 1, nanos)
    }
    bytes[at] = p - at - 1
    this.end = p
  }

  #connection(entry: AccessEntry): void {
    const start = this.#begin(18)
    if (entry.requestBodyBytes > 0) this.#number(8, entry.requestBodyBytes)
    if (entry.responseBodyBytes > 0) this.#number(16, entry.responseBodyBytes)
    this.#finish(start)
  }

  #request(entry: AccessEntry): void {
    const start = this.#begin(26)
    const method = entry.method === '' ? 0 : METHODS.indexOf(entry.method as (typeof METHODS)[number])
    if (method > 0) this.#number(8, method)
    if (entry.scheme !== '') this.#text(18, entry.scheme)
    if (entry.authority !== '') this.#text(26, entry.authority)
    if (entry.path !== '') this.#text(42, entry.path)
    if (entry.userAgent !== '') this.#text(50, entry.userAgent)
    if (entry.referer !== '') this.#text(58, entry.referer)
    if (entry.forwardedFor !== '') this.#text(66, entry.forwardedFor)
    if (entry.requestId !== '') this.#text(74, entry.requestId)
    if (entry.originalPath !== '') this.#text(82, entry.originalPath)
    if (entry.requestHeadersBytes > 0) this.#number(88, entry.requestHeadersBytes)
    if (entry.requestBodyBytes > 0) this.#number(96, entry.requestBodyBytes)
    if (method < 0) this.#pair(106, ':method', entry.method)
    if (entry.traceId !== '') this.#pair(106, 'x-b3-traceid', entry.traceId)
    if (entry.spanId !== '') this.#pair(106, 'x-b3-spanid', entry.spanId)
    if (entry.requestHeaders.count > 0) this.#pairs(106, entry.requestHeaders)
    if (entry.upstreamHeaderSent > 0) this.#number(112, entry.upstreamHeaderSent)
    if (entry.downstreamHeaderReceived > 0) this.#number(120, entry.downstreamHeaderReceived)
    this.#finish(start)
  }

  #response(entry: AccessEntry): void {
    const start = this.#begin(34)
    if (entry.code > 0) this.#wrapped(10, entry.code)
    if (entry.responseHeadersBytes > 0) this.#number(16, entry.responseHeadersBytes)
    if (entry.responseBodyBytes > 0) this.#number(24, entry.responseBodyBytes)
    if (entry.responseHeaders.count > 0) this.#pairs(34, entry.responseHeaders)
    if (entry.responseTrailers.count > 0) this.#pairs(42, entry.responseTrailers)
    if (entry.responseCodeDetails !== '') this.#text(50, entry.responseCodeDetails)
    if (entry.upstreamHeaderReceived > 0) this.#number(56, entry.upstreamHeaderReceived)
    if (entry.downstreamHeaderSent > 0) this.#number(64, entry.downstreamHeaderSent)
    this.#finish(start)
  }

  #own(entry: AccessEntry): void {
    const said = entry.source.known || entry.destination.known || entry.reporter !== ''
    const bare = entry.responseCodeDetails === '' && entry.upRxBeginNs < 0
    const answered = !bare ? 0 : entry.answered ? 1 : entry.untold ? 2 : 0
    const more = said || answered > 0 || entry.grpcStatus >= 0 || entry.listener !== '' || entry.pathTemplate !== ''
    if (!more && entry.flags === '') return
    const flags = entry.flags === '' ? null : this.#flags.encode(entry.flags)
    const otherFlags = flags !== null && (flags.bits !== 0 || flags.text !== '')
    if (!more && !otherFlags) return
    const start = this.#begin(OWN_FIELDS * 8 + 2)
    if (entry.grpcStatus >= 0) this.#number(8, entry.grpcStatus)
    if (otherFlags) {
      if (flags.bits !== 0) this.#number(16, flags.bits)
      if (flags.text !== '') this.#text(26, flags.text)
    }
    if (entry.listener !== '') this.#text(34, entry.listener)
    if (entry.pathTemplate !== '') this.#text(42, entry.pathTemplate)
    if (said) {
      this.#bytes(50, this.#party(entry.source, entry.reporter))
      if (entry.destination.known) this.#bytes(58, this.#party(entry.destination, ''))
    }
    if (answered > 0) this.#number(64, answered)
    this.#finish(start)
  }

  /** Parties repeat: their messages are remembered. */
  #party(party: EntryParty, reporter: string): Uint8Array {
    const { workload, namespace, service, version, principal, app, cluster } = party
    const key = `${workload}\0${namespace}\0${service}\0${version}\0${principal}\0${app}\0${cluster}\0${reporter}`
    const known = this.#said.get(key)
    if (known !== undefined) return known
    const fields: readonly (readonly [string, string])[] = [
      ['workload', workload],
      ['namespace', namespace],
      ['service', service],
      ['version', version],
      ['identity', principal],
      ['app', app],
      ['cluster', cluster],
      ['reporter', reporter],
    ]
    const message = anyOf(SAID_TYPE, structOf(fields.filter(([, text]) => text !== '')))
    if (this.#said.size >= PARTIES_MAX) this.#said.clear()
    this.#said.set(key, message)
    return message
  }

  #filterState(pairs: Pairs): void {
    const count = Math.min(pairs.count, PAIRS_MAX)
    for (let k = 0; k < count; k++) {
      const start = this.#begin(170)
      this.#text(10, pairs.names[k]!)
      this.#bytes(18, this.#json.any(pairs.values[k]!))
      this.#finish(start)
    }
  }

  #pairs(tag: number, pairs: Pairs): void {
    const count = Math.min(pairs.count, PAIRS_MAX)
    for (let k = 0; k < count; k++) this.#pair(tag, pairs.names[k]!, pairs.values[k]!)
  }

  #pair(tag: number, name: string, value: string): void {
    const start = this.#begin(tag)
    this.#text(10, name)
    this.#text(18, value)
    this.#finish(start)
  }

  /** A text field. Short ones, nearly all, are written here: a call into the runtime costs more than a copy by hand. */
  #text(tag: number, value: string): void {
    const length = value.length
    if (length > TEXT_MAX) {
      this.#text(tag, value.slice(0, TEXT_MAX))
      return
    }
    this.reserve(3 * length + 8)
    const { bytes } = this
    let p = this.#tag(tag)
    if (length < SHORT) {
      const at = p++
      let bits = 0
      for (let k = 0; k < length; k++) {
        const unit = value.charCodeAt(k)
        bits |= unit
        bytes[p + k] = unit
      }
      if (bits < 128) {
        bytes[at] = length
        this.end = p + length
        return
      }
      p = at
    }
    const written = bytes.write(value, p + 2, 'utf8')
    this.end = this.#lengthAt(p, written)
  }

  #bytes(tag: number, value: Uint8Array): void {
    this.reserve(value.length + 16)
    const p = this.#tag(tag)
    this.bytes.set(value, p + 2)
    this.end = this.#lengthAt(p, value.length)
  }

  /** An address of any kind. `ip:port` is what Envoy prints nearly always. */
  #address(tag: number, text: string): void {
    const first = text.charCodeAt(0)
    if (first !== BRACKET && first !== SLASH && text.length < 64 && this.#usualAddress(tag, text)) return
    if (first === SLASH) this.#pipe(tag, text)
    else if (text.startsWith('envoy://')) this.#internal(tag, text)
    else this.#socketAddress(tag, text, first)
  }

  /** `host:port` or `host`, in ASCII, in one pass over the text. False, and nothing is written, when it is not one. */
  #usualAddress(tag: number, text: string): boolean {
    const { length } = text
    this.reserve(length + 24)
    const { bytes } = this
    const at = this.#tag(tag)
    let bits = 0
    let host = length
    let port = 0
    for (let k = 0; k < length; k++) {
      const unit = text.charCodeAt(k)
      bits |= unit
      if (unit === COLON) {
        if (host < length) return false
        host = k
      } else if (host === length) bytes[at + 5 + k] = unit
      else {
        const digit = unit - 48
        if (digit < 0 || digit > 9) return false
        port = port * 10 + digit
      }
    }
    if (bits > 127 || host === 0 || port > 65_535 || host === length - 1) return false
    bytes[at + 1] = 10
    bytes[at + 3] = 18
    bytes[at + 4] = host
    let p = at + 5 + host
    if (port > 0) {
      bytes[p] = 24
      p = varint(bytes, p + 1, port)
    }
    bytes[at] = p - at - 1
    bytes[at + 2] = p - at - 3
    this.end = p
    return true
  }

  #socketAddress(tag: number, text: string, first: number): void {
    let host = text
    let port = 0
    const colon = text.lastIndexOf(':')
    if (first === BRACKET) {
      const closing = text.indexOf(']')
      if (closing > 0) {
        host = text.slice(1, closing)
        if (colon > closing) port = portOf(text, colon + 1)
      }
    } else if (colon >= 0 && text.indexOf(':') === colon) {
      port = portOf(text, colon + 1)
      if (port >= 0) host = text.slice(0, colon)
    }
    if (host === '' && port <= 0) return
    if (host.length >= 100) {
      const start = this.#begin(tag)
      const socket = this.#begin(10)
      this.#text(18, host)
      if (port > 0) this.#number(24, port)
      this.#finish(socket)
      this.#finish(start)
      return
    }
    // Short: both lengths are one byte, which is the form that the decoder reads in place.
    this.reserve(3 * host.length + 24)
    const at = this.#tag(tag)
    const { bytes } = this
    bytes[at + 1] = 10
    this.end = at + 3
    if (host !== '') this.#text(18, host)
    if (port > 0) {
      bytes[this.end] = 24
      this.end = varint(bytes, this.end + 1, port)
    }
    const length = this.end - at - 3
    if (length < 126) {
      bytes[at] = length + 2
      bytes[at + 2] = length
      return
    }
    // Not ASCII: rare enough to be written again with longer lengths.
    const body = Buffer.from(bytes.subarray(at + 3, this.end))
    this.end = at - (tag < 128 ? 1 : 2)
    const start = this.#begin(tag)
    this.#bytes(10, body)
    this.#finish(start)
  }

  #pipe(tag: number, path: string): void {
    const start = this.#begin(tag)
    const pipe = this.#begin(18)
    this.#text(10, path)
    this.#finish(pipe)
    this.#finish(start)
  }

  /** `envoy://<listener>/<endpoint>`; the listener may hold slashes no more than an endpoint. */
  #internal(tag: number, text: string): void {
    const name = text.slice('envoy://'.length)
    const slash = name.indexOf('/')
    const start = this.#begin(tag)
    const internal = this.#begin(26)
    this.#text(10, slash < 0 ? name : name.slice(0, slash))
    if (slash >= 0 && slash + 1 < name.length) this.#text(18, name.slice(slash + 1))
    this.#finish(internal)
    this.#finish(start)
  }

  #number(tag: number, value: number): void {
    this.reserve(16)
    const p = this.#tag(tag)
    this.end = varint(this.bytes, p, value)
  }

  /** `UInt32Value`. */
  #wrapped(tag: number, value: number): void {
    this.reserve(16)
    const p = this.#tag(tag)
    this.bytes[p + 1] = 8
    this.end = varint(this.bytes, p + 2, value)
    this.bytes[p] = this.end - p - 1
  }

  /** Writes a tag; returns the position after it. Room is there. */
  #tag(tag: number): number {
    const { bytes } = this
    let p = this.end
    if (tag < 128) bytes[p++] = tag
    else p = varint(bytes, p, tag)
    return p
  }

  /** Begins a message; returns where its content begins. */
  #begin(tag: number): number {
    this.reserve(16)
    this.end = this.#tag(tag) + 2
    return this.end
  }

  /** Ends the message whose content began at `start`. */
  #finish(start: number): void {
    this.end = this.#lengthAt(start - 2, this.end - start)
  }

  /** The length of what stands from `p + 2` on; returns its end. */
  #lengthAt(p: number, length: number): number {
    const { bytes } = this
    if (length < 16_384) {
      bytes[p] = (length & 127) | 128
      bytes[p + 1] = length >> 7
      return p + 2 + length
    }
    this.end = p + 2 + length
    this.reserve(16)
    this.bytes.copyWithin(p + 4, p + 2, p + 2 + length)
    this.bytes[p] = (length & 127) | 128
    this.bytes[p + 1] = ((length >> 7) & 127) | 128
    this.bytes[p + 2] = ((length >> 14) & 127) | 128
    this.bytes[p + 3] = length >> 21
    return p + 4 + length
  }
}

/** What the decoder reads past an entry, see `als/decode-source.ts`. */
const SLACK = 32
/** Texts below this length are copied by hand, and have a length of one byte. */
const SHORT = 32
/** Characters of one text; the decoder cuts at half of that, and counts it. */
const TEXT_MAX = 16_384
/** Entries written of one map: more than the decoder takes, so that it counts what it leaves out. */
const PAIRS_MAX = 512
const PARTIES_MAX = 8192
const SLASH = 47
const BRACKET = 91
const COLON = 58

/** Port at the end of `text`, −1 when that is not one. */
function portOf(text: string, from: number): number {
  const { length } = text
  if (from >= length || length - from > 5) return -1
  let port = 0
  for (let k = from; k < length; k++) {
    const digit = text.charCodeAt(k) - 48
    if (digit < 0 || digit > 9) return -1
    port = port * 10 + digit
  }
  return port
}

/** Writes a whole number from 0 to 2^53, what is larger as that; returns the position after it. */
function varint(bytes: Uint8Array, p: number, value: number): number {
  let rest = Math.min(value, Number.MAX_SAFE_INTEGER)
  if (rest > 0x7fffffff) {
    for (; rest > 0x7fffffff; rest = Math.floor(rest / 128)) bytes[p++] = (rest % 128) | 128
  }
  let low = rest | 0
  for (; low > 127; low >>>= 7) bytes[p++] = (low & 127) | 128
  bytes[p++] = low
  return p
}
