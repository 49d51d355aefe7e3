/**
 * Finds where MessagePack values end, in bytes that come in pieces, without making anything of them
 * (github.com/msgpack/msgpack/blob/master/spec.md). It goes over each byte's head once, keeps a count for each level that is
 * open, and so bounds size, depth and number of values before a decoder sees them.
 */
export interface ScanLimits {
  /** Of one value at the top. */
  readonly bytesMax: number
  readonly depthMax: number
  /** Of one value at the top, those inside counted as well. */
  readonly valuesMax: number
}

export type ScanFault = 'too_large' | 'too_deep' | 'too_many_values' | 'malformed'

export class ValueScanner {
  readonly #limits: ScanLimits
  /** Values to come at each open level. */
  readonly #left: Float64Array
  #depth = 0
  #values = 0
  /** Bytes of the value so far that have been gone over. */
  #at = 0

  constructor(limits: ScanLimits) {
    this.#limits = limits
    this.#left = new Float64Array(limits.depthMax + 1)
  }

  /** Values in the one at the top that was scanned last, itself included. */
  lastValues = 0

  /**
   * Goes on in `bytes`, which begin with the value. Its length when it is whole; 0: more bytes are needed, call again with all of
   * them and more; or what is wrong with it.
   */
  scan(bytes: Uint8Array): number | ScanFault {
    const { bytesMax, depthMax, valuesMax } = this.#limits
    for (;;) {
      const at = this.#at
      if (at >= bytes.length) return bytes.length > bytesMax ? 'too_large' : 0
      const type = bytes[at]!
      let head = 1
      /** Bytes of a text or number behind the head; −1: a collection of `children`. */
      let body = 0
      let children = -1
      if (type < 0x80 || type >= 0xe0 || type === 0xc0 || type === 0xc2 || type === 0xc3) {
        // A number within the byte, nil, false, true.
      } else if (type < 0x90) children = 2 * (type & 0x0f)
      else if (type < 0xa0) children = type & 0x0f
      else if (type < 0xc0) body = type & 0x1f
      else if (type === 0xc1) return 'malformed'
      else {
        const kind = KINDS[type - 0xc4]!
        head = 1 + kind.size
        if (at + head > bytes.length) return bytes.length > bytesMax ? 'too_large' : 0
        let length = 0
        for (let k = 1; k <= kind.size; k++) length = length * 256 + bytes[at + k]!
        if (kind.form === 'fixed') body = kind.length
        else if (kind.form === 'bytes') body = length + kind.length
        else children = kind.length * length
      }
      const next = at + head + body
      if (next > bytesMax) return 'too_large'
      if (++this.#values > valuesMax) return 'too_many_values'
      if (next > bytes.length) {
        this.#values--
        return 0
      }
      this.#at = next
      if (children > 0) {
        // Each of them is a byte at least.
        if (next + children > bytesMax) return 'too_large'
        if (this.#depth >= depthMax) return 'too_deep'
        this.#left[this.#depth++] = children
        continue
      }
      while (this.#depth > 0 && --this.#left[this.#depth - 1]! === 0) this.#depth--
      if (this.#depth > 0) continue
      this.lastValues = this.#values
      this.reset()
      return next
    }
  }

  reset(): void {
    this.#depth = 0
    this.#values = 0
    this.#at = 0
  }
}

/** Of 0xc4 to 0xdf: size of the length, and what it is the length of. */
interface Kind {
  readonly size: number
  /** `fixed`: `length` bytes follow. `bytes`: the length's bytes and `length` more. `values`: the length's values times `length`. */
  readonly form: 'fixed' | 'bytes' | 'values'
  readonly length: number
}
const bytes = (size: number, more = 0): Kind => ({ size, form: 'bytes', length: more })
const fixed = (length: number): Kind => ({ size: 0, form: 'fixed', length })
const values = (size: number, each: number): Kind => ({ size, form: 'values', length: each })
const KINDS: readonly Kind[] = [
  ...[bytes(1), bytes(2), bytes(4)], // bin
  ...[bytes(1, 1), bytes(2, 1), bytes(4, 1)], // ext: its type is one byte more
  ...[fixed(4), fixed(8)], // float
  ...[fixed(1), fixed(2), fixed(4), fixed(8)], // uint
  ...[fixed(1), fixed(2), fixed(4), fixed(8)], // int
  ...[fixed(2), fixed(3), fixed(5), fixed(9), fixed(17)], // fixext
  ...[bytes(1), bytes(2), bytes(4)], // str
  ...[values(2, 1), values(4, 1)], // array
  ...[values(2, 2), values(4, 2)], // map
]
