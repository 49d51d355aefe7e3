import { finish } from '../lib/hash.ts'
import type { Identity } from '../model/batch.ts'

/** Texts of one key column → small numbers, for one segment. The hashes do not change from segment to segment. */
export class TextTable {
  readonly texts: string[] = []
  /** Two independent 32-bit hashes of each text. */
  readonly hashes: number[] = []
  readonly #ids = new Map<string, number>()
  readonly #max: number

  constructor(max: number) {
    this.#max = max
  }

  /** −1 when the table is full and the text is new. */
  idOf(text: string): number {
    const known = this.#ids.get(text)
    if (known !== undefined) return known
    const id = this.texts.length
    if (id >= this.#max) return -1
    this.#ids.set(text, id)
    this.texts.push(text)
    hashText(text, this.hashes)
    return id
  }

  reset(): void {
    if (this.texts.length === 0) return
    this.texts.length = 0
    this.hashes.length = 0
    this.#ids.clear()
  }
}

/** Identities → small numbers, for one segment. Identities that differ in nothing that rollups keep have one number. */
export class IdentityTable {
  readonly identities: Identity[] = []
  readonly #texts: TextTable
  readonly #byId = new Map<number, number>()
  readonly #max: number

  constructor(max: number) {
    this.#max = max
    this.#texts = new TextTable(max)
  }

  get hashes(): readonly number[] {
    return this.#texts.hashes
  }

  /** −1 when the table is full and the identity is new. */
  idOf(identity: Identity): number {
    const known = this.#byId.get(identity.id)
    if (known !== undefined) return known
    const { source, destination } = identity
    const id = this.#texts.idOf(
      [
        identity.mesh,
        identity.reporter,
        source.workload,
        source.namespace,
        destination.service,
        destination.namespace,
        destination.workload,
        destination.version,
      ].join('\0'),
    )
    if (id === this.identities.length) this.identities.push(identity)
    if (this.#byId.size < this.#max) this.#byId.set(identity.id, id)
    return id
  }

  reset(): void {
    this.identities.length = 0
    this.#texts.reset()
    this.#byId.clear()
  }
}

/**
 * Bounds how many keys a minute may have, over all segments that bring rows of it. Remembers the keys (as 64-bit hashes)
 * of the minutes touched last; the rows of a minute that was forgotten start a new bound, which only matters to rows
 * that come late.
 */
export class MinuteKeys {
  readonly #keysMax: number
  readonly #minutesMax: number
  /** In order of last use. */
  readonly #minutes = new Map<number, HashSet>()
  #last = -1
  #lastSet: HashSet | undefined

  constructor(options: { readonly keysMax: number; readonly minutesMax: number }) {
    this.#keysMax = options.keysMax
    this.#minutesMax = options.minutesMax
  }

  /** Whether the minute may have this key. The two hashes are of the texts, not of numbers that a segment gave them. */
  admit(minute: number, hash1: number, hash2: number): boolean {
    const set = this.#setOf(minute)
    if (set.has(hash1, hash2)) return true
    if (set.size >= this.#keysMax) return false
    set.add(hash1, hash2)
    return true
  }

  #setOf(minute: number): HashSet {
    if (minute === this.#last) return this.#lastSet!
    let set = this.#minutes.get(minute)
    if (set === undefined) {
      if (this.#minutes.size >= this.#minutesMax) this.#minutes.delete(this.#minutes.keys().next().value!)
      set = new HashSet()
    } else this.#minutes.delete(minute)
    this.#minutes.set(minute, set)
    this.#last = minute
    this.#lastSet = set
    return set
  }
}

/** A set of pairs of 32-bit hashes, open addressing, at most half full. */
class HashSet {
  size = 0
  #slots = new Int32Array(2 * 64)

  has(hash1: number, hash2: number): boolean {
    return this.#slots[this.#find(hash1, hash2)] !== 0
  }

  add(hash1: number, hash2: number): void {
    if (4 * this.size >= this.#slots.length) this.#grow()
    const at = this.#find(hash1, hash2)
    // A first hash of 0 means a free slot.
    this.#slots[at] = hash1 | 0 || 1
    this.#slots[at + 1] = hash2
    this.size++
  }

  #find(hash1: number, hash2: number): number {
    const slots = this.#slots
    const first = hash1 | 0 || 1
    const second = hash2 | 0
    const mask = slots.length - 1
    let at = (first << 1) & mask
    while (slots[at] !== 0 && (slots[at] !== first || slots[at + 1] !== second)) at = (at + 2) & mask
    return at
  }

  #grow(): void {
    const before = this.#slots
    this.#slots = new Int32Array(before.length * 2)
    for (let k = 0; k < before.length; k += 2) {
      if (before[k] === 0) continue
      const at = this.#find(before[k]!, before[k + 1]!)
      this.#slots[at] = before[k]!
      this.#slots[at + 1] = before[k + 1]!
    }
  }
}

/** Appends two 32-bit hashes of a text (FNV-1a and a second one of the same cost, both finished as in MurmurHash3). */
function hashText(text: string, out: number[]): void {
  let a = 0x811c9dc5
  let b = 0x9747b28c
  for (let k = 0; k < text.length; k++) {
    const unit = text.charCodeAt(k)
    a = Math.imul(a ^ unit, 0x01000193)
    b = Math.imul(b + unit, 0x5bd1e995) ^ (b >>> 15)
  }
  out.push(finish(a), finish(b))
}
