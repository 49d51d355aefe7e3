import { isUtf8 } from 'node:buffer'
import { randomFillSync } from 'node:crypto'
import type { DictionaryView } from './batch.ts'
import { copyBytes, cutLength, isShortAscii, type Room, viewOf, wellFormed, writeVarint } from './heap.ts'

/** Words of a slot: hash, id + 1 (0: free), length, offset, four words of the text. 32 bytes, half a cache line. */
const SLOT = 8
/** Codes have 16 bits and 0 is the empty string. */
const CODES_MAX = 65_536
/**
 * Slots looked at before a text counts as not fitting: with half of the slots free, chance alone does not get there.
 * It bounds what texts made to collide can cost.
 */
const PROBES_MAX = 128
/** Share of one entry in `Room.dictionaryBytes` beside its text: two slots and its place in the tables. */
const ENTRY_BYTES = 80

/** Hashes differ from process to process, so that nobody can prepare texts that collide. */
const [M0, M1, M2, M3] = randomFillSync(new Int32Array(4)).map((word) => word | 1) as unknown as [
  number,
  number,
  number,
  number,
]

/** A buffer of texts up to this size is kept whatever a batch needed of it. */
const KEEP_BYTES = 16 << 10

/** Called once for every new entry; the result is kept with it (`act`). `code` is its code. */
export type Classify = (text: string, code: number) => number

export interface DictionaryOptions {
  readonly room: Room
  /** Longer texts are cut at a character. */
  readonly textBytesMax: number
  readonly classify?: Classify
  /** Keys are kept as they are: no cutting, and need not be text. For bytes that are not written to the store. */
  readonly raw?: boolean
}

/**
 * Byte strings → codes, for one batch. No JavaScript string is made for a value that was seen before.
 *
 * `keys` holds, for every code in order, a varint length and the bytes: the key list of a Native LowCardinality column
 * as it stands. Code 0 is the empty string.
 */
export class Dictionary implements DictionaryView {
  count = 1
  /** End of `keys`. */
  end = 1
  keys: Buffer
  view: DataView
  /** Of each code: where its text is in `keys`, its length, and what `classify` said. */
  offsets: Int32Array
  lengths: Int32Array
  act: Int32Array
  slots: Int32Array
  mask: number
  /** The code found last by `internLast`, and where its text is; a length of −1: none. */
  last = 0
  lastOffset = 0
  lastLength = -1
  readonly room: Room
  /** Asked once for every new entry. Set before the first one. */
  classify: Classify | null
  /** Slot of each code, to take entries back. */
  #slotOf: Int32Array
  readonly #textBytesMax: number
  readonly #raw: boolean

  constructor(options: DictionaryOptions) {
    this.room = options.room
    this.classify = options.classify ?? null
    this.#raw = options.raw === true
    this.#textBytesMax = options.textBytesMax
    this.keys = Buffer.alloc(1024)
    this.view = viewOf(this.keys)
    const slots = 64
    this.slots = new Int32Array(SLOT * slots)
    this.mask = slots - 1
    this.offsets = new Int32Array(slots / 2)
    this.lengths = new Int32Array(slots / 2)
    this.act = new Int32Array(slots / 2)
    this.#slotOf = new Int32Array(slots / 2)
  }

  text(code: number): string {
    return this.keys.toString('utf8', this.offsets[code], this.offsets[code]! + this.lengths[code]!)
  }

  /** The bytes of a code; valid until the next new entry. */
  bytes(code: number): Uint8Array {
    return this.keys.subarray(this.offsets[code], this.offsets[code]! + this.lengths[code]!)
  }

  keyList(): Uint8Array {
    return this.keys.subarray(0, this.end)
  }

  reset(): void {
    this.lastLength = -1
    if (this.count === 1) return
    const used = this.count
    const usedBytes = this.end
    this.count = 1
    this.end = 1
    // A batch that needed much less than there is gives the rest back.
    if (this.mask >= 2048 && used < this.mask >> 4) this.#resize((this.mask + 1) >> 2)
    else this.slots.fill(0)
    if (this.keys.length > KEEP_BYTES && usedBytes < this.keys.length >> 3) {
      this.#setKeys(Buffer.alloc(this.keys.length >> 1))
    }
  }

  /**
   * Takes back the newest entry. Slots are freed newest first, and the slots of older entries never depend
   * on newer ones, because `#resize` puts them back in the order of their codes.
   */
  undo(): void {
    this.lastLength = -1
    const code = --this.count
    const slot = this.#slotOf[code]!
    this.slots.fill(0, slot, slot + SLOT)
    this.end = this.offsets[code]! - varintBytes(this.lengths[code]!)
    this.room.dictionaryBytes += this.lengths[code]! + ENTRY_BYTES
  }

  /** A new entry. `intern` calls it when it did not find the text. Returns 0 and marks the room when it is full. */
  add(
    source: Uint8Array,
    view: DataView,
    start: number,
    length: number,
    hash: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
  ): number {
    if (!this.#raw) {
      if (length > this.#textBytesMax) {
        this.room.cut++
        return intern(this, source, view, start, cutLength(source, start, this.#textBytesMax))
      }
      if (!isShortAscii(source, view, start, length) && !isUtf8(source.subarray(start, start + length))) {
        const valid = wellFormed(source, start, length)
        return intern(this, valid, viewOf(valid), 0, Math.min(valid.length, cutLength(valid, 0, this.#textBytesMax)))
      }
    }
    const code = this.count
    const room = this.room
    if (code >= CODES_MAX || room.dictionaryBytes < length + ENTRY_BYTES) {
      room.exhausted = true
      return 0
    }
    if (code >= this.offsets.length) this.#resize((this.mask + 1) * 2)
    if (this.end + length + 5 > this.keys.length) this.#growKeys(this.end + length + 5)
    const slots = this.slots
    const mask = this.mask
    let at = (hash & mask) * SLOT
    for (let probes = 0; slots[at + 1] !== 0; probes++) {
      if (probes === PROBES_MAX) {
        room.exhausted = true
        return 0
      }
      at = (at + SLOT) & (mask * SLOT + SLOT - 1)
    }
    room.dictionaryBytes -= length + ENTRY_BYTES
    room.added[room.addedCount++] = this
    const from = writeVarint(this.keys, this.end, length)
    copyBytes(this.keys, this.view, from, source, view, start, length)
    this.offsets[code] = from
    this.lengths[code] = length
    this.end = from + length
    this.count = code + 1
    slots[at] = hash
    slots[at + 1] = code + 1
    slots[at + 2] = length
    slots[at + 3] = from
    slots[at + 4] = w0
    slots[at + 5] = w1
    slots[at + 6] = w2
    slots[at + 7] = w3
    this.#slotOf[code] = at
    this.act[code] = this.classify === null ? 0 : this.classify(this.text(code), code)
    return code
  }

  #growKeys(needed: number): void {
    let size = this.keys.length
    while (size < needed) size *= 2
    const keys = Buffer.alloc(size)
    this.keys.copy(keys, 0, 0, this.end)
    this.#setKeys(keys)
  }

  #setKeys(keys: Buffer): void {
    this.keys = keys
    this.view = viewOf(keys)
  }

  #resize(slots: number): void {
    const old = this.slots
    const oldSlotOf = this.#slotOf
    const entries = slots / 2
    this.slots = new Int32Array(SLOT * slots)
    this.mask = slots - 1
    this.offsets = resized(this.offsets, entries)
    this.lengths = resized(this.lengths, entries)
    this.act = resized(this.act, entries)
    this.#slotOf = new Int32Array(entries)
    for (let code = 1; code < Math.min(this.count, entries); code++) {
      const from = oldSlotOf[code]!
      let at = (old[from]! & this.mask) * SLOT
      while (this.slots[at + 1] !== 0) at = (at + SLOT) & (this.mask * SLOT + SLOT - 1)
      this.slots.set(old.subarray(from, from + SLOT), at)
      this.#slotOf[code] = at
    }
  }
}

/**
 * The code of `source[start … start + length − 1]`. Texts up to 16 bytes are compared by four words inside the slot:
 * one cache line, no loop. Longer ones are hashed in two lanes and compared by words.
 */
export function intern(d: Dictionary, source: Uint8Array, view: DataView, start: number, length: number): number {
  let hash: number
  let w0 = 0
  let w1 = 0
  let w2 = 0
  let w3 = 0
  if (length <= 16) {
    if (length >= 8) {
      w0 = view.getInt32(start, true)
      w1 = view.getInt32(start + 4, true)
      w2 = view.getInt32(start + length - 8, true)
      w3 = view.getInt32(start + length - 4, true)
      hash = ((Math.imul(w0, M0) + Math.imul(w1, M1)) ^ (Math.imul(w2, M2) + Math.imul(w3, M3))) + length
    } else if (length >= 4) {
      w0 = view.getInt32(start, true)
      w1 = view.getInt32(start + length - 4, true)
      hash = (Math.imul(w0, M0) ^ Math.imul(w1, M1)) + length
    } else {
      if (length === 0) return 0
      w0 = source[start]! | (source[start + (length >> 1)]! << 8) | (source[start + length - 1]! << 16)
      hash = Math.imul(w0, M0) + length
    }
  } else {
    let h1 = length
    let h2 = M3
    let at = start
    const last = start + length - 4
    for (; at + 4 <= last; at += 8) {
      h1 = Math.imul(h1 ^ view.getInt32(at, true), M0)
      h1 ^= h1 >>> 15
      h2 = Math.imul(h2 ^ view.getInt32(at + 4, true), M1)
      h2 ^= h2 >>> 13
    }
    if (at < last) h1 = Math.imul(h1 ^ view.getInt32(at, true), M0)
    hash = Math.imul(h1 ^ h2 ^ view.getInt32(last, true), M2)
  }
  hash ^= hash >>> 15
  hash = Math.imul(hash, 0x2c1b3c6d)
  hash ^= hash >>> 12
  const slots = d.slots
  const mask = d.mask
  const wrap = mask * SLOT + SLOT - 1
  for (let at = (hash & mask) * SLOT, probes = 0; ; at = (at + SLOT) & wrap, probes++) {
    const found = slots[at + 1]!
    if (found === 0 || probes > PROBES_MAX) return d.add(source, view, start, length, hash, w0, w1, w2, w3)
    if (
      slots[at] === hash &&
      slots[at + 2] === length &&
      slots[at + 4] === w0 &&
      slots[at + 5] === w1 &&
      slots[at + 6] === w2 &&
      slots[at + 7] === w3 &&
      (length <= 16 || same(d, slots[at + 3]!, source, view, start, length))
    ) {
      return found - 1
    }
  }
}

/** `intern` for columns that hardly change from row to row: tries the value found last first. */
export function internLast(d: Dictionary, source: Uint8Array, view: DataView, start: number, length: number): number {
  if (length === d.lastLength && same(d, d.lastOffset, source, view, start, length)) return d.last
  const code = intern(d, source, view, start, length)
  d.last = code
  d.lastOffset = d.offsets[code]!
  d.lastLength = code === 0 ? -1 : d.lengths[code]!
  return code
}

function same(
  d: Dictionary,
  offset: number,
  source: Uint8Array,
  view: DataView,
  start: number,
  length: number,
): boolean {
  if (length < 4) {
    const keys = d.keys
    for (let i = 0; i < length; i++) if (keys[offset + i] !== source[start + i]) return false
    return true
  }
  const keys = d.view
  const last = length - 4
  for (let i = 0; i < last; i += 4) {
    if (keys.getInt32(offset + i, true) !== view.getInt32(start + i, true)) return false
  }
  return keys.getInt32(offset + last, true) === view.getInt32(start + last, true)
}

function resized(array: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(length)
  copy.set(array.length > length ? array.subarray(0, length) : array)
  return copy
}

function varintBytes(value: number): number {
  let bytes = 1
  for (let rest = value; rest > 127; rest >>>= 7) bytes++
  return bytes
}

/** Interns a JavaScript string: for what is not on the hot path. */
export function internText(d: Dictionary, text: string): number {
  const bytes = Buffer.from(text)
  return intern(d, bytes, viewOf(bytes), 0, bytes.length)
}

/** A fixed list of texts that codes index: for enumerations. The first one must be '' where code 0 is to be empty. */
export class FixedDictionary implements DictionaryView {
  readonly texts: readonly string[]
  readonly #keyList: Uint8Array

  constructor(texts: readonly string[]) {
    this.texts = texts
    this.#keyList = keyListOf(texts)
  }

  get count(): number {
    return this.texts.length
  }

  text(code: number): string {
    return this.texts[code]!
  }

  keyList(): Uint8Array {
    return this.#keyList
  }
}

/** Key list of a Native LowCardinality column. Equal texts may stand in it more than once. */
export function keyListOf(texts: readonly string[]): Uint8Array {
  let size = 0
  for (const text of texts) size += 5 + 3 * text.length
  const bytes = Buffer.allocUnsafeSlow(size)
  let at = 0
  for (const text of texts) {
    const length = Buffer.byteLength(text)
    at = writeVarint(bytes, at, length)
    at += bytes.write(text, at)
  }
  return bytes.subarray(0, at)
}
