import { randomBytes } from 'node:crypto'
import {
  type BeginAt,
  type CommittedPosition,
  type KafkaDriver,
  type KafkaHandlers,
  partitionKey,
  type RecordBatch,
  type TopicPartition,
} from '../../kafka/driver.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Note } from '../../pipeline/journal-format.ts'
import type { LaneGate, NoteSource } from '../../pipeline/lane.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import { createRejectedLog, type RejectedGroup } from '../als/rejected.ts'
import {
  beginningOf,
  type Claim,
  decodeClaim,
  decodeNote,
  decodeRelease,
  encodeClaim,
  encodeRelease,
  noteKey,
  type Place,
  releaseGroup,
} from './claims.ts'
import { Places } from './places.ts'
import type { RecordDecoder, Rejection } from './records.ts'

/**
 * Topics of one Kafka cluster, read as a member of a group. Every record is stored once: `claims.ts` says how.
 *
 *   fetch ─► claim ─► decode ─► lane (rows and place in one journal record) ─► fsync ─► commit ─► fetch …
 *
 * A record that cannot be read is counted and left behind: nothing in a topic stops what comes after it.
 */
export interface KafkaReceiver extends Stage {
  readonly group: string
  readonly counters: Readonly<KafkaCounters>
  /** What was refused lately, latest first. */
  rejected(): RejectedGroup[]
  /** Partitions that are ours now. */
  partitions(): KafkaPartition[]
}

export interface KafkaCounters {
  records: number
  bytes: number
  rows: number
  /** Records without a value. */
  tombstones: number
  /** Entries, or records where entries cannot be told, by reason. */
  readonly rejected: Map<string, number>
  claims: number
  commits: number
  /** Commits that came too late: the partition had gone to somebody else. */
  fenced: number
  /** Memberships. */
  generations: number
  /** Partitions that began in the middle of what somebody had claimed, by how it was settled. */
  readonly takeovers: Map<'own' | 'released' | 'expired', number>
  releases: number
  /** Requests to Kafka that failed and were tried again. */
  failures: number
  /** Wall clock, ms, of the last record; 0 before the first. */
  lastMs: number
}

export interface KafkaPartition extends TopicPartition {
  /** The next record to be stored. */
  readonly offset: bigint
  /** Records behind the end of the partition, when it was last read. */
  readonly lag: bigint
  /** Wall clock, ms, since when it waits for another consumer's word; null when it does not. */
  readonly waitsSinceMs: number | null
}

export interface KafkaReceiverOptions {
  readonly group: string
  readonly topics: readonly string[]
  readonly driver: KafkaDriver
  /** The decoder, and a way to read its counts; it calls back into the receiver. */
  readonly decoder: (callbacks: RecordCallbacks) => RecordDecoder
  readonly lane: {
    readonly gate: LaneGate
    synced(): Promise<void>
    addNoteSource(source: NoteSource): () => void
  }
  readonly journal: { notes(prefix: string): Iterable<Note> }
  /** Of this data directory, the same for ever: letters, digits and dashes. */
  readonly owner: string
  /** How long the records that another consumer claimed wait for it to come back. */
  readonly takeoverMs: number
  readonly clock: Clock
  readonly log: Log
}

export interface RecordCallbacks {
  onRows(rows: number): void
  onRejected(rejection: Rejection): void
}

interface Waiting extends TopicPartition {
  readonly claim: Claim
  /** What was committed: where to begin when nobody comes back. */
  readonly from: Place
  readonly sinceMs: number
}

const POLL_MS = 250
const RETRY_MS = 500
const RETRY_MS_MAX = 10_000

export function createKafkaReceiver(options: KafkaReceiverOptions): KafkaReceiver {
  return new Receiver(options)
}

class Receiver implements KafkaReceiver, KafkaHandlers {
  readonly name = 'kafka'
  readonly group: string
  readonly counters: KafkaCounters = {
    records: 0,
    bytes: 0,
    rows: 0,
    tombstones: 0,
    rejected: new Map(),
    claims: 0,
    commits: 0,
    fenced: 0,
    generations: 0,
    takeovers: new Map(),
    releases: 0,
    failures: 0,
    lastMs: 0,
  }
  readonly #options: KafkaReceiverOptions
  readonly #decoder: RecordDecoder
  readonly #places: Places
  readonly #rejectedLog = createRejectedLog()
  /** Claims are told apart by this and a number. */
  readonly #life = randomBytes(6).toString('hex')
  #claims = 0
  /** Where partitions of this generation are, and the claim that is not settled. */
  readonly #at = new Map<string, TopicPartition & { place: Place; claim: string | null; end: bigint }>()
  readonly #waiting = new Map<string, Waiting>()
  /** What has to be said in our own group. */
  readonly #releases = new Map<string, CommittedPosition>()
  readonly #stopping = new AbortController()
  #background: Promise<void> = Promise.resolve()
  #leaveLane: (() => void) | undefined
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  #roomWaiters: (() => void)[] = []

  constructor(options: KafkaReceiverOptions) {
    this.#options = options
    this.group = options.group
    this.#decoder = options.decoder({
      onRows: (rows) => {
        this.counters.rows += rows
      },
      onRejected: (rejection) => this.#reject(rejection),
    })
    this.#places = new Places(options.group, this.#decoder)
    const { gate } = options.lane
    gate.onOpen(() => {
      for (const wake of this.#roomWaiters.splice(0)) wake()
    })
  }

  /** Resolves at once: a broker that is away must not keep everything else from starting. */
  async start(): Promise<void> {
    this.#leaveLane = this.#options.lane.addNoteSource(this.#places)
    this.#started = this.#connect()
  }

  stop(_deadline: AbortSignal): Promise<void> {
    this.#stopped ??= this.#close()
    return this.#stopped
  }

  async #close(): Promise<void> {
    this.#stopping.abort()
    for (const wake of this.#roomWaiters.splice(0)) wake()
    await this.#started
    const { driver, log, group } = this.#options
    await driver.leave()
    await this.#background
    await this.#publishReleases().catch((error: unknown) => log.warn({ group, error }, 'a claim is left open'))
    await driver.close()
    this.#leaveLane?.()
  }

  rejected(): RejectedGroup[] {
    return this.#rejectedLog.list()
  }

  partitions(): KafkaPartition[] {
    return [...this.#at.values()].map(({ topic, partition, place, end }) => ({
      topic,
      partition,
      offset: place.offset,
      lag: end > place.offset ? end - place.offset : 0n,
      waitsSinceMs: this.#waiting.get(partitionKey(topic, partition))?.sinceMs ?? null,
    }))
  }

  async #connect(): Promise<void> {
    const { driver, log, group, clock } = this.#options
    const { signal } = this.#stopping
    for (let waitMs = RETRY_MS; !signal.aborted; waitMs = Math.min(2 * waitMs, RETRY_MS_MAX)) {
      try {
        await driver.start(this)
        break
      } catch (error) {
        this.counters.failures++
        log.warn({ group, error }, 'Kafka cannot be reached; trying again')
        await clock.sleep(waitMs, signal)
      }
    }
    if (!signal.aborted) this.#background = this.#inBackground()
  }

  // What the driver calls.

  async begin(partitions: readonly TopicPartition[]): Promise<BeginAt[]> {
    const { driver, group, topics, owner, clock, journal } = this.#options
    this.counters.generations++
    const committed = byPartition(await driver.committed(group, topics))
    const notes = new Map(journal.notes(`kafka/${group}/`))
    this.#at.clear()
    this.#waiting.clear()
    return partitions.map((at) => {
      const key = partitionKey(at.topic, at.partition)
      const begin = beginningOf(committed.get(key), notes.get(noteKey(group, at)), owner)
      if (begin.kind === 'default') return { ...at, at: null }
      if (begin.kind === 'wait') {
        this.#waiting.set(key, { ...at, claim: begin.claim, from: begin.from, sinceMs: clock.now() })
        this.#at.set(key, { ...at, place: begin.from, claim: null, end: 0n })
        return { ...at, at: 'wait' }
      }
      if (decodeClaim(committed.get(key)!.metadata) !== null) this.#tookOver('own')
      this.#at.set(key, { ...at, place: begin.place, claim: null, end: 0n })
      return { ...at, at: begin.place.offset }
    })
  }

  async records(batches: readonly RecordBatch[]): Promise<boolean> {
    const { owner } = this.#options
    if (this.#stopping.signal.aborted || !(await this.#room())) return false
    const claims = batches.map((batch) => this.#claim(batch))
    const claimed = claims.map(({ at, claim }) => committedAt(at, at.place.offset, encodeClaim({ owner, claim })))
    if ((await this.#commit(claimed)) !== 'ok') return false
    this.counters.claims += claims.length
    for (const { at, claim } of claims) {
      at.claim = claim
      this.#places.claim(at, claim, at.place)
    }
    // What was left in the middle is found by its note at the next start: rows that wait may still become durable.
    if (!(await this.#store(batches))) return false
    for (const [k, { nextOffset }] of batches.entries()) claims[k]!.at.place = { offset: nextOffset, within: 0 }
    const done = claims.map(({ at }) => committedAt(at, at.place.offset, ''))
    if ((await this.#commit(done)) === 'ok') {
      for (const { at } of claims) at.claim = null
      return true
    }
    this.#release(claims.map(({ at }) => at))
    return false
  }

  revoked(): void {
    this.#waiting.clear()
  }

  // One batch.

  #claim({ topic, partition, records, nextOffset, endOffset }: RecordBatch) {
    const key = partitionKey(topic, partition)
    let at = this.#at.get(key)
    if (at === undefined) {
      // It began where the group's `from` says.
      const place = { offset: records[0]?.offset ?? nextOffset, within: 0 }
      at = { topic, partition, place, claim: null, end: endOffset }
      this.#at.set(key, at)
    }
    at.end = endOffset
    return { at, claim: `${this.#life}-${++this.#claims}` }
  }

  /** Decodes and waits for the disk. False: it had to stop before the end. */
  async #store(batches: readonly RecordBatch[]): Promise<boolean> {
    const { clock } = this.#options
    const { counters } = this
    for (const batch of batches) {
      const { place } = this.#at.get(partitionKey(batch.topic, batch.partition))!
      for (const { offset, value } of batch.records) {
        if (offset < place.offset) continue
        counters.records++
        counters.bytes += value?.length ?? 0
        const base = offset === place.offset ? place.within : 0
        this.#places.open(batch, offset, base)
        if (value === null || value.length === 0) counters.tombstones++
        else this.#decoder.add(value, { topic: batch.topic, partition: batch.partition, offset }, base)
        this.#places.close()
        if (this.#decoder.due && !(await this.#drained())) return false
      }
      counters.lastMs = clock.now()
    }
    return (await this.#drained()) && this.#synced()
  }

  async #drained(): Promise<boolean> {
    while (!this.#decoder.commit()) if (!(await this.#room())) return false
    return true
  }

  async #synced(): Promise<boolean> {
    const { lane, clock, log } = this.#options
    for (;;) {
      try {
        await lane.synced()
        return true
      } catch (error) {
        if (!(await this.#room())) return false
        if (lane.gate.closed) continue
        this.counters.failures++
        log.warn({ error }, 'records of Kafka are not on the disk yet; trying again')
        await clock.sleep(RETRY_MS, this.#stopping.signal)
        if (this.#stopping.signal.aborted) return false
      }
    }
  }

  /** Waits while the journal takes nothing. False: stopped. */
  async #room(): Promise<boolean> {
    const { gate } = this.#options.lane
    while (gate.closed && !this.#stopping.signal.aborted) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve))
    }
    return !this.#stopping.signal.aborted
  }

  /** Tries until there is an answer: what is stored has to be settled, or found to be somebody else's. */
  async #commit(positions: readonly CommittedPosition[]): Promise<'ok' | 'fenced'> {
    const { driver, clock, log, group } = this.#options
    for (let waitMs = RETRY_MS; ; waitMs = Math.min(2 * waitMs, RETRY_MS_MAX)) {
      try {
        const answer = await driver.commit(positions)
        if (answer === 'ok') this.counters.commits++
        else this.counters.fenced++
        return answer
      } catch (error) {
        this.counters.failures++
        log.warn({ group, error }, 'offsets cannot be committed; trying again')
        if (this.#stopping.signal.aborted) return 'fenced'
        await clock.sleep(waitMs, this.#stopping.signal)
      }
    }
  }

  // Claims that were not settled.

  /** Says how far we came with claims that are open: somebody else may have the partition by now. */
  #release(partitions: readonly (TopicPartition & { claim: string | null })[]): void {
    for (const at of partitions) {
      if (at.claim === null) continue
      const place = this.#places.of(at.topic, at.partition)
      if (place !== undefined)
        this.#releases.set(partitionKey(at.topic, at.partition), encodeRelease(at, at.claim, place))
      at.claim = null
    }
  }

  /** At a start: claims of an earlier life of ours. Whoever has the partition waits for this. */
  async #releaseOld(): Promise<void> {
    const { driver, group, topics, owner, journal } = this.#options
    const notes = new Map(journal.notes(`kafka/${group}/`))
    for (const position of await driver.committed(group, topics)) {
      const claim = decodeClaim(position.metadata)
      if (claim === null || claim.owner !== owner || claim.claim.startsWith(`${this.#life}-`)) continue
      const place = decodeNote(notes.get(noteKey(group, position)), claim.claim) ?? {
        offset: position.offset,
        within: 0,
      }
      this.#releases.set(partitionKey(position.topic, position.partition), encodeRelease(position, claim.claim, place))
    }
  }

  async #inBackground(): Promise<void> {
    const { signal } = this.#stopping
    const { clock, log, group } = this.#options
    let oldReleased = false
    while (!signal.aborted) {
      try {
        if (!oldReleased) await this.#releaseOld()
        oldReleased = true
        await this.#publishReleases()
        await this.#askForReleases()
      } catch (error) {
        this.counters.failures++
        log.warn({ group, error }, 'what consumers of the group say of each other cannot be exchanged; trying again')
        await clock.sleep(RETRY_MS, signal)
      }
      await clock.sleep(POLL_MS, signal)
    }
  }

  async #publishReleases(): Promise<void> {
    if (this.#releases.size === 0) return
    const { driver, group, owner } = this.#options
    const saying = new Map(this.#releases)
    await driver.publish(releaseGroup(group, owner), [...saying.values()])
    this.counters.releases += saying.size
    for (const [key, position] of saying) if (this.#releases.get(key) === position) this.#releases.delete(key)
  }

  async #askForReleases(): Promise<void> {
    if (this.#waiting.size === 0) return
    const { driver, group, topics, takeoverMs, clock, log } = this.#options
    const waiting = [...this.#waiting]
    const owners = new Set(waiting.map(([, { claim }]) => claim.owner))
    const said = new Map<string, Map<string, CommittedPosition>>()
    for (const owner of owners) said.set(owner, byPartition(await driver.committed(releaseGroup(group, owner), topics)))
    for (const [key, one] of waiting) {
      // A new generation may have come meanwhile.
      if (this.#waiting.get(key) !== one) continue
      const release = said.get(one.claim.owner)?.get(key)
      const place = release === undefined ? null : decodeRelease(release, one.claim.claim)
      if (place !== null) this.#goOn(key, one, place, 'released')
      else if (clock.now() - one.sinceMs >= takeoverMs) {
        const { topic, partition, from } = one
        log.warn(
          { group, topic, partition, offset: String(from.offset), owner: one.claim.owner },
          'a consumer has not come back: records that it had begun with are read here, and may be stored twice',
        )
        this.#goOn(key, one, from, 'expired')
      }
    }
  }

  #goOn(key: string, { topic, partition }: Waiting, place: Place, how: 'released' | 'expired'): void {
    this.#waiting.delete(key)
    const at = this.#at.get(key)
    if (at === undefined) return
    at.place = place
    this.#tookOver(how)
    this.#options.driver.resume(topic, partition, place.offset)
  }

  #tookOver(how: 'own' | 'released' | 'expired'): void {
    const { takeovers } = this.counters
    takeovers.set(how, (takeovers.get(how) ?? 0) + 1)
  }

  #reject({ reason, count, source, nodeId, bytes, offset }: Rejection): void {
    const { rejected } = this.counters
    rejected.set(reason, (rejected.get(reason) ?? 0) + count)
    const peer = `kafka:${source.topic}/${source.partition}@${source.offset}`
    const timeMs = this.#options.clock.now()
    this.#rejectedLog.add({
      timeMs,
      reason,
      peer,
      nodeId: nodeId || `kafka:${source.topic}`,
      logName: this.#options.group,
      count,
      bytes,
      start: 0,
      end: bytes.length,
      offset,
    })
  }
}

function committedAt({ topic, partition }: TopicPartition, offset: bigint, metadata: string): CommittedPosition {
  return { topic, partition, offset, metadata }
}

function byPartition(positions: readonly CommittedPosition[]): Map<string, CommittedPosition> {
  return new Map(positions.map((position) => [partitionKey(position.topic, position.partition), position]))
}
