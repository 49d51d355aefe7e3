import { Dictionary, intern, internLast } from '../../model/dictionary.ts'
import { cutLength, type Heap, type Room, viewOf } from '../../model/heap.ts'
import type { MapColumn } from '../../model/map-column.ts'
import { classify, classifyUntold, DETAILS_FLAGS, DETAILS_UPSTREAM } from '../../model/outcome.ts'
import { JSON_BYTES_MAX, type RowColumns, SPARSE } from '../../model/row-columns.ts'
import { HEADER_ADDRESS, HEADER_SECRET, HEADER_URL, PATH_RULE_ROOM, type Redaction } from '../../pipeline/redact.ts'
import type { AlsLimits } from './decode.ts'
import { REQUEST_HEADERS, RESPONSE_HEADERS, RESPONSE_TRAILERS, rowSource } from './decode-source.ts'
import { hexInto, nibble, sameBytes, uuidInto } from './ids.ts'
import { createJsonReader } from './struct-json.ts'
import {
  type AddressText,
  append,
  eachField,
  readAddress,
  readDuration,
  readLength,
  readTimestamp,
  readVarint,
  readWrapped,
  skipField,
  type Wide,
} from './wire.ts'

/** Adds one entry, `bytes[start … end − 1]`, as a row; what it returns is told in `decode-source.ts`. */
export type RowFunction = (
  bytes: Uint8Array,
  view: DataView,
  start: number,
  end: number,
  stream: number,
  isTcp: boolean,
) => number

export interface RowFunctionOptions {
  readonly columns: RowColumns
  /** Index in `ROW_TABLES`. */
  readonly table: number
  readonly redaction: Redaction
  readonly limits: AlsLimits
  readonly state: RowState
}

/** What a row is told, and what its maps tell it. One object for each decoder, always of this shape. */
export interface RowState {
  /** When the message arrived: Unix ms as two words, and the same as seconds and ns. */
  msLow: number
  msHigh: number
  seconds: number
  nanos: number
  /** Rows without a usable start time; they end when they arrived. */
  untimed: number
  grpcHeader: number
  grpcTrailer: number
  /** Raw codes of the peers of this row, and how good a key they came under. */
  downstreamPeer: number
  upstreamPeer: number
  downstreamRank: number
  upstreamRank: number
  /** Flags that `OwnFields` of this row say, and whether the upstream answered: 0 no, 1 yes, 2 cannot be told. */
  flags: number
  answered: number
  /** Whether this row has a trace id, a span id. */
  traced: number
  spanned: number
}

/** Tables by AccessLogType: 0 requests, 1 attempts, 2 progress; the last one is for types of later Envoys. */
export const TABLES = Uint8Array.of(0, 2, 2, 0, 2, 2, 0, 2, 2, 1, 2, 2, 2, 0, 2, 2)

/** What header names mean to the decoder, after the `HEADER_…` of redaction. */
const TRACEPARENT = 4
const B3_TRACE_ID = 5
const B3_SPAN_ID = 6
const GRPC_STATUS = 7
const KNOWN_HEADERS: Readonly<Record<string, number>> = {
  traceparent: TRACEPARENT,
  'x-b3-traceid': B3_TRACE_ID,
  'x-b3-spanid': B3_SPAN_ID,
  'grpc-status': GRPC_STATUS,
}

/**
 * Filter state keys that hold a peer, best first (Istio writes some of them together). The low bit tells the side:
 * 0 downstream, 1 upstream.
 */
const PEER_KEYS: Readonly<Record<string, number>> = {
  downstream_peer: 12,
  upstream_peer: 13,
  'wasm.downstream_peer': 8,
  'wasm.upstream_peer': 9,
  downstream_peer_id: 6,
  upstream_peer_id: 7,
  'wasm.downstream_peer_id': 4,
  'wasm.upstream_peer_id': 5,
}

const index = (name: (typeof SPARSE)[number]): number => SPARSE.indexOf(name)
const TOUCHED_TRACE = index('trace_uuid')
const TOUCHED_SPAN = index('span_number')
const TOUCHED_TRACE_FLAGS = index('trace_flags')
const TOUCHED_REASON = index('unauthorized_reason')
const TOUCHED_FLAGS_TEXT = index('flags_text')

const STAR = Buffer.from('*')
const STAR_VIEW = viewOf(STAR)
const COMMA = Buffer.from(',')
/** Serialized metadata and their texts that are kept, together. */
const METADATA_CACHE_BYTES = 512 << 10

/** Compiles the row function of one builder. Also tells its dictionaries what to find out about their entries. */
export function createRowFunction(options: RowFunctionOptions): RowFunction {
  const bindings = bindingsOf(options)
  const { source, known } = rowSource({
    table: options.table,
    maskAddresses: options.redaction.maskAddresses,
    bindings: Object.keys(bindings),
  })
  return new Function('B', source)({ ...bindings, known }) as RowFunction
}

function bindingsOf({ columns, redaction, limits, state }: RowFunctionOptions) {
  const room: Room = columns.room
  const { stringBytesMax } = limits
  const wide: Wide = { value: 0, signed: 0, int: 0 }
  const start = { seconds: 0, nanos: 0 }
  const scratch = Buffer.alloc(2 * stringBytesMax + PATH_RULE_ROOM)
  const scratchView = viewOf(scratch)
  const other: AddressText = { bytes: Buffer.alloc(stringBytesMax), length: 0, port: 0, cut: false }
  const otherView = viewOf(other.bytes)
  const joined: AddressText = { bytes: Buffer.alloc(stringBytesMax), length: 0, port: 0, cut: false }
  const joinedView = viewOf(joined.bytes)
  const metadata = new MetadataTexts()
  const json = createJsonReader({
    depthMax: limits.structDepthMax,
    secret: (name) => redaction.header(name) === HEADER_SECRET,
  })
  let joinedMetadata = Buffer.alloc(0)

  const headerAction = (name: string): number => redaction.header(name) || (KNOWN_HEADERS[name.toLowerCase()] ?? 0)
  for (const map of Object.values(columns.maps)) map.keys.classify = headerAction
  columns.filterState.keys.classify = (key) => (Object.hasOwn(PEER_KEYS, key) ? PEER_KEYS[key]! : 0)

  const cutTo = (bytes: Uint8Array, from: number, length: number): number => {
    if (length <= stringBytesMax) return length
    room.cut++
    return cutLength(bytes, from, stringBytesMax)
  }

  return {
    C: columns,
    S: state,
    TABLES,
    MAP_ENTRIES_MAX: limits.mapEntriesMax,
    TEXT_MAX: stringBytesMax,
    DETAILS_FLAGS,
    DETAILS_UPSTREAM,
    PLAIN_SUCCESS: classify(200, 0, -1, DETAILS_UPSTREAM, true, true, true),
    TRACEPARENT,
    wide,
    start,
    other,
    intern,
    internLast,
    classify,
    classifyUntold,
    cutLength,
    readVarint,
    readDuration,
    readWrapped,
    skipField,
    uuidInto,
    sameBytes,

    startTime(bytes: Uint8Array, from: number, to: number, seconds: number, nanos: number): boolean {
      start.seconds = seconds
      start.nanos = nanos
      return readTimestamp(bytes, from, to, start, wide)
    },

    otherAddress(dictionary: Dictionary, bytes: Uint8Array, from: number, to: number, masked: boolean): number {
      if (!readAddress(bytes, from, to, other, wide)) return -1
      if (other.cut) room.cut++
      if (!masked) return intern(dictionary, other.bytes, otherView, 0, other.length)
      return intern(dictionary, scratch, scratchView, 0, redaction.addresses(other.bytes, 0, other.length, scratch))
    },

    internMasked(dictionary: Dictionary, bytes: Uint8Array, _view: DataView, from: number, length: number): number {
      return intern(
        dictionary,
        scratch,
        scratchView,
        0,
        redaction.addresses(bytes, from, cutTo(bytes, from, length), scratch),
      )
    },

    internUrl(dictionary: Dictionary, bytes: Uint8Array, view: DataView, from: number, length: number): number {
      if (redaction.plainUrlsPass && !hasQuery(bytes, view, from, length)) {
        return internLast(dictionary, bytes, view, from, length)
      }
      return intern(
        dictionary,
        scratch,
        scratchView,
        0,
        redaction.url(bytes, from, cutTo(bytes, from, length), scratch),
      )
    },

    putUrl(heap: Heap, row: number, bytes: Uint8Array, view: DataView, from: number, length: number): void {
      const taken = length > stringBytesMax ? cutTo(bytes, from, length) : length
      if (redaction.plainUrlsPass && heap.putPlainUrl(row, bytes, view, from, taken)) return
      heap.put(row, scratch, scratchView, 0, redaction.url(bytes, from, taken, scratch))
    },

    putText(heap: Heap, row: number, bytes: Uint8Array, view: DataView, from: number, length: number): void {
      heap.put(row, bytes, view, from, cutTo(bytes, from, length))
    },

    /** A flag that has no bit, or UAEX with its reason. Returns the position after it. */
    otherFlag(bytes: Uint8Array, p: number, end: number, tag: number, row: number): number {
      if (tag === 106) {
        const from = readLength(bytes, p, end, wide)
        if (from < 0) return -1
        const to = from + wide.int
        const reason = readWrapped(bytes, from, to, columns.numbers.unauthorized_reason[row]!, wide)
        if (reason < 0) return -1
        columns.numbers.unauthorized_reason[row] = reason > 255 ? 0 : reason
        if (reason > 0) columns.touched[TOUCHED_REASON] = 1
        return to
      }
      if ((tag & 7) !== 0 || tag >>> 3 <= 28) return skipField(bytes, p, end, tag, wide)
      const next = readVarint(bytes, p, wide)
      if (next < 0 || next > end || wide.value === 0) return next > end ? -1 : next
      // A flag of a later Envoy: its name is not known here, its number is.
      const { flags_text } = columns.dictionaries
      const codes = columns.codes.flags_text
      joined.length = 0
      if (codes[row] !== 0) {
        const before = flags_text.bytes(codes[row]!)
        append(joined, before, 0, before.length)
        append(joined, COMMA, 0, 1)
      }
      const name = Buffer.from(`field_${tag >>> 3}`)
      append(joined, name, 0, name.length)
      codes[row] = intern(flags_text, joined.bytes, joinedView, 0, joined.length)
      columns.touched[TOUCHED_FLAGS_TEXT] = 1
      return next
    },

    /**
     * The SAN at `bytes[p … q − 1]` and those that follow it, joined with commas after the ones of the row so far.
     * Returns the position after them.
     */
    joinSans(
      dictionary: Dictionary,
      codes: Uint16Array,
      bytes: Uint8Array,
      p: number,
      q: number,
      end: number,
      row: number,
    ): number {
      joined.length = 0
      joined.cut = false
      if (codes[row] !== 0) {
        const before = dictionary.bytes(codes[row]!)
        append(joined, before, 0, before.length)
      }
      for (;;) {
        let from = 0
        let length = 0
        const read = eachField(bytes, p, q, wide, (tag, at) => {
          if (tag !== 10 && tag !== 18) return skipField(bytes, at, q, tag, wide)
          from = readLength(bytes, at, q, wide)
          length = wide.int
          return from < 0 ? -1 : from + length
        })
        if (read < 0) return -1
        if (length > 0) {
          if (joined.length > 0) append(joined, COMMA, 0, 1)
          append(joined, bytes, from, length)
        }
        p = q
        if (p >= end || bytes[p] !== 10) break
        p = readLength(bytes, p + 1, end, wide)
        if (p < 0) return -1
        q = p + wide.int
      }
      if (joined.cut) room.cut++
      codes[row] = intern(dictionary, joined.bytes, joinedView, 0, joined.length)
      return p
    },

    /** A header whose value needs more than being kept. True when that is done. */
    special(
      map: MapColumn,
      key: number,
      action: number,
      bytes: Uint8Array,
      view: DataView,
      from: number,
      length: number,
      row: number,
      which: number,
    ): boolean {
      switch (action) {
        case HEADER_SECRET:
          map.put(key, STAR, STAR_VIEW, 0, 1)
          return true
        case HEADER_URL:
          map.put(key, scratch, scratchView, 0, redaction.url(bytes, from, cutTo(bytes, from, length), scratch))
          return true
        case HEADER_ADDRESS:
          map.put(key, scratch, scratchView, 0, redaction.addresses(bytes, from, cutTo(bytes, from, length), scratch))
          return true
        case GRPC_STATUS: {
          const status = grpcStatus(bytes, from, length)
          if (which === RESPONSE_TRAILERS) state.grpcTrailer = status
          else if (which === RESPONSE_HEADERS) state.grpcHeader = status
          return false
        }
        case B3_TRACE_ID:
          if (which !== REQUEST_HEADERS || (length !== 32 && length !== 16)) return false
          return length === 32
            ? setTrace(columns, state, view, from, from + 16, row)
            : setTrace(columns, state, view, -1, from, row)
        case B3_SPAN_ID:
          return which === REQUEST_HEADERS && length === 16 && setSpan(columns, state, view, from, row)
      }
      return false
    },

    traceparent: (bytes: Uint8Array, view: DataView, from: number, length: number, row: number): boolean =>
      traceparent(columns, state, bytes, view, from, length, row),

    /** Code (in `filterState.values`) of the JSON of a filter state object, found out once per distinct object. */
    filterStateValue(raw: number): number {
      const { filterStateRaw, filterState } = columns
      const text = Buffer.from(json.any(filterStateRaw.bytes(raw)))
      noteCuts()
      const kept = text.length <= JSON_BYTES_MAX
      if (!kept) room.cut++
      const value = kept ? intern(filterState.values!, text, viewOf(text), 0, text.length) : 0
      filterStateRaw.act[raw] = value
      return value
    },

    seePeer(seen: RowState, peer: number, raw: number): void {
      if ((peer & 1) === 0) {
        if (peer <= seen.downstreamRank) return
        seen.downstreamRank = peer
        seen.downstreamPeer = raw
      } else {
        if (peer <= seen.upstreamRank) return
        seen.upstreamRank = peer
        seen.upstreamPeer = raw
      }
    },

    /** Metadata that came in two parts: messages that stand one after the other are one message. Returns the length. */
    joinMetadata(bytes: Uint8Array, at: number, length: number, nextAt: number, nextLength: number): number {
      const before = at < 0 ? joinedMetadata.subarray(0, length) : bytes.subarray(at, at + length)
      joinedMetadata = Buffer.concat([before, bytes.subarray(nextAt, nextAt + nextLength)])
      return joinedMetadata.length
    },

    /** `at` < 0: the joined parts. False when it is not protobuf. */
    putMetadata(heap: Heap, row: number, source: Uint8Array, at: number, size: number): boolean {
      const serialized = at < 0 ? joinedMetadata : source.subarray(at, at + size)
      const length = metadata.find(serialized, (part) => json.metadata(part))
      if (length < 0) return false
      noteCuts()
      if (length > JSON_BYTES_MAX) room.cut++
      // `{}` says nothing.
      else if (length > 2) heap.put(row, metadata.bytes, metadata.view, metadata.offset, length)
      return true
    },
  }

  function noteCuts(): void {
    room.cut += json.cut
    json.cut = 0
  }
}

/**
 * JSON texts by the serialized metadata they come from, both in dictionaries of their own. Starts again when one is full.
 */
class MetadataTexts {
  /** The text found last: its bytes and where they begin. */
  bytes: Uint8Array = new Uint8Array(0)
  view: DataView = viewOf(this.bytes)
  offset = 0
  readonly #room: Room = { dictionaryBytes: METADATA_CACHE_BYTES, exhausted: false, cut: 0, added: [], addedCount: 0 }
  /** `act` of a key is the code of its text, or −1 when it is not protobuf. */
  readonly #keys = new Dictionary({ room: this.#room, textBytesMax: METADATA_CACHE_BYTES, raw: true })
  readonly #texts = new Dictionary({ room: this.#room, textBytesMax: METADATA_CACHE_BYTES, raw: true })

  /** Length of the text, −1 when `serialized` is not protobuf. */
  find(serialized: Uint8Array, read: (bytes: Uint8Array) => string | null): number {
    const key = intern(this.#keys, serialized, viewOf(serialized), 0, serialized.length)
    const known = this.#keys.act[key]!
    if (key !== 0 && known !== 0) return known < 0 ? -1 : this.#at(known)
    const json = read(serialized)
    if (json === null) {
      this.#keys.act[key] = -1
      this.#clearIfFull()
      return -1
    }
    const text = Buffer.from(json)
    const code = intern(this.#texts, text, viewOf(text), 0, text.length)
    if (!this.#clearIfFull()) {
      this.#keys.act[key] = code
      return this.#at(code)
    }
    this.bytes = text
    this.view = viewOf(text)
    this.offset = 0
    return text.length
  }

  #at(code: number): number {
    this.bytes = this.#texts.keys
    this.view = this.#texts.view
    this.offset = this.#texts.offsets[code]!
    return this.#texts.lengths[code]!
  }

  #clearIfFull(): boolean {
    this.#room.addedCount = 0
    if (!this.#room.exhausted) return false
    this.#keys.reset()
    this.#texts.reset()
    this.#room.exhausted = false
    this.#room.dictionaryBytes = METADATA_CACHE_BYTES
    return true
  }
}

/** Whether there is a `?` or a `#`; four bytes at a time, by the usual test for a zero byte in a word. */
function hasQuery(bytes: Uint8Array, view: DataView, from: number, length: number): boolean {
  const end = from + length
  let at = from
  for (; at + 4 <= end; at += 4) {
    const word = view.getInt32(at, true)
    const question = word ^ 0x3f3f3f3f
    const hash = word ^ 0x23232323
    if ((((question - 0x01010101) & ~question) | ((hash - 0x01010101) & ~hash)) & 0x80808080) return true
  }
  for (; at < end; at++) if (bytes[at] === 63 || bytes[at] === 35) return true
  return false
}

/** A decimal number up to 255, else −1. */
function grpcStatus(bytes: Uint8Array, from: number, length: number): number {
  if (length === 0 || length > 3) return -1
  let status = 0
  for (let i = from; i < from + length; i++) {
    const digit = bytes[i]! - 48
    if (digit < 0 || digit > 9) return -1
    status = status * 10 + digit
  }
  return status > 255 ? -1 : status
}

/** Ids that are compared with those the row has already. */
const ids = new Int32Array(4)

/**
 * W3C `traceparent`, version 00: `00-<32 hex>-<16 hex>-<2 hex>`. True when trace id, span id and flags say all of it, so
 * that the header need not be kept.
 */
function traceparent(
  columns: RowColumns,
  state: RowState,
  bytes: Uint8Array,
  view: DataView,
  from: number,
  length: number,
  row: number,
): boolean {
  if (length !== 55 || bytes[from] !== 48 || bytes[from + 1] !== 48) return false
  if (bytes[from + 2] !== 45 || bytes[from + 35] !== 45 || bytes[from + 52] !== 45) return false
  const high = nibble(bytes[from + 53]!)
  const low = nibble(bytes[from + 54]!)
  if (high < 0 || low < 0) return false
  if ((state.traced | state.spanned) === 0) {
    const { traceUuid, spanNumber, touched } = columns
    const at = 4 * row
    if (!hexInto(view, from + 3, traceUuid, at) || !hexInto(view, from + 19, traceUuid, at + 2)) {
      traceUuid.fill(0, at, at + 4)
      return false
    }
    if ((traceUuid[at]! | traceUuid[at + 1]! | traceUuid[at + 2]! | traceUuid[at + 3]!) === 0) return false
    state.traced = 1
    touched[TOUCHED_TRACE] = 1
    if (!hexInto(view, from + 36, spanNumber, 2 * row)) return false
    if ((spanNumber[2 * row]! | spanNumber[2 * row + 1]!) === 0) return false
    state.spanned = 1
    touched[TOUCHED_SPAN] = 1
    touched[TOUCHED_TRACE_FLAGS] = 1
    columns.numbers.trace_flags[row] = (high << 4) | low
    return true
  }
  // Both or none: a header whose span is another one than that of b3 stays in the map.
  if (!setTrace(columns, state, view, from + 3, from + 19, row)) return false
  if (!setSpan(columns, state, view, from + 36, row)) return false
  columns.numbers.trace_flags[row] = (high << 4) | low
  columns.touched[TOUCHED_TRACE_FLAGS] = 1
  return true
}

/** Halves of a trace id in hexadecimal; `high` < 0: it has 64 bits. False when the row has another one already. */
function setTrace(
  columns: RowColumns,
  state: RowState,
  view: DataView,
  high: number,
  low: number,
  row: number,
): boolean {
  const again = state.traced === 1
  const out = again ? ids : columns.traceUuid
  const at = again ? 0 : 4 * row
  out[at] = 0
  out[at + 1] = 0
  const valid = (high < 0 || hexInto(view, high, out, at)) && hexInto(view, low, out, at + 2)
  if (again) {
    const trace = columns.traceUuid
    for (let k = 0; k < 4; k++) if (trace[4 * row + k] !== ids[k]) return false
    return valid
  }
  if (!valid || (out[at]! | out[at + 1]! | out[at + 2]! | out[at + 3]!) === 0) {
    out.fill(0, at, at + 4)
    return false
  }
  columns.touched[TOUCHED_TRACE] = 1
  state.traced = 1
  return true
}

function setSpan(columns: RowColumns, state: RowState, view: DataView, from: number, row: number): boolean {
  const span = columns.spanNumber
  const at = 2 * row
  if (state.spanned === 1) {
    return hexInto(view, from, ids, 0) && span[at] === ids[0] && span[at + 1] === ids[1]
  }
  if (!hexInto(view, from, span, at) || (span[at]! | span[at + 1]!) === 0) {
    span.fill(0, at, at + 2)
    return false
  }
  columns.touched[TOUCHED_SPAN] = 1
  state.spanned = 1
  return true
}
