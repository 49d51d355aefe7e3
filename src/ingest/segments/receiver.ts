import {
  type BeginAt,
  type CommittedPosition,
  type KafkaDriver,
  type KafkaHandlers,
  type KafkaRecord,
  partitionKey,
  type RecordBatch,
  type TopicPartition,
} from '../../kafka/driver.ts'
import { decodeHeader, type Manifest, type PartHeader } from '../../kafka/segment-records.ts'
import { decompressValue, releaseValue } from '../../kafka/value-codec.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import { isRowTable } from '../../pipeline/journal-format.ts'
import type { Segment } from '../../pipeline/segment.ts'
import type { Outcome, SegmentSink, Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import { decodeDoubt, encodeDoubt } from './doubt.ts'
import type { Assembly, Spool, WholeSegment } from './spool.ts'

/**
 * Segments of edges, out of Kafka and into the store, so that a query sees each row once.
 *
 *   fetch ─► parts to files ─► whole ─► commit "may be stored" ─► store ─► commit ─► fetch …
 *
 * Offsets are committed up to the first part of the oldest segment that is not stored. Whoever reads the partition next
 * begins there, and looks up in the store what may be in it: what lies before the offset that was committed beside it
 * (`doubt.ts`), and what its edge says it may have sent before. Everything else goes in unseen, under a token made of the
 * edge's segment id: an edge that was killed after the broker's answer sends its segment again at new offsets, and it is
 * still the same segment.
 *
 * Of each process of an edge one segment at most is unfinished in a partition: it sends one after another, and a newer send
 * ends the older one. What a killed process left unfinished goes when the segment comes whole from the next one.
 */
export interface SegmentReceiver extends Stage {
  readonly counters: Readonly<SegmentCounters>
  partitions(): SegmentPartition[]
  /** Why nothing is stored at the moment; null when all is well. */
  readonly trouble: string | null
}

export interface SegmentCounters {
  records: number
  bytes: number
  /** Put together: stored, refused, again, or being stored. */
  whole: number
  wholeRows: number
  /** The store said yes. */
  stored: number
  storedRows: number
  /** Refused by the store for good, and kept as dead letters. */
  refused: number
  refusedRows: number
  /** The store had it from us a moment ago: its edge had sent it again. */
  again: number
  againRows: number
  /** Looked up in the store first, because they may have been there. */
  doubtful: number
  /** Parts left behind, by reason. */
  readonly leftParts: Map<'foreign' | 'straggler', number>
  /** Segments left behind, by reason: begun anew by their edge, never finished, not what they should be. */
  readonly leftSegments: Map<LeftSegment, number>
  retries: number
  commits: number
  /** Commits that came too late: the partition had gone to somebody else. */
  fenced: number
  generations: number
  failures: number
  /** Wall clock, ms, of the last segment that the store took; 0 before. */
  lastMs: number
}

type LeftSegment = 'replaced' | 'abandoned' | 'gap' | 'damaged'

export interface SegmentPartition extends TopicPartition {
  /** The next record to read. */
  readonly offset: bigint
  /** Records that are not committed. */
  readonly lag: bigint
  /** Segments of which parts are here. */
  readonly unfinished: number
}

export interface SegmentReceiverOptions {
  readonly group: string
  readonly topic: string
  readonly driver: KafkaDriver
  /** Makes sure that there is a topic; rejects while no broker can be reached. */
  readonly prepare: () => Promise<void>
  readonly spool: Spool
  readonly sink: SegmentSink
  /** How long parts wait for the rest, once everything in the partition has been read. Longer than an edge sends at. */
  readonly abandonMs: number
  readonly clock: Clock
  readonly log: Log
  readonly random?: () => number
  /** ms that only grow, whatever the clock does. */
  readonly monotonic?: () => number
}

interface Unfinished {
  readonly assembly: Assembly
  readonly firstOffset: bigint
  /** `monotonic` when its last part was read. */
  readMs: number
}

interface Ready {
  readonly at: Reading
  readonly whole: WholeSegment
  readonly firstOffset: bigint
  readonly doubt: boolean
}

/** One partition of this generation. */
interface Reading extends TopicPartition {
  position: bigint
  end: bigint
  /** Records before it may be in the store. Null: everything that is there when we first look. */
  doubtUntil: bigint | null
  committed: bigint
  /** By process that sends. */
  readonly unfinished: Map<string, Unfinished>
  /** The newest send of each. */
  readonly newest: Map<string, number>
}

const RETRY_FIRST_MS = 100
const RETRY_MAX_MS = 5000
const CONNECT_MS = 500
/** Between two commits while a fetch is stored. */
const SETTLE_MS = 1000
const CONNECT_MS_MAX = 10_000

export function createSegmentReceiver(options: SegmentReceiverOptions): SegmentReceiver {
  return new Receiver(options)
}

class Receiver implements SegmentReceiver, KafkaHandlers {
  readonly name = 'segments'
  readonly counters: SegmentCounters = {
    records: 0,
    bytes: 0,
    whole: 0,
    wholeRows: 0,
    stored: 0,
    storedRows: 0,
    refused: 0,
    refusedRows: 0,
    again: 0,
    againRows: 0,
    doubtful: 0,
    leftParts: new Map(),
    leftSegments: new Map(),
    retries: 0,
    commits: 0,
    fenced: 0,
    generations: 0,
    failures: 0,
    lastMs: 0,
  }
  #trouble: string | null = null
  /** A schema that this program does not know. */
  #newer: string | null = null
  readonly #options: SegmentReceiverOptions
  readonly #backoff: Backoff
  readonly #monotonic: () => number
  readonly #readings = new Map<string, Reading>()
  readonly #stopping = new AbortController()
  /** Ends statements under way. */
  readonly #abort = new AbortController()
  /** Grows with each generation, and when one ends. */
  #epoch = 0
  /** This generation is over for us. */
  #over = true
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(options: SegmentReceiverOptions) {
    this.#options = options
    const { random = Math.random, monotonic = () => performance.now() } = options
    this.#monotonic = monotonic
    this.#backoff = new Backoff({ firstMs: RETRY_FIRST_MS, maxMs: RETRY_MAX_MS, random })
  }

  /** Resolves at once: a broker that is away must not keep everything else from starting. */
  async start(): Promise<void> {
    this.#started = this.#connect()
  }

  stop(deadline: AbortSignal): Promise<void> {
    this.#stopped ??= this.#close(deadline)
    return this.#stopped
  }

  async #close(deadline: AbortSignal): Promise<void> {
    const abort = () => this.#abort.abort()
    if (deadline.aborted) abort()
    deadline.addEventListener('abort', abort, { once: true })
    this.#stopping.abort()
    await this.#started
    await this.#options.driver.leave()
    await this.#forgetAll()
    await this.#options.driver.close()
    deadline.removeEventListener('abort', abort)
  }

  async #connect(): Promise<void> {
    const { driver, prepare, log, group, clock } = this.#options
    const { signal } = this.#stopping
    for (let waitMs = CONNECT_MS; !signal.aborted; waitMs = Math.min(2 * waitMs, CONNECT_MS_MAX)) {
      try {
        await prepare()
        await driver.start(this)
        return
      } catch (error) {
        this.counters.failures++
        log.warn({ group, error }, 'Kafka cannot be reached; trying again')
        await clock.sleep(waitMs, signal)
      }
    }
  }

  get trouble(): string | null {
    return this.#newer ?? this.#trouble
  }

  partitions(): SegmentPartition[] {
    return [...this.#readings.values()].map(({ topic, partition, position, end, committed, unfinished }) => ({
      topic,
      partition,
      offset: position,
      lag: end > committed && committed >= 0n ? end - committed : 0n,
      unfinished: unfinished.size,
    }))
  }

  // What the driver calls.

  async begin(partitions: readonly TopicPartition[]): Promise<BeginAt[]> {
    const { driver, group, topic } = this.#options
    this.counters.generations++
    this.#epoch++
    this.#over = true
    await this.#forgetAll()
    const committed = await driver.committed(group, [topic])
    this.#over = false
    return partitions.map((at) => {
      const found = committed.find((one) => one.topic === at.topic && one.partition === at.partition)
      this.#readings.set(partitionKey(at.topic, at.partition), {
        ...at,
        position: found?.offset ?? 0n,
        end: 0n,
        doubtUntil: found === undefined ? null : decodeDoubt(found.metadata),
        committed: found?.offset ?? -1n,
        unfinished: new Map(),
        newest: new Map(),
      })
      return { ...at, at: found?.offset ?? null }
    })
  }

  async records(batches: readonly RecordBatch[]): Promise<boolean> {
    if (this.#over) return false
    const epoch = this.#epoch
    const going = () => epoch === this.#epoch && !this.#stopping.signal.aborted
    const readings = [...this.#readings.values()]
    const ready: Ready[] = []
    let taken = true
    for (const batch of batches) {
      const at = this.#readings.get(partitionKey(batch.topic, batch.partition))
      if (at === undefined) return this.#giveUp()
      if (batch.endOffset < at.position) await this.#beginAnew(at, batch)
      at.end = batch.endOffset
      at.doubtUntil ??= batch.endOffset
      taken = (await this.#takeAll(at, batch, ready, going)) && taken
      await this.#abandon(at)
    }
    if (ready.length > 0) {
      const claimed = new Set(ready.map(({ at }) => at))
      for (const at of claimed) if (at.position > at.doubtUntil!) at.doubtUntil = at.position
      if (!(await this.#commit([...claimed], ready, going))) return this.#giveUp()
      let settledMs = this.#monotonic()
      while (ready.length > 0 && (await this.#store(ready[0]!, going))) {
        ready.shift()
        // A fetch may hold hundreds of small segments: whoever is killed among them must not begin at the first again.
        if (this.#monotonic() - settledMs < SETTLE_MS) continue
        if (!(await this.#settle(readings, ready, going))) return this.#giveUp()
        settledMs = this.#monotonic()
      }
    }
    const settled = await this.#settle(readings, ready, going)
    if (!settled || ready.length > 0) return this.#giveUp()
    // It will still be newer in a moment.
    if (!taken) await this.#options.clock.sleep(RETRY_MAX_MS, this.#stopping.signal)
    return taken
  }

  /** The topic was deleted and made again: its offsets begin at 0, and nothing is known of what is in it. */
  async #beginAnew(at: Reading, batch: RecordBatch): Promise<void> {
    const { topic, partition } = at
    this.#options.log.warn(
      { topic, partition },
      'a partition ends before where it was read up to: it is read from its beginning',
    )
    for (const sender of [...at.unfinished.keys()]) await this.#leave(at, sender, 'abandoned')
    at.position = batch.records[0]?.offset ?? batch.nextOffset
    at.doubtUntil = batch.endOffset
  }

  /** What is not committed is read again after the next `begin`, and until then nothing is. */
  #giveUp(): false {
    this.#over = true
    return false
  }

  revoked(): void {
    this.#epoch++
  }

  /** False: not to the end; the rest has to be read again. */
  async #takeAll(at: Reading, batch: RecordBatch, ready: Ready[], going: () => boolean): Promise<boolean> {
    for (const record of batch.records) {
      if (record.offset < at.position) continue
      if (!(await this.#take(at, record, ready, going))) return false
      at.position = record.offset + 1n
    }
    at.position = batch.nextOffset
    return true
  }

  /** False: it could not be taken. */
  async #take(at: Reading, { offset, value, headers }: KafkaRecord, ready: Ready[], going: () => boolean) {
    const { counters } = this
    counters.records++
    counters.bytes += value?.length ?? 0
    const header = headers === undefined || value === null ? null : decodeHeader(headers)
    if (header === null || value === null) {
      this.#left('foreign')
      return true
    }
    if ('newer' in header) {
      const text = `the partition ${at.partition} has segments of schema ${header.newer}: update this writer`
      if (this.#newer !== text) this.#options.log.error({ topic: at.topic, offset: String(offset) }, text)
      this.#newer = text
      return false
    }
    const unfinished = await this.#unfinished(at, header, offset)
    if (unfinished === null) return true
    const result = await this.#add(unfinished.assembly, header, value, going)
    if (result === null) return false
    unfinished.readMs = this.#monotonic()
    if (result === 'more' || result === 'again') return true
    const sender = senderOf(header)
    if (typeof result === 'string') {
      await this.#leave(at, sender, result)
      this.#options.log.error({ segment: header.segment, edge: header.node, result }, 'parts of a segment do not fit')
      return true
    }
    at.unfinished.delete(sender)
    // What a process before began with is here by now.
    for (const [other, { assembly }] of at.unfinished) {
      if (assembly.header.segment === header.segment) await this.#leave(at, other, 'replaced')
    }
    counters.whole++
    counters.wholeRows += rowsOf(result.segment)
    const doubt = header.doubt || offset < at.doubtUntil!
    ready.push({ at, whole: result, firstOffset: unfinished.firstOffset, doubt })
    return true
  }

  /** Where the part belongs; null when it is of a send that is over. */
  async #unfinished(at: Reading, header: PartHeader, offset: bigint): Promise<Unfinished | null> {
    const sender = senderOf(header)
    const known = at.unfinished.get(sender)
    const { number } = header.send
    const order = number - (at.newest.get(sender) ?? 0)
    if (known !== undefined && order === 0) return known
    if (order <= 0 || header.part > 1) {
      this.#left('straggler')
      return null
    }
    // A process sends one after another: with the next one, the one before is over.
    if (known !== undefined) await this.#leave(at, sender, 'replaced')
    at.newest.set(sender, number)
    const fresh = { assembly: this.#options.spool.begin(header), firstOffset: offset, readMs: this.#monotonic() }
    at.unfinished.set(sender, fresh)
    return fresh
  }

  /** Commits what is stored, of all partitions where that has changed. */
  async #settle(readings: readonly Reading[], ready: readonly Ready[], going: () => boolean): Promise<boolean> {
    const moved = readings.filter((at) => firstOpen(at, ready) !== at.committed)
    return moved.length === 0 || (await this.#commit(moved, ready, going))
  }

  /** Tries until the disk takes it. Null: it has to stop. */
  async #add(assembly: Assembly, header: PartHeader, value: Buffer, going: () => boolean) {
    const { clock, log } = this.#options
    const bytes = decompressValue(header.encoding, value)
    if (bytes === null) return 'damaged'
    for (;;) {
      try {
        const added = await assembly.add(header, bytes)
        // Without a codec they are the fetch's own.
        if (header.encoding !== 'none') releaseValue(bytes)
        return added
      } catch (error) {
        this.#failed(error, 'a segment cannot be put together')
        log.warn({ segment: header.segment, error }, 'parts of a segment cannot be written; trying again')
        await clock.sleep(this.#backoff.nextMs(), this.#stopping.signal)
        if (!going()) return null
      }
    }
  }

  /** Tries until the store says yes, or no for good. False: it has to stop. */
  async #store({ whole, doubt }: Ready, going: () => boolean): Promise<boolean> {
    const { spool, clock, log } = this.#options
    const { counters } = this
    const rows = rowsOf(whole.segment)
    if (sameManifest(spool.keptManifest(whole.segment.id), whole.manifest)) {
      counters.again++
      counters.againRows += rows
      await spool.accepted(whole)
      return true
    }
    if (doubt) counters.doubtful++
    const segment: Segment = { ...whole.segment, mayBeStored: doubt }
    while (going()) {
      const outcome = await this.#send(segment)
      if (outcome.status === 'accepted') {
        if (this.#backoff.failures > 0) log.info({ attempts: this.#backoff.failures }, 'storing again')
        this.#backoff.reset()
        this.#trouble = null
        counters.stored++
        counters.storedRows += rows
        counters.lastMs = clock.now()
        await spool.accepted(whole)
        return true
      }
      if (outcome.status === 'rejected' && (await this.#refuse(whole, outcome.error))) {
        log.error(
          { segment: segment.id, rows, error: outcome.error },
          'a segment was refused for good and kept as a dead letter',
        )
        counters.refused++
        counters.refusedRows += rows
        return true
      }
      counters.retries++
      if (this.#backoff.failures === 0) log.warn({ error: outcome.error }, 'a segment cannot be stored; trying again')
      this.#trouble = outcome.error.message
      const afterMs = outcome.status === 'retry' ? outcome.afterMs : undefined
      await clock.sleep(this.#backoff.nextMs(afterMs), this.#stopping.signal)
    }
    return false
  }

  async #send(segment: Segment): Promise<Outcome> {
    try {
      return await this.#options.sink.send(segment, this.#abort.signal)
    } catch (error) {
      // A bug in the sink. It may not cost rows.
      return { status: 'retry', error: error instanceof Error ? error : new Error(String(error)) }
    }
  }

  /** False: there is no room for a dead letter. */
  async #refuse(whole: WholeSegment, reason: Error): Promise<boolean> {
    try {
      await this.#options.spool.refused(whole, reason)
      return true
    } catch (error) {
      this.#failed(error, 'a dead letter cannot be kept')
      return false
    }
  }

  /** Commits where each partition has to be read from, and up to where it may be stored. False: it is too late. */
  async #commit(readings: readonly Reading[], ready: readonly Ready[], going: () => boolean): Promise<boolean> {
    const { driver, clock, log, group } = this.#options
    const { counters } = this
    const positions: CommittedPosition[] = readings.map((at) => ({
      topic: at.topic,
      partition: at.partition,
      offset: firstOpen(at, ready),
      metadata: encodeDoubt(at.doubtUntil!),
    }))
    for (let waitMs = CONNECT_MS; ; waitMs = Math.min(2 * waitMs, CONNECT_MS_MAX)) {
      try {
        const answer = await driver.commit(positions)
        if (answer === 'fenced') counters.fenced++
        else {
          counters.commits++
          for (const [k, at] of readings.entries()) at.committed = positions[k]!.offset
        }
        return answer === 'ok' && going()
      } catch (error) {
        this.#failed(error, 'offsets cannot be committed')
        log.warn({ group, error }, 'offsets cannot be committed; trying again')
        await clock.sleep(waitMs, this.#stopping.signal)
        if (!going()) return false
      }
    }
  }

  /** Parts whose rest never came. At the end of the partition there is nothing that could bring it. */
  async #abandon(at: Reading): Promise<void> {
    const { abandonMs, log } = this.#options
    if (at.position < at.end) return
    for (const [sender, { assembly, readMs }] of at.unfinished) {
      if (this.#monotonic() - readMs < abandonMs) continue
      const { segment, node } = assembly.header
      log.warn({ segment, edge: node }, 'a segment was never finished; if its edge comes back it sends it again')
      await this.#leave(at, sender, 'abandoned')
    }
  }

  async #leave(at: Reading, sender: string, reason: LeftSegment): Promise<void> {
    const { leftSegments } = this.counters
    leftSegments.set(reason, (leftSegments.get(reason) ?? 0) + 1)
    const unfinished = at.unfinished.get(sender)
    at.unfinished.delete(sender)
    await unfinished?.assembly.discard()
  }

  async #forgetAll(): Promise<void> {
    for (const { unfinished } of this.#readings.values()) {
      for (const { assembly } of unfinished.values()) await assembly.discard()
    }
    this.#readings.clear()
  }

  #failed(error: unknown, what: string): void {
    this.counters.failures++
    this.#trouble = `${what}: ${error instanceof Error ? error.message : String(error)}`
  }

  #left(reason: 'foreign' | 'straggler'): void {
    const { leftParts } = this.counters
    leftParts.set(reason, (leftParts.get(reason) ?? 0) + 1)
  }
}

const senderOf = ({ edge, send }: PartHeader): string => `${edge}/${send.epoch}`

/** Where the partition has to be read from if we were gone now. */
function firstOpen(at: Reading, ready: readonly Ready[]): bigint {
  let first = at.position
  for (const { firstOffset } of at.unfinished.values()) if (firstOffset < first) first = firstOffset
  for (const one of ready) if (one.at === at && one.firstOffset < first) first = one.firstOffset
  return first
}

function sameManifest(a: Manifest | null, b: Manifest): boolean {
  return a !== null && JSON.stringify(a) === JSON.stringify(b)
}

function rowsOf({ tables }: Segment): number {
  return tables.reduce((sum, { table, rows }) => sum + (isRowTable(table) ? rows : 0), 0)
}
