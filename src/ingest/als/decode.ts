import type { Origin } from '../../model/batch.ts'
import type { BatchBuilder } from '../../model/batch-builder.ts'
import type { RowTable } from '../../model/schema.ts'
import type { Redaction } from '../../pipeline/redact.ts'

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
  /** The builder that must be sealed and reset before going on; null when the message is done. */
  full: RowTable | null
  /** Where to go on (`from` of the next call); −1 when the message is done. */
  resume: number
}
