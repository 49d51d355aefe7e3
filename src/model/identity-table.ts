import type { Identity, IdentityInput, IdentityResolver, Origin } from './batch.ts'
import type { Dictionary } from './dictionary.ts'
import type { Room } from './heap.ts'
import { Remembered } from './remembered.ts'

/** Identities of one batch. 12 keys of a few dozen bytes for each: at most a few MB in a block. */
const IDENTITIES_MAX = 16_384
/** id + 1 (0: free), five words of codes, hash, needs; 8 words keep a slot inside one cache line. */
const SLOT = 8
/** Clusters whose last slot is remembered. */
const RECENT = 1024
/** Bytes of keys of what was resolved in earlier batches, and of clusters with what their rows need. */
const RESOLVED_BYTES = 4 << 20
const NEEDS_BYTES = 1 << 20
/** Bits of `IdentityResolver.needs`. */
export const NEEDS_AUTHORITY_AND_ROUTE = 1
export const NEEDS_SNI = 2

/** The dictionaries that identity codes belong to. `peers` holds serialized `google.protobuf.Any`, code 0: none. */
export interface IdentityDictionaries {
  readonly cluster: Dictionary
  readonly route: Dictionary
  readonly authority: Dictionary
  readonly sni: Dictionary
  readonly peerSan: Dictionary
  readonly localSan: Dictionary
  readonly peers: Dictionary
}

/**
 * Which identity a row has, by the codes of what it is resolved from. A distinct combination is looked for by its bytes
 * once per batch, and the resolver asked when no earlier batch had it; a row costs two probes of small tables, or none
 * when it is like the row before.
 */
export class IdentityTable {
  readonly identities: Identity[] = []
  readonly #dictionaries: IdentityDictionaries
  readonly #origins: readonly Origin[]
  readonly #resolver: IdentityResolver
  readonly #room: Room
  #slots = new Int32Array(SLOT * 64)
  #mask = 63
  /** Slot that a row of a cluster had last, by the low bits of the cluster's code. */
  readonly #recent = new Int32Array(RECENT)
  /** What rows of (stream, cluster) need to be told apart: [key + 1, needs] pairs. */
  #needs = new Float64Array(2 * 64)
  #needsCount = 0
  #lastPair = -1
  #lastNeeds = 0
  /** Over batches: identities, and needs of a cluster, by the number of the origin and the bytes of the texts. */
  readonly #resolved = new Remembered<Identity>(RESOLVED_BYTES)
  readonly #knownNeeds = new Remembered<number>(NEEDS_BYTES)
  readonly #originNumbers = new WeakMap<Origin, number>()
  #originsSeen = 0

  constructor(options: {
    dictionaries: IdentityDictionaries
    /** Origins by stream code; the same array as long as the table lives. */
    origins: readonly Origin[]
    resolver: IdentityResolver
    room: Room
  }) {
    this.#dictionaries = options.dictionaries
    this.#origins = options.origins
    this.#resolver = options.resolver
    this.#room = options.room
  }

  reset(): void {
    this.identities.length = 0
    this.#recent.fill(0)
    if (this.#mask > 8191) {
      this.#slots = new Int32Array(SLOT * 64)
      this.#mask = 63
    } else this.#slots.fill(0)
    this.#needs = this.#needs.length > 16_384 ? new Float64Array(2 * 64) : this.#needs.fill(0)
    this.#needsCount = 0
    this.#lastPair = -1
  }

  /** Code of the identity of a row. Marks the room, and returns 0, when there is no place for one more. */
  code(
    stream: number,
    cluster: number,
    downstreamPeer: number,
    upstreamPeer: number,
    peerSan: number,
    localSan: number,
    authority: number,
    route: number,
    sni: number,
  ): number {
    const where = stream | (cluster << 16)
    const peers = downstreamPeer | (upstreamPeer << 16)
    const sans = peerSan | (localSan << 16)
    const recent = this.#recent[cluster & (RECENT - 1)]!
    const table = this.#slots
    // What a row needs depends on stream and cluster alone: where those are the same, so is this.
    if (
      table[recent + 1] === where &&
      table[recent + 2] === peers &&
      table[recent + 3] === sans &&
      table[recent] !== 0
    ) {
      const needs = table[recent + 7]!
      if (
        ((needs & NEEDS_AUTHORITY_AND_ROUTE) === 0 || table[recent + 4] === (authority | (route << 16))) &&
        ((needs & NEEDS_SNI) === 0 || table[recent + 5] === sni)
      ) {
        return table[recent]! - 1
      }
    }
    return this.#lookUp(stream, cluster, where, peers, sans, authority | (route << 16), sni)
  }

  #lookUp(
    stream: number,
    cluster: number,
    where: number,
    peers: number,
    sans: number,
    authorityAndRoute: number,
    sni: number,
  ): number {
    const needs = this.#needsOf(stream, cluster)
    const names = (needs & NEEDS_AUTHORITY_AND_ROUTE) === 0 ? 0 : authorityAndRoute
    const name = (needs & NEEDS_SNI) === 0 ? 0 : sni
    let hash = Math.imul(where, 0x9e3779b1) ^ Math.imul(peers, 0x85ebca6b)
    hash = (hash ^ (hash >>> 15)) + (Math.imul(sans, 0xc2b2ae35) ^ Math.imul(names, 0x27d4eb2f)) + name
    hash = Math.imul(hash ^ (hash >>> 13), 0x2c1b3c6d)
    hash ^= hash >>> 12
    const slots = this.#slots
    const wrap = this.#mask * SLOT + SLOT - 1
    let at = (hash & this.#mask) * SLOT
    for (; slots[at] !== 0; at = (at + SLOT) & wrap) {
      if (
        slots[at + 1] === where &&
        slots[at + 2] === peers &&
        slots[at + 3] === sans &&
        slots[at + 4] === names &&
        slots[at + 5] === name
      ) {
        this.#recent[cluster & (RECENT - 1)] = at
        return slots[at]! - 1
      }
    }
    if (this.identities.length >= IDENTITIES_MAX) {
      this.#room.exhausted = true
      return 0
    }
    slots[at + 1] = where
    slots[at + 2] = peers
    slots[at + 3] = sans
    slots[at + 4] = names
    slots[at + 5] = name
    slots[at + 6] = hash
    slots[at + 7] = needs
    slots[at] = this.identities.push(this.#resolve(where, peers, sans, names, name))
    this.#recent[cluster & (RECENT - 1)] = at
    if (this.identities.length * 2 > this.#mask) this.#grow()
    return this.identities.length - 1
  }

  #resolve(where: number, peers: number, sans: number, names: number, name: number): Identity {
    const d = this.#dictionaries
    const resolved = this.#resolved
    resolved.begin(this.#originNumber(where & 0xffff))
    resolved.text(d.cluster, where >>> 16)
    resolved.text(d.authority, names & 0xffff)
    resolved.text(d.route, names >>> 16)
    resolved.text(d.sni, name)
    resolved.text(d.peerSan, sans & 0xffff)
    resolved.text(d.localSan, sans >>> 16)
    resolved.text(d.peers, peers & 0xffff)
    resolved.text(d.peers, peers >>> 16)
    let identity = resolved.find()
    if (identity === undefined) {
      identity = this.#resolver.resolve(this.#input(where, peers, sans, names, name))
      resolved.keep(identity)
    }
    return identity
  }

  #originNumber(stream: number): number {
    const origin = this.#origins[stream]!
    let number = this.#originNumbers.get(origin)
    if (number === undefined) {
      number = ++this.#originsSeen
      this.#originNumbers.set(origin, number)
    }
    return number
  }

  #input(where: number, peers: number, sans: number, names: number, name: number): IdentityInput {
    const d = this.#dictionaries
    const peer = (code: number) => (code === 0 ? null : d.peers.bytes(code))
    return {
      origin: this.#origins[where & 0xffff]!,
      cluster: d.cluster.text(where >>> 16),
      authority: d.authority.text(names & 0xffff),
      route: d.route.text(names >>> 16),
      sni: d.sni.text(name),
      peerSan: d.peerSan.text(sans & 0xffff),
      localSan: d.localSan.text(sans >>> 16),
      downstreamPeer: peer(peers & 0xffff),
      upstreamPeer: peer(peers >>> 16),
    }
  }

  #needsOf(stream: number, cluster: number): number {
    const pair = stream * 65_536 + cluster
    if (pair === this.#lastPair) return this.#lastNeeds
    const table = this.#needs
    const mask = table.length / 2 - 1
    let at = (Math.imul(stream ^ (cluster << 9), 0x9e3779b1) >>> 9) & mask
    while (table[2 * at] !== 0 && table[2 * at] !== pair + 1) at = (at + 1) & mask
    this.#lastPair = pair
    if (table[2 * at] === 0) {
      this.#lastNeeds = this.#rememberedNeeds(stream, cluster)
      table[2 * at] = pair + 1
      table[2 * at + 1] = this.#lastNeeds
      if (++this.#needsCount * 2 > mask) this.#growNeeds()
    } else this.#lastNeeds = table[2 * at + 1]!
    return this.#lastNeeds
  }

  #rememberedNeeds(stream: number, cluster: number): number {
    const known = this.#knownNeeds
    known.begin(this.#originNumber(stream))
    known.text(this.#dictionaries.cluster, cluster)
    let needs = known.find()
    if (needs === undefined) {
      needs = this.#resolver.needs(this.#origins[stream]!, this.#dictionaries.cluster.text(cluster))
      known.keep(needs)
    }
    return needs
  }

  #growNeeds(): void {
    const old = this.#needs
    this.#needs = new Float64Array(old.length * 2)
    const mask = old.length - 1
    for (let k = 0; k < old.length; k += 2) {
      if (old[k] === 0) continue
      const pair = old[k]! - 1
      const stream = Math.floor(pair / 65_536)
      let at = (Math.imul(stream ^ ((pair & 0xffff) << 9), 0x9e3779b1) >>> 9) & mask
      while (this.#needs[2 * at] !== 0) at = (at + 1) & mask
      this.#needs[2 * at] = old[k]!
      this.#needs[2 * at + 1] = old[k + 1]!
    }
  }

  #grow(): void {
    const old = this.#slots
    this.#recent.fill(0)
    this.#mask = this.#mask * 2 + 1
    this.#slots = new Int32Array(SLOT * (this.#mask + 1))
    for (let from = 0; from < old.length; from += SLOT) {
      if (old[from] === 0) continue
      let at = (old[from + 6]! & this.#mask) * SLOT
      while (this.#slots[at] !== 0) at = (at + SLOT) & (this.#mask * SLOT + SLOT - 1)
      this.#slots.set(old.subarray(from, from + SLOT), at)
    }
  }
}
