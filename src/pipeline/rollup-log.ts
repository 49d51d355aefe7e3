import { radixSort } from '../lib/radix-sort.ts'

/**
 * Counts cells (metric, group, bucket code) by writing one word for each observation and sorting at the end. Appending to
 * an array costs 1 to 2 ns, where a hash table of counters costs a cache miss; most cells of a segment are seen once.
 * The metric stands first, so that sorted words are the histograms of one metric after the other: columns.
 *
 *   word  31    29 28            12 11          0
 *         [ metric ] [   group     ] [   code    ]
 *
 * The log is bounded: when it is full it is counted into `runs`, words in order with their counts, and starts again.
 */

/** A bucket code, 0 … 4095. */
export const CODE_BITS = 12
export const CODE_MASK = (1 << CODE_BITS) - 1
export const METRIC_SHIFT = 29
/** Groups that fit a word. */
export const GROUPS_MAX = 2 ** (METRIC_SHIFT - CODE_BITS)
export const GROUP_MASK = GROUPS_MAX - 1

export interface Runs {
  /** Ascending, distinct; the first `length` are valid. Until the next call. */
  readonly words: Uint32Array
  readonly counts: Uint32Array
  readonly length: number
}

interface GrowingRuns {
  words: Uint32Array
  counts: Uint32Array
  length: number
}

export class RollupLog {
  /** Written by the owner: `words[length++] = word`, never past `capacity`. */
  readonly words: Uint32Array
  length = 0
  readonly capacity: number
  readonly #other: Uint32Array
  #runs = emptyRuns()
  #spare = emptyRuns()

  constructor(capacity: number) {
    this.capacity = capacity
    // Memory of a large array that is never touched is never given by the system; the log grows into it.
    this.words = new Uint32Array(capacity)
    this.#other = new Uint32Array(capacity)
  }

  /** Counts what is in the log into the runs, and empties the log. */
  count(): Runs {
    if (this.length > 0) {
      const n = this.length
      radixSort(this.words, this.#other, n)
      const before = this.#runs
      const into = this.#spare
      reserve(into, before.length + n)
      merge(this.#other, n, before, into)
      this.#runs = into
      this.#spare = before
      this.length = 0
    }
    return this.#runs
  }

  /** Forgets everything; gives back memory that only an unusual segment needed. */
  reset(): void {
    this.length = 0
    this.#runs.length = 0
    for (const runs of [this.#runs, this.#spare]) {
      if (runs.words.length > this.capacity) {
        runs.words = new Uint32Array(0)
        runs.counts = new Uint32Array(0)
      }
    }
  }
}

/** Merges `n` sorted words, each counting 1, with sorted runs. */
function merge(sorted: Uint32Array, n: number, runs: Runs, into: GrowingRuns) {
  const { words, counts } = into
  let at = -1
  let last = -1
  let r = 0
  for (let i = 0; i < n; i++) {
    const word = sorted[i]!
    if (word === last) {
      counts[at]!++
      continue
    }
    while (r < runs.length && runs.words[r]! < word) {
      words[++at] = runs.words[r]!
      counts[at] = runs.counts[r++]!
    }
    words[++at] = word
    counts[at] = 1
    if (r < runs.length && runs.words[r] === word) counts[at]! += runs.counts[r++]!
    last = word
  }
  while (r < runs.length) {
    words[++at] = runs.words[r]!
    counts[at] = runs.counts[r++]!
  }
  into.length = at + 1
}

function emptyRuns(): GrowingRuns {
  return { words: new Uint32Array(0), counts: new Uint32Array(0), length: 0 }
}

function reserve(runs: GrowingRuns, size: number): void {
  runs.length = 0
  if (runs.words.length >= size) return
  const room = Math.max(size, runs.words.length * 2)
  runs.words = new Uint32Array(room)
  runs.counts = new Uint32Array(room)
}
