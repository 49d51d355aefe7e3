import type { Origin } from '../../model/batch.ts'
import type { RowTable } from '../../model/schema.ts'
import type { AlsDecoder, AlsStreamState } from '../als/decode.ts'
import { readVarint, type Wide } from '../als/wire.ts'
import type { OnRejected, RecordDecoder, RecordSource } from './records.ts'

/**
 * Values that are `StreamAccessLogsMessage`, or several of them with a varint length before each (`delimited`), as
 * collectors write what they got. A message without an identifier belongs to the sender of the message before it in the
 * same value, else to `unnamed`.
 *
 * It counts records, not entries: `within` is a place in the value, in bytes, where an entry begins.
 */
export interface AlsRecordsOptions {
  /** Its `onIdentifier` gives origins with the source `kafka`. */
  readonly decoder: AlsDecoder
  readonly readIdentifier: (bytes: Uint8Array, start: number, end: number) => Origin
  readonly unnamed: (topic: string) => Origin
  readonly delimited: boolean
  readonly flush: (table: RowTable) => boolean
  readonly onDecoded: (nodeId: string, decoded: number, rejected: number) => void
  readonly onRejected: OnRejected
  readonly onRows: (rows: number) => void
  readonly clock: () => number
}

const IDENTIFIER = 10

export function createAlsRecords(options: AlsRecordsOptions): RecordDecoder {
  return new AlsRecords(options)
}

class AlsRecords implements RecordDecoder {
  added = 0
  taken = 0
  readonly #options: AlsRecordsOptions
  readonly #stream: AlsStreamState = { origin: null }
  readonly #wide: Wide = { value: 0, signed: 0, int: 0 }
  #value: Buffer | null = null
  #source: RecordSource = { topic: '', partition: 0, offset: 0n }
  /** Where the next message begins, or the length before it. */
  #at = 0
  /** The message being read, and where to go on in it: −1 at its beginning. */
  #start = 0
  #end = 0
  #from = -1

  constructor(options: AlsRecordsOptions) {
    this.#options = options
  }

  add(value: Buffer, source: RecordSource, within: number): void {
    this.added++
    this.#value = value
    this.#source = source
    this.#stream.origin = this.#options.unnamed(source.topic)
    this.#at = 0
    this.#from = -1
    if (!this.#next()) return
    // Messages before the place are done; the one that holds it is gone on with, once it is known whose it is.
    while (this.#end <= within && this.#at < value.length) {
      this.#identify()
      if (!this.#next()) return
    }
    if (within > this.#start) {
      this.#identify()
      this.#from = within
    }
  }

  get due(): boolean {
    return this.#value !== null
  }

  within(): number {
    return this.#from < 0 ? this.#start : this.#from
  }

  commit(): boolean {
    const { decoder, flush, onDecoded, onRows, clock } = this.#options
    while (this.#value !== null) {
      const from = this.#from < 0 ? undefined : this.#from
      const result = decoder.decode(this.#value, this.#start, this.#end, this.#stream, clock(), from)
      const rows = result.requests + result.attempts + result.progress + result.connections
      const nodeId = this.#stream.origin?.nodeId ?? ''
      if (result.rejected > 0) this.#reject(result.reason ?? 'malformed', result.rejected, result.offset)
      onRows(rows)
      onDecoded(nodeId, rows, result.rejected)
      if (result.full !== null) {
        // Set before the flush: the place is noted with the rows.
        this.#from = result.resume
        if (!flush(result.full)) return false
        continue
      }
      this.#from = -1
      if (!this.#next()) break
    }
    return true
  }

  /** Moves to the next message. False: there is none, and the record is done. */
  #next(): boolean {
    const value = this.#value!
    if (this.#at < value.length) {
      const framed = this.#options.delimited
      const begin = framed ? readVarint(value, this.#at, this.#wide) : 0
      const end = framed ? begin + this.#wide.value : value.length
      if (begin >= 0 && end <= value.length) {
        this.#start = begin
        this.#end = end
        this.#at = end
        return true
      }
      this.#reject('malformed_frame', 1, this.#at)
    }
    this.#value = null
    this.taken++
    return false
  }

  /** Reads the identifier of the message, where it begins with one, as a message decoded from its beginning would. */
  #identify(): void {
    const value = this.#value!
    if (value[this.#start] !== IDENTIFIER) return
    const begin = readVarint(value, this.#start + 1, this.#wide)
    const end = begin + this.#wide.value
    if (begin >= 0 && end <= this.#end) this.#stream.origin = this.#options.readIdentifier(value, begin, end)
  }

  #reject(reason: string, count: number, offset: number): void {
    const nodeId = this.#stream.origin?.nodeId ?? ''
    const bytes = this.#value!
    this.#options.onRejected({ reason, count, source: this.#source, nodeId, bytes, offset })
  }
}
