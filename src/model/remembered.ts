import { Dictionary, intern } from './dictionary.ts'
import { copyBytes, type Room, viewOf } from './heap.ts'

/**
 * Values by what they were made from, a number and some byte strings, over batches: dictionaries begin anew with every
 * batch, and what their texts mean does not. No JavaScript string is made for what is known. When the bytes of the keys
 * reach `bytesMax` it starts again.
 *
 *     key   number │ length, text │ length, text │ …        each number is 4 bytes
 */
export class Remembered<Value> {
  readonly #bytesMax: number
  readonly #room: Room
  readonly #keys: Dictionary
  #values: (Value | undefined)[] = []
  /** The key that is being put together. */
  #key = Buffer.allocUnsafeSlow(1024)
  #view = viewOf(this.#key)
  #end = 0
  /** Code of the key that was looked for last; 0: there was no place for it. */
  #code = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
    this.#room = { dictionaryBytes: bytesMax, exhausted: false, cut: 0, added: [], addedCount: 0 }
    this.#keys = new Dictionary({ room: this.#room, textBytesMax: bytesMax, raw: true })
  }

  /** Begins a key. */
  begin(number: number): void {
    this.#view.setInt32(0, number, true)
    this.#end = 4
  }

  /** Adds the text of a code to the key. Every key has the same number of texts. */
  text(from: Dictionary, code: number): void {
    const length = from.lengths[code]!
    const at = this.#end
    const end = at + 4 + length
    if (end > this.#key.length) this.#grow(end)
    this.#view.setInt32(at, length, true)
    copyBytes(this.#key, this.#view, at + 4, from.keys, from.view, from.offsets[code]!, length)
    this.#end = end
  }

  /** What was kept for the key. */
  find(): Value | undefined {
    this.#code = intern(this.#keys, this.#key, this.#view, 0, this.#end)
    return this.#values[this.#code]
  }

  /** Keeps a value for the key that was just not found. */
  keep(value: Value): void {
    const room = this.#room
    room.addedCount = 0
    if (room.exhausted) {
      this.#keys.reset()
      this.#values = []
      room.exhausted = false
      room.dictionaryBytes = this.#bytesMax
    } else this.#values[this.#code] = value
  }

  #grow(size: number): void {
    const larger = Buffer.allocUnsafeSlow(2 * size)
    this.#key.copy(larger, 0, 0, this.#end)
    this.#key = larger
    this.#view = viewOf(larger)
  }
}
