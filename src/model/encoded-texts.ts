import { copyBytes, viewOf, writeVarint } from './heap.ts'

/** Items and bytes of texts that are remembered from batch to batch; one batch may bring more. */
const ITEMS_MAX = 16_384
const BYTES_MAX = 2 << 20

/**
 * Key lists of columns that depend on an object alone (the proxy of a stream, an identity). Batches bring the same
 * objects again and again: their texts are encoded when they are first seen, and copied from then on.
 *
 *   bytes    │ item 0: text of column 0, of column 1, … │ item 1: … │     each text: varint length, UTF-8
 *   starts   where each text begins, and where the last one of an item ends
 */
export class EncodedTexts<Item extends object> {
  readonly #texts: readonly ((item: Item) => string)[]
  /** Index into `#starts` of each item. */
  readonly #places = new Map<Item, number>()
  #starts = new Int32Array(0)
  #bytes = Buffer.alloc(0)
  #view = viewOf(this.#bytes)
  #end = 0
  /** Items of the batch at hand, by code. */
  #batch = new Int32Array(64)
  #count = 0
  /** Key lists of the batch at hand. */
  #lists = Buffer.alloc(0)
  #listsView = viewOf(this.#lists)
  #listsEnd = 0

  /** `texts`: one function for each column. */
  constructor(texts: readonly ((item: Item) => string)[]) {
    this.#texts = texts
  }

  /** Begins a batch. What `keyList` gave before is overwritten. */
  begin(items: readonly Item[]): void {
    if (this.#places.size > ITEMS_MAX || this.#end > BYTES_MAX) this.#clear()
    this.#listsEnd = 0
    this.#count = items.length
    if (this.#batch.length < items.length) this.#batch = new Int32Array(2 * items.length)
    for (let k = 0; k < items.length; k++) {
      const item = items[k]!
      this.#batch[k] = this.#places.get(item) ?? this.#add(item)
    }
  }

  /** Key list of one column, a key for each item of the batch; null when all of them are empty. */
  keyList(column: number): Uint8Array | null {
    const starts = this.#starts
    const batch = this.#batch
    let size = 0
    for (let k = 0; k < this.#count; k++) {
      const place = batch[k]! + column
      size += starts[place + 1]! - starts[place]!
    }
    // A byte each: lengths of nothing.
    if (size === this.#count) return null
    const from = this.#listsEnd
    if (from + size > this.#lists.length) {
      // Lists that were given out stay in the buffer that is left.
      this.#lists = Buffer.allocUnsafeSlow(2 * (from + size))
      this.#listsView = viewOf(this.#lists)
    }
    let at = from
    for (let k = 0; k < this.#count; k++) {
      const place = batch[k]! + column
      const start = starts[place]!
      const length = starts[place + 1]! - start
      copyBytes(this.#lists, this.#listsView, at, this.#bytes, this.#view, start, length)
      at += length
    }
    this.#listsEnd = at
    return this.#lists.subarray(from, at)
  }

  #add(item: Item): number {
    const place = this.#places.size * (this.#texts.length + 1)
    if (place + this.#texts.length >= this.#starts.length) {
      const starts = new Int32Array(Math.max(64 * (this.#texts.length + 1), 2 * this.#starts.length))
      starts.set(this.#starts)
      this.#starts = starts
    }
    this.#places.set(item, place)
    this.#texts.forEach((textOf, column) => {
      const text = textOf(item)
      const length = Buffer.byteLength(text)
      if (this.#end + length + 5 > this.#bytes.length) this.#grow(this.#end + length + 5)
      this.#starts[place + column] = this.#end
      this.#end = writeVarint(this.#bytes, this.#end, length)
      if (length > 0) this.#end += this.#bytes.write(text, this.#end)
    })
    this.#starts[place + this.#texts.length] = this.#end
    return place
  }

  #grow(size: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(4096, 2 * size))
    this.#bytes.copy(larger, 0, 0, this.#end)
    this.#bytes = larger
    this.#view = viewOf(larger)
  }

  #clear(): void {
    this.#places.clear()
    this.#starts = new Int32Array(0)
    this.#bytes = Buffer.alloc(0)
    this.#view = viewOf(this.#bytes)
    this.#end = 0
    this.#lists = Buffer.alloc(0)
    this.#listsView = viewOf(this.#lists)
  }
}
