import type { Origin } from '../../model/batch.ts'
import type { BatchBuilder } from '../../model/batch-builder.ts'
import { viewOf } from '../../model/heap.ts'
import { ROW_TABLES, type RowTable } from '../../model/schema.ts'
import type { Redaction } from '../../pipeline/redact.ts'
import { ROW_ADDED, ROW_EXHAUSTED, ROW_FULL, ROW_MALFORMED, SLACK } from './decode-source.ts'
import { createRowFunction, type RowFunction, type RowState, TABLES } from './row-function.ts'
import { readVarint, skipField, type Wide } from './wire.ts'

/**
 * Decoder of `envoy.service.accesslog.v3.StreamAccessLogsMessage`: wire bytes straight into columns, no object per row.
 *
 *     let result = decoder.decode(bytes, start, end, stream, receivedMs)
 *     while (result.full !== null) {
 *       flush(result.full)          // seal, hand on and reset that builder
 *       result = decoder.decode(bytes, start, end, stream, receivedMs, result.resume)
 *     }
 */
export interface AlsDecoder {
  /**
   * Decodes one message (without its gRPC prefix): `bytes[start … end − 1]`. Never throws for bad input. The result is
   * one object, reused by every call; its counts are of this call alone. When a builder is full the decoder stops
   * before the entry that does not fit; called again with `from`, it goes on there: no entry lost, none doubled.
   */
  decode(
    bytes: Uint8Array,
    start: number,
    end: number,
    stream: AlsStreamState,
    receivedMs: number,
    from?: number,
  ): DecodeResult
}

/** What the decoder keeps per gRPC stream. `origin` is null until the first message with an identifier. */
export interface AlsStreamState {
  origin: Origin | null
}

export interface AlsDecoderOptions {
  readonly builders: Readonly<Record<RowTable, BatchBuilder>>
  readonly redaction: Redaction
  readonly limits?: Partial<AlsLimits>
  /** The serialized `Identifier` of a message, before its entries are decoded. Never throws. */
  readonly onIdentifier: (bytes: Uint8Array, start: number, end: number, stream: AlsStreamState) => Origin
}

export interface AlsLimits {
  /** A longer message is refused whole. The gRPC layer refuses it earlier. */
  readonly messageBytesMax: number
  /** Longer strings are cut at a character, and counted. */
  readonly stringBytesMax: number
  /** Entries of one map of one row; what comes after is left out, and counted. */
  readonly mapEntriesMax: number
  /** Nesting of `google.protobuf.Struct`; what lies deeper is left out, and counted. */
  readonly structDepthMax: number
}

export const ALS_LIMITS: AlsLimits = {
  messageBytesMax: 16 << 20,
  stringBytesMax: 8192,
  mapEntriesMax: 128,
  structDepthMax: 32,
}

export type RejectReason =
  /** Not protobuf: the entry (or what follows, when framing is lost) cannot be read. */
  | 'malformed'
  /** Entries before any identifier of their stream. */
  | 'no_identifier'
  | 'message_too_large'
  /** One entry alone is more than an empty builder holds. */
  | 'entry_too_large'

export interface DecodeResult {
  /** Rows added to each builder by this call. */
  requests: number
  attempts: number
  progress: number
  connections: number
  /** Entries refused; at least 1 where their number cannot be known. */
  rejected: number
  /** Reason and place (bytes after the start of the message) of the first one refused. */
  reason: RejectReason | null
  offset: number
  /** Strings cut, map entries and nested values left out because of limits. */
  cut: number
  /** Rows without a usable start time: they end when they arrived. */
  untimed: number
  /** The builder that must be sealed and reset before going on; null when the message is done. */
  full: RowTable | null
  /** Where in `bytes` to go on (`from` of the next call); −1 when the message is done. */
  resume: number
}

/** Field numbers of StreamAccessLogsMessage as tags, and of `log_entry` in both lists. */
const IDENTIFIER = 10
const HTTP_LOGS = 18
const TCP_LOGS = 26
const LOG_ENTRY = 10
const COMMON_PROPERTIES = 10
const REQUESTS = 0
const CONNECTIONS = 3

export function createAlsDecoder(options: AlsDecoderOptions): AlsDecoder {
  return new Decoder(options)
}

class Decoder implements AlsDecoder {
  readonly #options: AlsDecoderOptions
  readonly #limits: AlsLimits
  readonly #builders: readonly BatchBuilder[]
  readonly #rows: readonly RowFunction[]
  readonly #state: RowState = {
    msLow: 0,
    msHigh: 0,
    seconds: 0,
    nanos: 0,
    untimed: 0,
    grpcHeader: -1,
    grpcTrailer: -1,
    downstreamPeer: 0,
    upstreamPeer: 0,
    downstreamRank: 0,
    upstreamRank: 0,
    flags: 0,
    answered: 0,
    traced: 0,
    spanned: 0,
  }
  readonly #wide: Wide = { value: 0, signed: 0, int: 0 }
  readonly #result: DecodeResult = {
    requests: 0,
    attempts: 0,
    progress: 0,
    connections: 0,
    rejected: 0,
    reason: null,
    offset: 0,
    cut: 0,
    untimed: 0,
    full: null,
    resume: -1,
  }
  /** The bytes of the last call, with their view: a view costs as much as an entry. */
  #bytes: Uint8Array = new Uint8Array(0)
  #view = viewOf(this.#bytes)
  #messageStart = 0
  /** Entries that end too near to the end of their buffer are decoded here. */
  #scratch = Buffer.alloc(16_384)
  #scratchView = viewOf(this.#scratch)
  /** Code of the stream in each builder, once an entry of this call needed it; −2 before. */
  readonly #streamCodes = new Int32Array(ROW_TABLES.length)
  readonly #added = new Int32Array(ROW_TABLES.length)

  constructor(options: AlsDecoderOptions) {
    this.#options = options
    this.#limits = { ...ALS_LIMITS, ...options.limits }
    this.#builders = ROW_TABLES.map((table) => options.builders[table])
    this.#rows = this.#builders.map(({ columns }, table) =>
      createRowFunction({ columns, table, redaction: options.redaction, limits: this.#limits, state: this.#state }),
    )
  }

  decode(
    bytes: Uint8Array,
    start: number,
    end: number,
    stream: AlsStreamState,
    receivedMs: number,
    from = -1,
  ): DecodeResult {
    const result = this.#result
    result.rejected = 0
    result.reason = null
    result.offset = 0
    result.full = null
    result.resume = -1
    this.#added.fill(0)
    this.#streamCodes.fill(-2)
    this.#messageStart = start
    if (bytes !== this.#bytes) {
      this.#bytes = bytes
      this.#view = viewOf(bytes)
    }
    this.#setTime(receivedMs)
    if (end - start > this.#limits.messageBytesMax) this.#reject('message_too_large', start)
    else if (end > bytes.length) this.#reject('malformed', start)
    else {
      // The identifier belongs to the whole message, wherever it stands in it.
      if (from < 0) this.#identify(bytes, start, end, stream)
      this.#message(bytes, start, end, stream, from)
    }
    return this.#finished(result)
  }

  #setTime(receivedMs: number): void {
    const state = this.#state
    state.msHigh = Math.floor(receivedMs / 2 ** 32)
    state.msLow = receivedMs - state.msHigh * 2 ** 32
    state.seconds = Math.floor(receivedMs / 1000)
    state.nanos = Math.floor((receivedMs - state.seconds * 1000) * 1e6)
    state.untimed = 0
  }

  #finished(result: DecodeResult): DecodeResult {
    result.requests = this.#added[0]!
    result.attempts = this.#added[1]!
    result.progress = this.#added[2]!
    result.connections = this.#added[3]!
    result.untimed = this.#state.untimed
    result.cut = 0
    for (const { columns } of this.#builders) {
      result.cut += columns.room.cut
      columns.room.cut = 0
    }
    return result
  }

  #reject(reason: RejectReason, at: number, entries = 1): void {
    const result = this.#result
    if (result.reason === null) {
      result.reason = reason
      result.offset = at - this.#messageStart
    }
    result.rejected += entries
  }

  #identify(bytes: Uint8Array, start: number, end: number, stream: AlsStreamState): void {
    const wide = this.#wide
    let p = start
    while (p < end) {
      p = readVarint(bytes, p, wide)
      if (p < 0 || p >= end || wide.value > 0xffffffff) return
      const tag = wide.value | 0
      const at = p
      p = skipField(bytes, p, end, tag, wide)
      if (p < 0) return
      if (tag === IDENTIFIER) stream.origin = this.#options.onIdentifier(bytes, readVarint(bytes, at, wide), p, stream)
    }
  }

  #message(bytes: Uint8Array, start: number, end: number, stream: AlsStreamState, from: number): void {
    const wide = this.#wide
    let p = start
    while (p < end) {
      const at = p
      p = readVarint(bytes, p, wide)
      const known = p > 0 && p < end && wide.value <= 0xffffffff
      const tag = wide.value | 0
      const after = known ? skipField(bytes, p, end, tag, wide) : -1
      if (known && (tag === HTTP_LOGS || tag === TCP_LOGS)) {
        p = readVarint(bytes, p, wide)
        // A list that claims more than there is: its complete entries are good all the same.
        const listEnd = after < 0 ? end : after
        const more = p > 0 && from < listEnd
        if (more && !this.#list(bytes, Math.max(p, from), listEnd, stream, tag === TCP_LOGS)) return
      }
      if (after < 0) {
        this.#reject('malformed', at)
        return
      }
      p = after
    }
  }

  /** False when decoding must stop: a builder is full, or the rest cannot be read. */
  #list(bytes: Uint8Array, start: number, end: number, stream: AlsStreamState, isTcp: boolean): boolean {
    const wide = this.#wide
    let p = start
    while (p < end) {
      const at = p
      if (bytes[p] === LOG_ENTRY) p++
      else {
        p = readVarint(bytes, p, wide)
        if (p < 0 || p >= end || wide.value > 0xffffffff) return this.#broken(at)
        if (wide.value !== LOG_ENTRY) {
          p = skipField(bytes, p, end, wide.value | 0, wide)
          if (p < 0) return this.#broken(at)
          continue
        }
      }
      p = readVarint(bytes, p, wide)
      if (p < 0) return this.#broken(at)
      const to = p + wide.int
      if (to > end) return this.#broken(at)
      if (stream.origin === null) this.#reject('no_identifier', at)
      else if (!this.#usual(bytes, p, to, isTcp) && !this.#entry(bytes, at, p, to, stream.origin, isTcp)) return false
      p = to
    }
    return true
  }

  #broken(at: number): false {
    this.#reject('malformed', at)
    return false
  }

  /** Adds an entry of the usual kind: all is well with it, and its stream is known. False when it is not one. */
  #usual(bytes: Uint8Array, start: number, end: number, isTcp: boolean): boolean {
    const table = guessTable(bytes, start, end, isTcp)
    const code = this.#streamCodes[table]!
    if (code < 0 || end + SLACK > bytes.length) return false
    const status = this.#rows[table]!(bytes, this.#view, start, end, code, isTcp)
    if (status === ROW_ADDED) {
      this.#added[table]!++
      return true
    }
    if (status !== ROW_FULL) {
      const { columns } = this.#builders[table]!
      columns.undo()
      columns.room.exhausted = false
    }
    return false
  }

  /** The entry whose field begins at `at`. False when a builder is full and the entry must come again. */
  #entry(bytes: Uint8Array, at: number, start: number, end: number, origin: Origin, isTcp: boolean): boolean {
    let view = this.#view
    let table = guessTable(bytes, start, end, isTcp)
    if (end + SLACK > bytes.length) {
      const length = end - start
      if (length + SLACK > this.#scratch.length) {
        this.#scratch = Buffer.alloc(2 * (length + SLACK))
        this.#scratchView = viewOf(this.#scratch)
      }
      this.#scratch.set(bytes.subarray(start, end), 0)
      bytes = this.#scratch
      view = this.#scratchView
      start = 0
      end = length
    }
    for (let guesses = 0; ; guesses++) {
      const { columns } = this.#builders[table]!
      let code = this.#streamCodes[table]!
      if (code < 0) {
        code = columns.streamCode(origin)
        if (code < 0) {
          if (columns.rows > 0) return this.#full(table, at)
          columns.reset()
          code = columns.streamCode(origin)
        }
        this.#streamCodes[table] = code
      }
      const status = this.#rows[table]!(bytes, view, start, end, code, isTcp)
      if (status === ROW_ADDED) {
        this.#added[table]!++
        return true
      }
      if (status === ROW_FULL) return this.#full(table, at)
      columns.undo()
      if (status === ROW_EXHAUSTED) {
        if (columns.rows > 0) return this.#full(table, at)
        // Alone it is too much for an empty builder, which must be empty again for the next one.
        columns.reset()
        this.#streamCodes[table] = -2
        this.#reject('entry_too_large', at)
        return true
      }
      columns.room.exhausted = false
      if (status === ROW_MALFORMED || guesses > 0) {
        this.#reject('malformed', at)
        return true
      }
      table = status - 1
    }
  }

  #full(table: number, at: number): false {
    const { columns } = this.#builders[table]!
    columns.limit = columns.rows
    this.#result.full = ROW_TABLES[table]!
    this.#result.resume = at
    return false
  }
}

/**
 * The table of an entry, from the last field of its `common_properties`: Envoy writes `access_log_type` (33) last. The
 * row function knows for sure, and says so when this was wrong.
 */
function guessTable(bytes: Uint8Array, start: number, end: number, isTcp: boolean): number {
  const byDefault = isTcp ? CONNECTIONS : REQUESTS
  if (end - start < 6 || bytes[start] !== COMMON_PROPERTIES) return byDefault
  let p = start + 1
  let length = bytes[p++]!
  if (length > 127) length = (length & 127) | (bytes[p++]! << 7)
  const last = p + length - 3
  if (last < p || last + 3 > end || bytes[last] !== 0x88 || bytes[last + 1] !== 0x02) return byDefault
  const type = bytes[last + 2]!
  return type === 0 ? byDefault : TABLES[Math.min(type, 15)]!
}
