import type { Origin } from '../../model/batch.ts'
import type { RowTable } from '../../model/schema.ts'
import type { AlsDecoder, AlsStreamState, DecodeResult } from '../als/decode.ts'
import { EntryEncoder } from './encode.ts'
import { AccessEntry, type CommitResult, type EntryWriter } from './entry.ts'

export interface EntryWriterOptions {
  readonly decoder: AlsDecoder
  /** Hands on the builder of a table that is full. False: there is no room, and the gate is closed now. */
  readonly flush: (table: RowTable) => boolean
  /** What became of the entries of a node, after every message. */
  readonly onDecoded?: (nodeId: string, decoded: number, rejected: number) => void
  /** Wall clock, ms. */
  readonly clock?: () => number
  /** Bytes of encoded entries that wait while the gate is closed, before entries are refused. Default 16 MiB. */
  readonly pendingBytesMax?: number
}

/** Encoded entries are decoded when so many bytes have come together: small enough to still lie in the caches. */
const CHUNK_BYTES = 128 << 10
const PENDING_BYTES_MAX = 16 << 20
/** A longer entry is refused; its texts alone are bounded, their number is the sender's. */
const ENTRY_BYTES_MAX = 1 << 20
/** Bytes of the length of a list, which is written when the list is complete. */
const LIST_LENGTH = 5
const HTTP_LOGS = 18
const TCP_LOGS = 26

export function createEntryWriter(options: EntryWriterOptions): EntryWriter {
  return new Writer(options)
}

/** A message of entries of one origin: `bytes[start … end − 1]` of the encoder. */
interface Segment {
  origin: Origin | null
  start: number
  end: number
  entries: number
}

class Writer implements EntryWriter {
  readonly entry = new AccessEntry()
  readonly #options: EntryWriterOptions
  readonly #encoder = new EntryEncoder(2 * CHUNK_BYTES)
  /** Messages that wait, oldest first; the objects are used again. */
  readonly #segments: Segment[] = []
  #count = 0
  /** The first message that is not decoded, and where to go on in it; −1: at its start. */
  #next = 0
  #resume = -1
  /** The list that is being written: where its content begins, and of which kind. −1: none. */
  #listStart = -1
  #listTcp = false
  #pending = 0
  #added = 0
  #taken = 0
  #blocked = false
  readonly #stream: AlsStreamState = { origin: null }
  #done = result()
  #last = result()

  constructor(options: EntryWriterOptions) {
    this.#options = options
  }

  get pending(): number {
    return this.#pending
  }

  get added(): number {
    return this.#added
  }

  get taken(): number {
    return this.#taken
  }

  add(origin: Origin): boolean {
    const { entry } = this
    const encoder = this.#encoder
    if (encoder.end > CHUNK_BYTES && !this.#makeRoom()) {
      entry.reset()
      this.#reject('no_room', 1)
      return false
    }
    this.#open(origin, entry.tcp)
    const before = encoder.end
    encoder.add(entry)
    entry.reset()
    if (encoder.end - before > ENTRY_BYTES_MAX) {
      encoder.end = before
      this.#reject('entry_too_large', 1)
      return true
    }
    this.#segments[this.#count - 1]!.entries++
    this.#pending++
    this.#added++
    return true
  }

  commit(): Readonly<CommitResult> {
    this.#drain()
    const done = this.#done
    this.#done = this.#last
    this.#last = done
    clear(this.#done)
    done.pending = this.#pending
    return done
  }

  /** False: the gate is closed, and no more may wait. */
  #makeRoom(): boolean {
    if (!this.#blocked) return this.#drain() || this.#encoder.end < this.#bytesMax
    return this.#encoder.end < this.#bytesMax || this.#drain()
  }

  get #bytesMax(): number {
    return this.#options.pendingBytesMax ?? PENDING_BYTES_MAX
  }

  /** Makes sure that a list of the right kind and origin is open. */
  #open(origin: Origin, tcp: boolean): void {
    const encoder = this.#encoder
    const last = this.#count > this.#next ? this.#segments[this.#count - 1]! : null
    const same = last !== null && last.origin === origin && this.#listStart >= 0
    if (same && this.#listTcp === tcp) return
    this.#closeList()
    if (!same) {
      let segment = this.#segments[this.#count]
      if (segment === undefined) {
        segment = { origin: null, start: 0, end: 0, entries: 0 }
        this.#segments.push(segment)
      }
      segment.origin = origin
      segment.start = encoder.end
      segment.entries = 0
      this.#count++
    }
    encoder.reserve(1 + LIST_LENGTH)
    encoder.bytes[encoder.end] = tcp ? TCP_LOGS : HTTP_LOGS
    encoder.end += 1 + LIST_LENGTH
    this.#listStart = encoder.end
    this.#listTcp = tcp
  }

  #closeList(): void {
    if (this.#listStart < 0) return
    const { bytes, end } = this.#encoder
    const length = end - this.#listStart
    let p = this.#listStart - LIST_LENGTH
    for (let shift = 0; shift < 28; shift += 7) bytes[p++] = ((length >>> shift) & 127) | 128
    bytes[p] = length >>> 28
    this.#segments[this.#count - 1]!.end = end
    this.#listStart = -1
  }

  /** Decodes what waits. True: all of it. */
  #drain(): boolean {
    this.#closeList()
    const encoder = this.#encoder
    encoder.reserve(0)
    while (this.#next < this.#count) {
      if (!this.#decode(this.#segments[this.#next]!)) {
        this.#blocked = true
        return false
      }
      this.#segments[this.#next]!.origin = null
      this.#next++
    }
    if (this.#segments.length > SEGMENTS_KEPT) this.#segments.length = SEGMENTS_KEPT
    this.#blocked = false
    this.#count = 0
    this.#next = 0
    this.#pending = 0
    this.#taken = this.#added
    encoder.reset()
    return true
  }

  #decode(segment: Segment): boolean {
    const { decoder, flush, onDecoded, clock = Date.now } = this.#options
    const { bytes } = this.#encoder
    this.#stream.origin = segment.origin
    let from = this.#resume
    this.#resume = -1
    let rows = 0
    let rejected = 0
    for (;;) {
      const decoded = decoder.decode(bytes, segment.start, segment.end, this.#stream, clock(), from)
      const made = this.#tally(decoded)
      rows += made
      rejected += decoded.rejected
      this.#taken += made + decoded.rejected
      if (decoded.full === null) break
      from = decoded.resume
      if (flush(decoded.full)) continue
      this.#resume = from
      break
    }
    this.#pending -= rows + rejected
    onDecoded?.(segment.origin!.nodeId, rows, rejected)
    return this.#resume < 0
  }

  #tally(decoded: DecodeResult): number {
    const done = this.#done
    const rows = decoded.requests + decoded.attempts + decoded.progress + decoded.connections
    done.requests += decoded.requests
    done.attempts += decoded.attempts
    done.progress += decoded.progress
    done.connections += decoded.connections
    done.added += rows
    done.cut += decoded.cut
    done.untimed += decoded.untimed
    if (decoded.rejected > 0) this.#reject(decoded.reason ?? 'malformed', decoded.rejected)
    return rows
  }

  #reject(reason: string, entries: number): void {
    const { reasons } = this.#done
    this.#done.rejected += entries
    reasons.set(reason, (reasons.get(reason) ?? 0) + entries)
  }
}

/** Objects for messages that are kept for the next ones. */
const SEGMENTS_KEPT = 4096

function result(): CommitResult {
  return {
    requests: 0,
    attempts: 0,
    progress: 0,
    connections: 0,
    added: 0,
    rejected: 0,
    reasons: new Map(),
    cut: 0,
    untimed: 0,
    pending: 0,
  }
}

function clear(done: CommitResult): void {
  done.requests = 0
  done.attempts = 0
  done.progress = 0
  done.connections = 0
  done.added = 0
  done.rejected = 0
  done.reasons.clear()
  done.cut = 0
  done.untimed = 0
  done.pending = 0
}
