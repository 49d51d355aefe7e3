import { combine } from '../lib/hash.ts'
import type { Batch, DictionaryView, NativeBlock } from '../model/batch.ts'
import { codeOf } from '../model/buckets.ts'
import { FLAG_OM_BIT, phasesInto } from '../model/phases.ts'
import { OVERFLOW_ID, packRest, type RollupParts, rollupBlock } from './rollup-block.ts'
import { COUNTERS, KEY, METRICS, REQUEST_BYTES, RESPONSE_BYTES, RollupGroups, SUMS } from './rollup-groups.ts'
import { IdentityTable, MinuteKeys, TextTable } from './rollup-keys.ts'
import { CODE_BITS, GROUPS_MAX, METRIC_SHIFT, RollupLog } from './rollup-log.ts'

/**
 * Makes the rows of `latency_1m` from the columns of requests, once per segment: for every minute (of the end of the
 * request) and key the histograms of the duration and of the seven phases, and exact figures beside them.
 *
 *   batch ─► key of each row → group ─► figures of the group         ┐
 *                                   └─► log of (metric, group, code) ─┴ seal ─► sort, count ─► Native block
 *
 * The number of keys of a minute is bounded. What the bound does not let in goes to the `overflow` key of its minute, so
 * totals stay exact.
 */
export interface Rollup {
  /** Adds the rows of a batch of `requests` that count; other tables are passed over. Keeps nothing of the batch. */
  add(batch: Batch): void
  /**
   * The block (or blocks, one after the other) of everything added since the last seal, or null when that is nothing.
   * Its memory is its own.
   */
  seal(): NativeBlock | null
  /** Since the start. */
  readonly stats: RollupStats
}

export interface RollupStats {
  /** Requests added. */
  readonly rows: number
  /** Requests that went to the `overflow` key. */
  readonly overflowRows: number
  /** Rows of `latency_1m` made. */
  readonly keys: number
  /** Buckets of histograms in them. */
  readonly cells: number
  readonly bytes: number
}

export interface RollupOptions {
  /** Keys of one minute, over all segments; the rest goes to `overflow`. */
  readonly keysPerMinuteMax?: number
  /** Keys of one segment, whatever their minutes. At most 65 000, because key lists have indexes of 16 bits. */
  readonly keysPerSegmentMax?: number
  /** Observations held before they are counted: 8 bytes each. */
  readonly logMax?: number
  /** Rows of one block; a segment with more has several blocks. At least the rows of a batch. */
  readonly blockRowsMax?: number
  /** Sees what a block is made of, before it is forgotten. Must keep nothing of it, and must not throw. */
  readonly onBlock?: (parts: RollupParts) => void
}

/** 20 000 keys of a few hundred buckets are some 30 MB of columns a minute before compression. */
const KEYS_PER_MINUTE_MAX = 20_000
const KEYS_PER_SEGMENT_MAX = 65_000
/** One observation of each metric for 131 072 requests: a full segment is counted twice. 8 MB. */
const LOG_MAX = 1 << 20
/** Minutes whose keys are remembered: rows are a few minutes late at most, others start a new bound. */
const MINUTES_MAX = 8
/** Dictionary codes and identities of a batch have 16 bits. */
const CODES_MAX = 65_536

const UNRESOLVED = -2
const BUFFERED = 1 << FLAG_OM_BIT

export function createRollup(options: RollupOptions = {}): Rollup {
  return new SegmentRollup({
    keysPerMinuteMax: options.keysPerMinuteMax ?? KEYS_PER_MINUTE_MAX,
    keysPerSegmentMax: Math.min(options.keysPerSegmentMax ?? KEYS_PER_SEGMENT_MAX, KEYS_PER_SEGMENT_MAX),
    logMax: options.logMax ?? LOG_MAX,
    blockRowsMax: Math.min(options.blockRowsMax ?? GROUPS_MAX, GROUPS_MAX),
    onBlock: options.onBlock ?? (() => {}),
  })
}

class SegmentRollup implements Rollup {
  readonly stats = { rows: 0, overflowRows: 0, keys: 0, cells: 0, bytes: 0 }
  readonly #keysPerSegmentMax: number
  readonly #blockRowsMax: number
  readonly #onBlock: (parts: RollupParts) => void
  readonly #groups: RollupGroups
  readonly #log: RollupLog
  readonly #minuteKeys: MinuteKeys
  readonly #identities: IdentityTable
  readonly #routes: TextTable
  readonly #methods: TextTable
  /** Groups that are not the overflow of a minute. */
  #keys = 0
  #blocks: NativeBlock[] = []
  // Numbers of this segment by the codes of the batch at hand.
  readonly #identityOf = new Int32Array(CODES_MAX)
  readonly #routeOf = new Int32Array(CODES_MAX)
  readonly #methodOf = new Int32Array(CODES_MAX)
  readonly #phases = new Float64Array(7)

  constructor(options: Required<RollupOptions>) {
    this.#keysPerSegmentMax = options.keysPerSegmentMax
    this.#blockRowsMax = options.blockRowsMax
    this.#onBlock = options.onBlock
    this.#groups = new RollupGroups({ keepCapacity: 32_768 })
    this.#log = new RollupLog(options.logMax)
    this.#minuteKeys = new MinuteKeys({ keysMax: options.keysPerMinuteMax, minutesMax: MINUTES_MAX })
    this.#identities = new IdentityTable(options.keysPerSegmentMax)
    this.#routes = new TextTable(options.keysPerSegmentMax)
    this.#methods = new TextTable(options.keysPerSegmentMax)
  }

  add(batch: Batch): void {
    if (batch.table !== 'requests' || batch.rows === 0) return
    // Every row could be a group of its own; group numbers have 17 bits.
    if (this.#groups.length + batch.rows > this.#blockRowsMax) this.#finishBlock()
    for (let k = 0; k < batch.identities.length; k++) this.#identityOf[k] = this.#identities.idOf(batch.identities[k]!)
    const route = batch.column('route')
    const method = batch.column('method')
    this.#routeOf.fill(UNRESOLVED, 0, route.dictionary.count)
    this.#methodOf.fill(UNRESOLVED, 0, method.dictionary.count)
    this.#addRows(batch, route.codes, route.dictionary, method.codes, method.dictionary)
    this.stats.rows += batch.rows
  }

  seal(): NativeBlock | null {
    this.#finishBlock()
    const blocks = this.#blocks
    this.#blocks = []
    if (blocks.length <= 1) return blocks[0] ?? null
    const days = new Map<number, number>()
    for (const block of blocks) for (const [day, rows] of block.days) days.set(day, (days.get(day) ?? 0) + rows)
    return {
      buffers: blocks.flatMap((block) => block.buffers),
      rows: blocks.reduce((sum, block) => sum + block.rows, 0),
      days,
      nodes: new Map(),
    }
  }

  #addRows(
    batch: Batch,
    routeCodes: Uint16Array,
    routes: DictionaryView,
    methodCodes: Uint16Array,
    methods: DictionaryView,
  ): void {
    const { identity, endSeconds, duration, flags, responseClass, outcome, attempts } = batch
    const { downstreamReceived, downstreamSent, secondary } = batch
    const [p0, p1, p2, p3, p4, p5, p6] = batch.points as readonly [
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
    ]
    const identityOf = this.#identityOf
    const routeOf = this.#routeOf
    const methodOf = this.#methodOf
    const phases = this.#phases
    const groups = this.#groups
    const log = this.#log
    const words = log.words
    const logEnd = log.capacity - METRICS
    let written = log.length
    let { slots, keys, counters, sums, mins, maxs } = groups
    let mask = slots.length - 1

    for (let i = 0; i < batch.rows; i++) {
      if (secondary !== null && secondary[i] !== 0) continue
      const who = identityOf[identity[i]!]!
      let route = routeOf[routeCodes[i]!]!
      if (route === UNRESOLVED) {
        route = this.#routes.idOf(routes.text(routeCodes[i]!))
        routeOf[routeCodes[i]!] = route
      }
      let method = methodOf[methodCodes[i]!]!
      if (method === UNRESOLVED) {
        method = this.#methods.idOf(methods.text(methodCodes[i]!))
        methodOf[methodCodes[i]!] = method
      }
      const rest = packRest(method, responseClass[i]!, outcome[i]!)
      const minute = (endSeconds[i]! / 60) | 0

      let group = -1
      if (who >= 0 && route >= 0 && method >= 0) {
        const hash = combine(who, route, rest, minute)
        let at = (hash << 1) & mask
        for (;;) {
          group = slots[at + 1]! - 1
          if (group < 0) break
          const key = group * KEY
          if (
            slots[at] === hash &&
            keys[key] === who &&
            keys[key + 1] === route &&
            keys[key + 2] === rest &&
            keys[key + 3] === minute
          )
            break
          at = (at + 2) & mask
        }
      }
      if (group < 0) {
        group = this.#newGroup(who, route, rest, minute)
        ;({ slots, keys, counters, sums, mins, maxs } = groups)
        mask = slots.length - 1
      }

      const total = duration[i]!
      const sum = group * SUMS
      const received = downstreamReceived[i]!
      const sent = downstreamSent[i]!
      if (
        sums[sum]! + total > Number.MAX_SAFE_INTEGER ||
        sums[sum + REQUEST_BYTES]! + received > Number.MAX_SAFE_INTEGER ||
        sums[sum + RESPONSE_BYTES]! + sent > Number.MAX_SAFE_INTEGER
      )
        groups.carry(group)
      sums[sum]! += total
      sums[sum + REQUEST_BYTES]! += received
      sums[sum + RESPONSE_BYTES]! += sent
      const counter = group * COUNTERS
      counters[counter]!++
      counters[counter + 2]! += attempts[i]!
      const extreme = group * METRICS
      if (total < mins[extreme]!) mins[extreme] = total
      if (total > maxs[extreme]!) maxs[extreme] = total
      if (flags[i] !== 0) groups.countFlags(group, flags[i]!)

      if (written > logEnd) {
        log.length = written
        log.count()
        written = 0
      }
      const groupBits = group << CODE_BITS
      if (total > 0) words[written++] = groupBits | codeOf(total)
      const known = phasesInto(
        phases,
        0,
        p0[i]!,
        p1[i]!,
        p2[i]!,
        p3[i]!,
        p4[i]!,
        p5[i]!,
        p6[i]!,
        total,
        (flags[i]! & BUFFERED) !== 0,
      )
      if (!known) continue
      counters[counter + 1]!++
      for (let k = 0; k < 7; k++) {
        const phase = phases[k]!
        const metric = extreme + 1 + k
        if (phase < mins[metric]!) mins[metric] = phase
        if (phase === 0) continue
        sums[sum + 1 + k]! += phase
        if (phase > maxs[metric]!) maxs[metric] = phase
        words[written++] = ((k + 1) << METRIC_SHIFT) | groupBits | codeOf(phase)
      }
    }
    log.length = written
  }

  /** The group of a key that this segment does not have yet: a new one, or the overflow of its minute. */
  #newGroup(who: number, route: number, rest: number, minute: number): number {
    if (who >= 0 && route >= 0 && rest >= 0 && this.#keys < this.#keysPerSegmentMax) {
      const identities = this.#identities.hashes
      const routes = this.#routes.hashes
      const methods = this.#methods.hashes
      const method = rest >>> 6
      const admitted = this.#minuteKeys.admit(
        minute,
        combine(identities[2 * who]!, routes[2 * route]!, methods[2 * method]!, rest & 63),
        combine(identities[2 * who + 1]!, routes[2 * route + 1]!, methods[2 * method + 1]!, rest & 63),
      )
      if (admitted) {
        this.#keys++
        return this.#groups.create(combine(who, route, rest, minute), who, route, rest, minute)
      }
    }
    this.stats.overflowRows++
    const hash = combine(OVERFLOW_ID, OVERFLOW_ID, OVERFLOW_ID, minute)
    const { slots, keys } = this.#groups
    const mask = slots.length - 1
    for (let at = (hash << 1) & mask; slots[at + 1] !== 0; at = (at + 2) & mask) {
      const group = slots[at + 1]! - 1
      if (slots[at] === hash && keys[group * KEY] === OVERFLOW_ID && keys[group * KEY + 3] === minute) return group
    }
    return this.#groups.create(hash, OVERFLOW_ID, OVERFLOW_ID, OVERFLOW_ID, minute)
  }

  #finishBlock(): void {
    if (this.#groups.length === 0) return
    const runs = this.#log.count()
    const parts: RollupParts = {
      groups: this.#groups,
      runs,
      identities: this.#identities.identities,
      routes: this.#routes.texts,
      methods: this.#methods.texts,
    }
    const block = rollupBlock(parts)
    this.#onBlock(parts)
    this.stats.keys += block.rows
    this.stats.cells += runs.length
    for (const buffer of block.buffers) this.stats.bytes += buffer.length
    this.#blocks.push(block)
    this.#groups.reset()
    this.#log.reset()
    this.#identities.reset()
    this.#routes.reset()
    this.#methods.reset()
    this.#keys = 0
  }
}
