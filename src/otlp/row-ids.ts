import { combine, finish } from '../lib/hash.ts'
import type { Dictionary, NativeBlockColumns } from '../pipeline/segment-reader.ts'

/**
 * Trace and span ids of rows. They depend on the row alone, so a segment that is sent twice brings the same spans twice,
 * and the spans and the log record of a row find each other.
 *
 *   trace   the trace id of the request's headers, else its request id (all proxies it passed have the same), else its
 *           stream id, else a hash of the row
 *   server  a hash of the row. Not the span id of the headers: that one is the caller's, or the proxy's own span when the
 *           proxy traces too
 *   parent  the span id of the headers; none where there was none
 *   client  a hash of the server span's id
 */
export class RowIds {
  /** The trace id, four words, highest first. */
  readonly trace = new Uint32Array(4)
  serverHigh = 0
  serverLow = 0
  clientHigh = 0
  clientLow = 0
  parentHigh = 0
  parentLow = 0
  readonly #block: NativeBlockColumns
  readonly #traceUuid: Uint32Array | null
  readonly #requestUuid: Uint32Array | null
  readonly #streamUuid: Uint32Array | null
  readonly #texts: readonly string[]
  readonly #spanNumber: Uint32Array | null
  readonly #end: Uint32Array
  readonly #duration: ArrayLike<number>
  readonly #node: Dictionary
  readonly #nodeHashes: Int32Array

  constructor(block: NativeBlockColumns) {
    this.#block = block
    this.#traceUuid = block.has('trace_uuid') ? block.words('trace_uuid') : null
    this.#requestUuid = block.has('request_uuid') ? block.words('request_uuid') : null
    this.#streamUuid = block.has('stream_uuid') ? block.words('stream_uuid') : null
    this.#texts = ['request_text', 'stream_text'].filter((name) => block.has(name))
    this.#spanNumber = block.has('span_number') ? wordsOf(block, 'span_number') : null
    this.#end = wordsOf(block, 'end_time')
    this.#duration = block.numbers('duration_ns')
    this.#node = block.dictionary('node_id')
    this.#nodeHashes = Int32Array.from(this.#node.texts, textHash)
  }

  /** Whether the trace id of the row is that of its headers. */
  traced(row: number): boolean {
    return this.#traceUuid !== null && isSet(this.#traceUuid, row)
  }

  /** Sets the trace id alone: enough for sampling. */
  readTrace(row: number): void {
    const { trace } = this
    if (take(trace, this.#traceUuid, row)) return
    if (take(trace, this.#requestUuid, row)) return
    for (const name of this.#texts) {
      const text = this.#block.text(name, row)
      if (text === '') continue
      for (let k = 0; k < 4; k++) trace[k] = finish(textHash(text) ^ Math.imul(k + 1, 0x9e3779b1))
      // Two hashes of the text, so that 64 bits of it count.
      trace[1] = finish(trace[1]! ^ textHash(`${text}.`))
      return
    }
    if (take(trace, this.#streamUuid, row)) return
    this.#hashRow(row)
    trace[0] = this.serverHigh
    trace[1] = this.serverLow
    trace[2] = finish(this.serverHigh ^ 0x5bd1e995)
    trace[3] = finish(this.serverLow ^ 0x1b873593) | 1
  }

  read(row: number): void {
    this.readTrace(row)
    this.#hashRow(row)
    this.clientHigh = finish(this.serverHigh ^ 0x63_6c_69_65) >>> 0
    this.clientLow = (finish(this.serverLow ^ this.clientHigh) | 1) >>> 0
    this.parentHigh = this.#spanNumber === null ? 0 : this.#spanNumber[2 * row + 1]!
    this.parentLow = this.#spanNumber === null ? 0 : this.#spanNumber[2 * row]!
  }

  #hashRow(row: number): void {
    const end = this.#end
    const duration = this.#duration[row]!
    let high = combine(end[2 * row]!, end[2 * row + 1]!, duration | 0, this.#nodeHashes[this.#node.codes[row]!]!)
    let low = finish(high ^ Math.floor(duration / 2 ** 32))
    for (const words of [this.#streamUuid, this.#requestUuid, this.#traceUuid]) {
      if (words === null) continue
      const at = 4 * row
      high = combine(high, words[at]!, words[at + 1]!, words[at + 2]!)
      low = combine(low, words[at + 3]!, words[at + 2]!, words[at + 1]!)
    }
    if (this.#spanNumber !== null) low = combine(low, this.#spanNumber[2 * row]!, this.#spanNumber[2 * row + 1]!, high)
    for (const name of this.#texts) low = combine(low, textHash(this.#block.text(name, row)), 0, 1)
    this.serverHigh = high >>> 0
    // An id of zero is none.
    this.serverLow = (low | 1) >>> 0
  }
}

/** Low and high words of a column of 64 bits. */
export function wordsOf(block: NativeBlockColumns, name: string): Uint32Array {
  const values = block.bigints(name)
  return new Uint32Array(values.buffer, values.byteOffset, 2 * values.length)
}

/** The words of a UUID column stand lowest first in each half. */
function take(trace: Uint32Array, words: Uint32Array | null, row: number): boolean {
  if (words === null || !isSet(words, row)) return false
  const at = 4 * row
  trace[0] = words[at + 1]!
  trace[1] = words[at]!
  trace[2] = words[at + 3]!
  trace[3] = words[at + 2]!
  return true
}

function isSet(words: Uint32Array, row: number): boolean {
  const at = 4 * row
  return (words[at]! | words[at + 1]! | words[at + 2]! | words[at + 3]!) !== 0
}

/** FNV-1a over UTF-16 units. */
export function textHash(text: string): number {
  let hash = 0x811c9dc5
  for (let k = 0; k < text.length; k++) hash = Math.imul(hash ^ text.charCodeAt(k), 0x01000193)
  return hash
}
