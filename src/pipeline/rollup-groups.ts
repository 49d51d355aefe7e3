import { FLAGS } from '../model/schema.ts'

/** Sums of one group: the eight metrics, then request and response bytes. */
export const SUMS = 10
export const REQUEST_BYTES = 8
export const RESPONSE_BYTES = 9
export const METRICS = 8
/** Counters of one group: n, phases_n, attempts. */
export const COUNTERS = 3
/** Numbers that make up a key: identity, route, method and class and outcome, minute. */
export const KEY = 4
const FLAG_ROW = 32
const FIRST_CAPACITY = 1024

/**
 * One group for each key of a segment: a table from key to group number, and the exact figures of each group beside its
 * histograms. Everything is typed arrays that double when full.
 */
export class RollupGroups {
  length = 0
  keys = new Int32Array(0)
  counters = new Float64Array(0)
  sums = new Float64Array(0)
  mins = new Float64Array(0)
  maxs = new Float64Array(0)
  /** Pairs of hash and group + 1; 0 is free. At most half full. */
  slots = new Int32Array(0)
  /** Row of `flagCounts` + 1, of groups that had a flag. */
  flagRows = new Int32Array(0)
  flagCounts = new Uint32Array(0)
  #flagRowsUsed = 0
  /** Sums that no longer fit a number exactly: what was taken out of `sums` of a group so far. */
  readonly #carried = new Map<number, bigint[]>()
  readonly #keepCapacity: number
  #capacity = 0

  /** `keepCapacity`: a segment with more groups gives its memory back. */
  constructor(options: { readonly keepCapacity: number }) {
    this.#keepCapacity = options.keepCapacity
    this.#grow()
  }

  /** Adds a group at a free slot, found by probing with `hash`. */
  create(hash: number, identity: number, route: number, rest: number, minute: number): number {
    if (this.length === this.#capacity) this.#grow()
    const group = this.length++
    this.#place(hash, group)
    this.keys.set([identity, route, rest, minute], group * KEY)
    this.mins.fill(Number.POSITIVE_INFINITY, group * METRICS, (group + 1) * METRICS)
    return group
  }

  /** Counts the flags of a row. */
  countFlags(group: number, flags: number): void {
    let row = this.flagRows[group]! - 1
    if (row < 0) {
      row = this.#flagRowsUsed++
      if ((row + 1) * FLAG_ROW > this.flagCounts.length) {
        const counts = new Uint32Array(Math.max(64 * FLAG_ROW, this.flagCounts.length * 2))
        counts.set(this.flagCounts)
        this.flagCounts = counts
      }
      this.flagRows[group] = row + 1
    }
    for (let left = flags; left !== 0; left &= left - 1) {
      this.flagCounts[row * FLAG_ROW + 31 - Math.clz32(left & -left)]!++
    }
  }

  /** How often a group had the flag of this bit. */
  flagCount(group: number, bit: number): number {
    const row = this.flagRows[group]! - 1
    return row < 0 || bit >= FLAGS.length ? 0 : this.flagCounts[row * FLAG_ROW + bit]!
  }

  /** Takes the sums of a group out of the numbers, before adding to them would lose digits. */
  carry(group: number): void {
    let carried = this.#carried.get(group)
    if (carried === undefined) {
      carried = new Array<bigint>(SUMS).fill(0n)
      this.#carried.set(group, carried)
    }
    for (let k = 0; k < SUMS; k++) {
      carried[k]! += BigInt(this.sums[group * SUMS + k]!)
      this.sums[group * SUMS + k] = 0
    }
  }

  /** The exact sum, when it was ever carried; else undefined and the number is exact. */
  carriedSum(group: number, k: number): bigint | undefined {
    const carried = this.#carried.get(group)
    return carried === undefined ? undefined : carried[k]! + BigInt(this.sums[group * SUMS + k]!)
  }

  reset(): void {
    this.flagCounts.fill(0, 0, this.#flagRowsUsed * FLAG_ROW)
    this.#flagRowsUsed = 0
    this.#carried.clear()
    if (this.#capacity > this.#keepCapacity) {
      this.#capacity = 0
      this.length = 0
      this.flagCounts = new Uint32Array(0)
      this.#grow()
      return
    }
    this.counters.fill(0, 0, this.length * COUNTERS)
    this.sums.fill(0, 0, this.length * SUMS)
    this.maxs.fill(0, 0, this.length * METRICS)
    this.flagRows.fill(0, 0, this.length)
    this.slots.fill(0)
    this.length = 0
  }

  #place(hash: number, group: number): void {
    const { slots } = this
    const mask = slots.length - 1
    let at = (hash << 1) & mask
    while (slots[at + 1] !== 0) at = (at + 2) & mask
    slots[at] = hash
    slots[at + 1] = group + 1
  }

  #grow(): void {
    const fresh = this.#capacity === 0
    const capacity = fresh ? FIRST_CAPACITY : this.#capacity * 2
    this.#capacity = capacity
    this.keys = grown(this.keys, new Int32Array(capacity * KEY), fresh)
    this.counters = grown(this.counters, new Float64Array(capacity * COUNTERS), fresh)
    this.sums = grown(this.sums, new Float64Array(capacity * SUMS), fresh)
    this.mins = grown(this.mins, new Float64Array(capacity * METRICS), fresh)
    this.maxs = grown(this.maxs, new Float64Array(capacity * METRICS), fresh)
    this.flagRows = grown(this.flagRows, new Int32Array(capacity), fresh)
    const before = this.slots
    this.slots = new Int32Array(4 * capacity)
    if (fresh) return
    for (let at = 0; at < before.length; at += 2) {
      if (before[at + 1] !== 0) this.#place(before[at]!, before[at + 1]! - 1)
    }
  }
}

function grown<A extends Int32Array | Float64Array>(before: A, after: A, fresh: boolean): A {
  if (!fresh) after.set(before)
  return after
}
