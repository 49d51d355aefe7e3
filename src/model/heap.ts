import { isUtf8 } from 'node:buffer'

/**
 * What the variable-sized columns of one builder may hold together, and whether that was too little. A decoder looks at
 * `exhausted` once per row: such a row is taken back, and goes into the next batch.
 */
export interface Room {
  /** Bytes that dictionaries may still take, slots included. */
  dictionaryBytes: number
  exhausted: boolean
  /** Strings cut because they were too long. */
  cut: number
  /**
   * Dictionaries that got an entry since the row began, one element per entry, so that a bad row can be undone. The first
   * `addedCount` are valid: an array that is emptied for each row would be made anew for each.
   */
  readonly added: { undo(): void }[]
  addedCount: number
}

/** A buffer up to this size is kept whatever a batch needed of it. */
const KEEP_BYTES = 64 << 10
/** Copies are made by four bytes up to this length: a call of `set` costs more than a short loop. */
const SHORT = 256

/**
 * The bytes of a Native `String` column: for every row a varint length and the text. Rows without a value are a zero
 * byte each and are filled in when a later row has one, so a column that nobody uses costs nothing.
 */
export class Heap {
  bytes: Buffer
  view: DataView
  end = 0
  /** Rows that `bytes` covers. */
  rows = 0
  /** State before the last `put`. */
  #endBefore = 0
  #rowsBefore = 0
  readonly #bytesMax: number
  readonly #room: Room

  constructor(room: Room, bytes: number, bytesMax: number) {
    this.#room = room
    this.#bytesMax = bytesMax
    this.bytes = Buffer.allocUnsafeSlow(bytes)
    this.view = viewOf(this.bytes)
  }

  reset(): void {
    // A batch that needed much less than there is gives half of it back.
    if (this.bytes.length > KEEP_BYTES && this.end < this.bytes.length >> 3) {
      this.bytes = Buffer.allocUnsafeSlow(this.bytes.length >> 1)
      this.view = viewOf(this.bytes)
    }
    this.end = 0
    this.rows = 0
  }

  /** Takes back the text of `row`, if it has one; `put` must not have been called twice since. */
  undo(row: number): void {
    if (this.rows <= row) return
    this.end = this.#endBefore
    this.rows = this.#rowsBefore
  }

  /** Takes back everything after a mark. */
  truncate(end: number, rows: number): void {
    this.end = end
    this.rows = rows
  }

  /** Empty texts for the rows before `row`. */
  fill(row: number): void {
    const missing = row - this.rows
    if (missing <= 0) return
    // One byte a row: never refused, so that a block can always be completed.
    this.#fits(missing, this.#bytesMax + missing)
    this.bytes.fill(0, this.end, this.end + missing)
    this.end += missing
    this.rows = row
  }

  /**
   * The text of row `row`, after every row before it. Not UTF-8: bytes that are none become U+FFFD, because the answer
   * of a query is JSON.
   */
  put(row: number, source: Uint8Array, view: DataView, start: number, length: number): void {
    this.#endBefore = this.end
    this.#rowsBefore = this.rows
    if (this.rows < row) this.fill(row)
    if (this.end + length + 5 > this.bytes.length && !this.#fits(length + 5)) return
    const bytes = this.bytes
    const from = this.end
    let at = from
    if (length < 128) bytes[at++] = length
    else at = writeVarint(bytes, at, length)
    let high = 0
    if (length < 4) {
      for (let i = 0; i < length; i++) high |= bytes[at + i] = source[start + i]!
      high &= 0x80
    } else if (length <= SHORT) {
      const target = this.view
      const last = length - 4
      for (let i = 0; i < last; i += 4) {
        const word = view.getInt32(start + i, true)
        high |= word
        target.setInt32(at + i, word, true)
      }
      const word = view.getInt32(start + last, true)
      high |= word
      target.setInt32(at + last, word, true)
      high &= 0x80808080
    } else {
      bytes.set(source.subarray(start, start + length), at)
      high = 1
    }
    if (high !== 0 && !isUtf8(source.subarray(start, start + length))) {
      const valid = wellFormed(source, start, length)
      if (!this.#fits(valid.length + 5)) return
      at = writeVarint(this.bytes, from, valid.length)
      this.bytes.set(valid, at)
      length = valid.length
    }
    this.end = at + length
    this.rows = row + 1
  }

  /**
   * `put` for a URL that is kept as it is when it has neither `?` nor `#`. When it has one nothing is put, and the
   * answer is false. One pass over the bytes: the two characters are looked for by the usual test for a zero byte.
   */
  putPlainUrl(row: number, source: Uint8Array, view: DataView, start: number, length: number): boolean {
    if (length < 4 || length > SHORT || this.end + length + row - this.rows + 5 > this.bytes.length) {
      for (let i = start; i < start + length; i++) if (source[i] === 63 || source[i] === 35) return false
      this.put(row, source, view, start, length)
      return true
    }
    this.#endBefore = this.end
    this.#rowsBefore = this.rows
    if (this.rows < row) this.fill(row)
    const bytes = this.bytes
    let at = this.end
    if (length < 128) bytes[at++] = length
    else at = writeVarint(bytes, at, length)
    const target = this.view
    const last = length - 4
    let high = 0
    let found = 0
    for (let i = 0; ; i += 4) {
      if (i > last) i = last
      const word = view.getInt32(start + i, true)
      target.setInt32(at + i, word, true)
      const question = word ^ 0x3f3f3f3f
      const hash = word ^ 0x23232323
      found |= ((question - 0x01010101) & ~question) | ((hash - 0x01010101) & ~hash)
      high |= word
      if (i === last) break
    }
    if ((found & 0x80808080) !== 0) {
      this.truncate(this.#endBefore, this.#rowsBefore)
      return false
    }
    if ((high & 0x80808080) !== 0) {
      this.truncate(this.#endBefore, this.#rowsBefore)
      this.put(row, source, view, start, length)
      return true
    }
    this.end = at + length
    this.rows = row + 1
    return true
  }

  #fits(more: number, bytesMax = this.#bytesMax): boolean {
    const needed = this.end + more
    if (needed <= this.bytes.length) return true
    if (needed > bytesMax) {
      this.#room.exhausted = true
      return false
    }
    let size = this.bytes.length
    while (size < needed) size *= 2
    const bytes = Buffer.allocUnsafeSlow(Math.min(size, bytesMax))
    this.bytes.copy(bytes, 0, 0, this.end)
    this.bytes = bytes
    this.view = viewOf(bytes)
    return true
  }
}

export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  while (value > 127) {
    bytes[at++] = (value & 127) | 128
    value >>>= 7
  }
  bytes[at++] = value
  return at
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** Whether all bytes are below 128; false as well where there are many of them: then `isUtf8` is quick. */
export function isShortAscii(bytes: Uint8Array, view: DataView, start: number, length: number): boolean {
  let high = 0
  if (length > SHORT) return false
  if (length < 4) {
    for (let i = 0; i < length; i++) high |= bytes[start + i]!
    return (high & 0x80) === 0
  }
  const last = length - 4
  for (let i = 0; i < last; i += 4) high |= view.getInt32(start + i, true)
  return ((high | view.getInt32(start + last, true)) & 0x80808080) === 0
}

/** Copies bytes, four at a time where they are few: a call of `set` costs more than a short loop. */
export function copyBytes(
  target: Uint8Array,
  targetView: DataView,
  at: number,
  source: Uint8Array,
  view: DataView,
  start: number,
  length: number,
): void {
  if (length > SHORT) target.set(source.subarray(start, start + length), at)
  else if (length < 4) for (let i = 0; i < length; i++) target[at + i] = source[start + i]!
  else {
    const last = length - 4
    for (let i = 0; i < last; i += 4) targetView.setInt32(at + i, view.getInt32(start + i, true), true)
    targetView.setInt32(at + last, view.getInt32(start + last, true), true)
  }
}

const decoder = new TextDecoder()
const encoder = new TextEncoder()

/** The same text as valid UTF-8: every maximal bad part becomes U+FFFD, as the Encoding Standard says. */
export function wellFormed(bytes: Uint8Array, start: number, length: number): Uint8Array {
  return encoder.encode(decoder.decode(bytes.subarray(start, start + length)))
}

/** The longest length ≤ `bytesMax` that does not end inside a UTF-8 character. */
export function cutLength(bytes: Uint8Array, start: number, bytesMax: number): number {
  let length = bytesMax
  for (let back = 0; back < 4 && length > 0 && (bytes[start + length]! & 0xc0) === 0x80; back++) length--
  return length
}
