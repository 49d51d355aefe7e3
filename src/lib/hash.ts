/** Mixes four numbers into one 32-bit hash. The finisher is MurmurHash3's. */
export function combine(a: number, b: number, c: number, d: number): number {
  return finish(
    Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35) ^ Math.imul(d, 0x27d4eb2f),
  )
}

/** Spreads every bit of a number over all bits of the hash. */
export function finish(hash: number): number {
  let h = hash ^ (hash >>> 16)
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return h ^ (h >>> 16)
}
