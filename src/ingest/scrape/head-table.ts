/**
 * Numbers for runs of bytes: the same bytes, the same number, 0 upwards. Made for pages that come again and again with the
 * same lines in the same order: each number remembers which one came after it last time, so that a line is usually found by
 * comparing it with one candidate, without hashing.
 *
 *   keys   one buffer, end to end          slots   open addressing, number + 1, 0 is free
 *   ends   where each key ends in it       next    number that followed last time, −1 if none
 */
export class HeadTable {
  #keys = Buffer.allocUnsafe(4096)
  #ends = new Int32Array(64)
  #hashes = new Int32Array(64)
  #next = new Int32Array(64).fill(-1)
  #slots = new Int32Array(128)
  #size = 0
  /** What follows the last one that was found or added; the first of all after `rewind`. */
  #last = -1
  #first = -1

  get size(): number {
    return this.#size
  }

  /** Memory held, bytes. */
  get bytes(): number {
    return this.#keys.length + 4 * (3 * this.#ends.length + this.#slots.length)
  }

  /** A new page begins: what comes next is compared with how the last page began. */
  rewind(): void {
    this.#last = -1
  }

  /**
   * The number of the key that is expected next, if the bytes from `at` on begin with it; −1 otherwise. The caller makes sure
   * that a key cannot be the beginning of another one.
   */
  expected(bytes: Uint8Array, at: number, end: number): number {
    const candidate = this.#last < 0 ? this.#first : this.#next[this.#last]!
    if (candidate < 0) return -1
    const keys = this.#keys
    let from = candidate === 0 ? 0 : this.#ends[candidate - 1]!
    const to = this.#ends[candidate]!
    if (to - from > end - at) return -1
    // From the end of the head backwards would differ sooner, but forwards is what the processor prefetches.
    for (let k = at; from < to; from++, k++) if (keys[from] !== bytes[k]) return -1
    this.#last = candidate
    return candidate
  }

  /** Length of a key, bytes. */
  lengthOf(number: number): number {
    return this.#ends[number]! - (number === 0 ? 0 : this.#ends[number - 1]!)
  }

  /** The number of the key `bytes[from … to)`, −1 when it is new. `hash` is that of `hashOf`. */
  find(bytes: Uint8Array, from: number, to: number, hash: number): number {
    const slots = this.#slots
    const mask = slots.length - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const number = slots[slot]! - 1
      if (number < 0) return -1
      if (this.#hashes[number] === hash && this.#equals(number, bytes, from, to)) {
        this.#follow(number)
        return number
      }
    }
  }

  /** Adds a key that `find` did not find. */
  add(bytes: Uint8Array, from: number, to: number, hash: number): number {
    const number = this.#size
    if (number === this.#ends.length) this.#growNumbers()
    const start = number === 0 ? 0 : this.#ends[number - 1]!
    const end = start + to - from
    if (end > this.#keys.length) {
      const grown = Buffer.allocUnsafe(Math.max(end, 2 * this.#keys.length))
      grown.set(this.#keys.subarray(0, start))
      this.#keys = grown
    }
    this.#keys.set(bytes.subarray(from, to), start)
    this.#ends[number] = end
    this.#hashes[number] = hash
    this.#next[number] = -1
    this.#size++
    if (2 * this.#size > this.#slots.length) this.#growSlots()
    else this.#insert(number)
    this.#follow(number)
    return number
  }

  /** Forgets everything. */
  clear(): void {
    this.#keys = Buffer.allocUnsafe(4096)
    this.#ends = new Int32Array(64)
    this.#hashes = new Int32Array(64)
    this.#next = new Int32Array(64).fill(-1)
    this.#slots = new Int32Array(128)
    this.#size = 0
    this.#last = -1
    this.#first = -1
  }

  #follow(number: number): void {
    if (this.#last < 0) this.#first = number
    else this.#next[this.#last] = number
    this.#last = number
  }

  #equals(number: number, bytes: Uint8Array, from: number, to: number): boolean {
    const start = number === 0 ? 0 : this.#ends[number - 1]!
    if (this.#ends[number]! - start !== to - from) return false
    const keys = this.#keys
    for (let a = start, b = from; b < to; a++, b++) if (keys[a] !== bytes[b]) return false
    return true
  }

  #insert(number: number): void {
    const mask = this.#slots.length - 1
    let slot = this.#hashes[number]! & mask
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask
    this.#slots[slot] = number + 1
  }

  #growSlots(): void {
    this.#slots = new Int32Array(2 * this.#slots.length)
    for (let number = 0; number < this.#size; number++) this.#insert(number)
  }

  #growNumbers(): void {
    const length = 2 * this.#ends.length
    this.#ends = grown(this.#ends, length)
    this.#hashes = grown(this.#hashes, length)
    this.#next = grown(this.#next, length)
  }
}

function grown(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(length)
  copy.set(array)
  return copy
}

/**
 * A 32-bit hash of `bytes[from … to)`. `seed` keeps somebody who chooses the bytes from choosing the collisions: it is drawn
 * once for each process.
 */
export function hashOf(bytes: Uint8Array, from: number, to: number, seed: number): number {
  let hash = seed ^ (to - from)
  for (let k = from; k < to; k++) hash = Math.imul(hash ^ bytes[k]!, 0x5bd1e995) ^ (hash >>> 15)
  hash ^= hash >>> 16
  hash = Math.imul(hash, 0x85ebca6b)
  return hash ^ (hash >>> 13)
}
