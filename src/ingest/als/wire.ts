import { cutLength } from '../../model/heap.ts'

/**
 * The protobuf wire format where it is not in its usual short form: what the generated decoder leaves to ordinary code.
 * Every function that reads returns the position after what it read, or −1 when that is not protobuf.
 */

/** What `readVarint` read, beside the position it returns. One object for each decoder. */
export interface Wide {
  /** Unsigned; 2^53 − 1 for what is larger. */
  value: number
  /** As a signed 64-bit number, exact between −2^53 and 2^53. */
  signed: number
  /** As a length: cut to 30 bits, so that a sum with a position stays a small integer. */
  int: number
}

const INT_MAX = 0x3fffffff
const TWO_32 = 2 ** 32
/** `google.protobuf.Duration` goes to 10 000 years; what is longer than 31 years is cut, far from Int64's end. */
const NANOS_MAX = 1e18

/** Reads a varint of up to ten bytes. */
export function readVarint(bytes: Uint8Array, p: number, wide: Wide): number {
  let low = 0
  let high = 0
  for (let k = 0; k < 10; k++) {
    const byte = bytes[p++]
    if (byte === undefined) return -1
    const bits = byte & 127
    if (k < 4) low |= bits << (7 * k)
    else if (k === 4) {
      low |= bits << 28
      high |= bits >>> 4
    } else if (k < 9) high |= bits << (7 * k - 32)
    else high |= bits << 31
    if (byte > 127) continue
    wide.value = Math.min((high >>> 0) * TWO_32 + (low >>> 0), Number.MAX_SAFE_INTEGER)
    wide.signed = high * TWO_32 + (low >>> 0)
    wide.int = wide.value > INT_MAX ? INT_MAX : low
    return p
  }
  return -1
}

const DEPTH_MAX = 32

/** Skips the field whose tag `t` was just read. Groups are skipped whole. */
export function skipField(bytes: Uint8Array, p: number, end: number, t: number, wide: Wide, depth = 0): number {
  if (t >>> 3 === 0) return -1
  switch (t & 7) {
    case 0:
      p = readVarint(bytes, p, wide)
      break
    case 1:
      p += 8
      break
    case 2:
      p = readVarint(bytes, p, wide)
      if (p < 0) return -1
      p += wide.int
      break
    case 3:
      return depth < DEPTH_MAX ? skipGroup(bytes, p, end, t, wide, depth + 1) : -1
    case 5:
      p += 4
      break
    default:
      return -1
  }
  return p > end ? -1 : p
}

function skipGroup(bytes: Uint8Array, p: number, end: number, start: number, wide: Wide, depth: number): number {
  while (p < end) {
    p = readVarint(bytes, p, wide)
    if (p < 0 || p > end || wide.value >= TWO_32) return -1
    const t = wide.value | 0
    if ((t & 7) === 4) return t >>> 3 === start >>> 3 ? p : -1
    p = skipField(bytes, p, end, t, wide, depth)
    if (p < 0) return -1
  }
  return -1
}

/**
 * Fields of one message, in any order: calls `field` with each tag and the position after it; `field` returns the
 * position after the value, or −1. Unknown fields are its own to skip.
 */
export function eachField(
  bytes: Uint8Array,
  p: number,
  end: number,
  wide: Wide,
  field: (tag: number, p: number) => number,
): number {
  while (p < end) {
    p = readVarint(bytes, p, wide)
    if (p < 0 || p > end || wide.value >= TWO_32) return -1
    p = field(wide.value | 0, p)
    if (p < 0) return -1
  }
  return p === end ? p : -1
}

/** Length of a delimited field; −1 when it does not fit before `end`. `wide.int` is the length. */
export function readLength(bytes: Uint8Array, p: number, end: number, wide: Wide): number {
  p = readVarint(bytes, p, wide)
  return p < 0 || p + wide.int > end ? -1 : p
}

/**
 * A `google.protobuf.Duration` in any form, merged into the one seen before (`previous` ≥ 0, or −1). Nanoseconds, never
 * negative; −2 when it is not protobuf.
 */
export function readDuration(bytes: Uint8Array, p: number, end: number, previous: number, wide: Wide): number {
  let seconds = previous < 0 ? 0 : Math.floor(previous / 1e9)
  let nanos = previous < 0 ? 0 : previous - seconds * 1e9
  const read = eachField(bytes, p, end, wide, (t, at) => {
    if (t !== 8 && t !== 16) return skipField(bytes, at, end, t, wide)
    const next = readVarint(bytes, at, wide)
    if (next > end) return -1
    if (t === 8) seconds = wide.signed
    else nanos = wide.signed | 0
    return next
  })
  if (read < 0) return -2
  return Math.min(Math.max(seconds * 1e9 + nanos, 0), NANOS_MAX)
}

/** A `google.protobuf.Timestamp` in any form, merged into `out`. False when it is not protobuf. */
export function readTimestamp(
  bytes: Uint8Array,
  p: number,
  end: number,
  out: { seconds: number; nanos: number },
  wide: Wide,
): boolean {
  const read = eachField(bytes, p, end, wide, (t, at) => {
    if (t !== 8 && t !== 16) return skipField(bytes, at, end, t, wide)
    const next = readVarint(bytes, at, wide)
    if (next > end) return -1
    if (t === 8) out.seconds = wide.signed
    else out.nanos = wide.signed | 0
    return next
  })
  const carry = Math.floor(out.nanos / 1e9)
  out.seconds += carry
  out.nanos -= carry * 1e9
  return read >= 0
}

/** A `google.protobuf.UInt32Value` (or any message with a number as field 1), merged into `previous`; −2 when broken. */
export function readWrapped(bytes: Uint8Array, p: number, end: number, previous: number, wide: Wide): number {
  let value = Math.max(previous, 0)
  const read = eachField(bytes, p, end, wide, (t, at) => {
    if (t !== 8) return skipField(bytes, at, end, t, wide)
    const next = readVarint(bytes, at, wide)
    if (next > end) return -1
    value = wide.value % TWO_32
    return next
  })
  return read < 0 ? -2 : value
}

/** An address as text, with its port beside it. */
export interface AddressText {
  /** In `bytes[0 … length − 1]`. */
  bytes: Uint8Array
  length: number
  port: number
  /** Whether something did not fit. */
  cut: boolean
}

const ENVOY_SCHEME = Buffer.from('envoy://')

/**
 * A `config.core.v3.Address` of any kind: `ip` and port, `ip:name` for a named port, the path of a pipe,
 * `envoy://listener/endpoint` for an internal one. False when it is not protobuf.
 */
export function readAddress(bytes: Uint8Array, p: number, end: number, out: AddressText, wide: Wide): boolean {
  out.length = 0
  out.port = 0
  out.cut = false
  const read = eachField(bytes, p, end, wide, (t, at) => {
    if (t !== 10 && t !== 18 && t !== 26) return skipField(bytes, at, end, t, wide)
    const from = readLength(bytes, at, end, wide)
    if (from < 0) return -1
    const to = from + wide.int
    if (t === 10) return readSocketAddress(bytes, from, to, out, wide)
    if (t === 18) return readPipe(bytes, from, to, out, wide)
    return readInternal(bytes, from, to, out, wide)
  })
  return read >= 0
}

function readSocketAddress(bytes: Uint8Array, p: number, end: number, out: AddressText, wide: Wide): number {
  let nameStart = 0
  let nameLength = 0
  const read = eachField(bytes, p, end, wide, (t, at) => {
    if (t === 24) {
      const next = readVarint(bytes, at, wide)
      if (next > end) return -1
      out.port = wide.value > 65_535 ? 0 : wide.int
      nameLength = 0
      return next
    }
    if (t !== 18 && t !== 34) return skipField(bytes, at, end, t, wide)
    const from = readLength(bytes, at, end, wide)
    if (from < 0) return -1
    if (t === 18) setText(out, bytes, from, wide.int)
    else {
      nameStart = from
      nameLength = wide.int
      out.port = 0
    }
    return from + wide.int
  })
  if (read >= 0 && nameLength > 0) {
    append(out, COLON, 0, 1)
    append(out, bytes, nameStart, nameLength)
  }
  return read
}

const COLON = Buffer.from(':')
const SLASH = Buffer.from('/')

function readPipe(bytes: Uint8Array, p: number, end: number, out: AddressText, wide: Wide): number {
  out.port = 0
  out.length = 0
  return eachField(bytes, p, end, wide, (t, at) => {
    if (t !== 10) return skipField(bytes, at, end, t, wide)
    const from = readLength(bytes, at, end, wide)
    if (from < 0) return -1
    setText(out, bytes, from, wide.int)
    return from + wide.int
  })
}

function readInternal(bytes: Uint8Array, p: number, end: number, out: AddressText, wide: Wide): number {
  let nameStart = 0
  let nameLength = 0
  let endpointStart = 0
  let endpointLength = 0
  const read = eachField(bytes, p, end, wide, (t, at) => {
    if (t !== 10 && t !== 18) return skipField(bytes, at, end, t, wide)
    const from = readLength(bytes, at, end, wide)
    if (from < 0) return -1
    if (t === 10) {
      nameStart = from
      nameLength = wide.int
    } else {
      endpointStart = from
      endpointLength = wide.int
    }
    return from + wide.int
  })
  out.port = 0
  setText(out, ENVOY_SCHEME, 0, ENVOY_SCHEME.length)
  append(out, bytes, nameStart, nameLength)
  append(out, SLASH, 0, 1)
  append(out, bytes, endpointStart, endpointLength)
  return read
}

function setText(out: AddressText, bytes: Uint8Array, start: number, length: number): void {
  out.length = 0
  append(out, bytes, start, length)
}

/** What does not fit into `out` is left out. */
export function append(out: AddressText, bytes: Uint8Array, start: number, length: number): void {
  const room = out.bytes.length - out.length
  let taken = length
  if (length > room) {
    taken = cutLength(bytes, start, room)
    out.cut = true
  }
  out.bytes.set(bytes.subarray(start, start + taken), out.length)
  out.length += taken
}
