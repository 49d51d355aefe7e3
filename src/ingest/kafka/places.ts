import { partitionKey, type TopicPartition } from '../../kafka/driver.ts'
import type { Note } from '../../pipeline/journal-format.ts'
import type { NoteSource } from '../../pipeline/lane.ts'
import { encodeNote, noteKey, type Place } from './claims.ts'

/** How far a decoder came: what it was given, and what of it is in the builders or rejected. Both only grow. */
export interface Progress {
  readonly added: number
  readonly taken: number
  /** Of a record of which a part is taken: the place in it to go on at. `start`: `added` before it; `base`: where it began. */
  within(start: number, base: number): number
}

/** A record that was handed to the decoder: entries `start … end − 1` of it. */
interface Span {
  readonly key: string
  readonly offset: bigint
  readonly base: number
  readonly start: number
  end: number
}

interface PartitionPlace extends TopicPartition {
  readonly noteKey: string
  claim: string
  place: Place
  /** There are rows that the journal has not. */
  changed: boolean
}

/**
 * Where each partition is, by the rows that are in the builders now: what the lane writes beside them. Records go to the
 * decoder ahead of their rows; a record is behind us when its last entry is a row or rejected.
 *
 *   spans   │ record 7: entries 12…15 │ record 8: 16…40 │ record 9: 41…41 │
 *                                            ↑ taken = 20: place is {offset: 8, within: 4}
 */
export class Places implements NoteSource {
  readonly #group: string
  readonly #progress: Progress
  readonly #partitions = new Map<string, PartitionPlace>()
  #spans: Span[] = []
  #head = 0

  constructor(group: string, progress: Progress) {
    this.#group = group
    this.#progress = progress
  }

  /** Begins with a claim: what is noted from here on is of it. */
  claim({ topic, partition }: TopicPartition, claim: string, place: Place): void {
    const at = { topic, partition }
    const key = partitionKey(topic, partition)
    this.#partitions.set(key, { ...at, noteKey: noteKey(this.#group, at), claim, place, changed: false })
  }

  /** A record goes to the decoder now, which goes on in it at `base`. */
  open({ topic, partition }: TopicPartition, offset: bigint, base: number): void {
    const { added } = this.#progress
    const span = { key: partitionKey(topic, partition), offset, base, start: added, end: Number.POSITIVE_INFINITY }
    this.#spans.push(span)
  }

  /** The decoder has been given all of the record. */
  close(): void {
    this.#spans[this.#spans.length - 1]!.end = this.#progress.added
  }

  /** The place of a partition, by the rows so far. */
  of(topic: string, partition: number): Place | undefined {
    this.#advance()
    return this.#partitions.get(partitionKey(topic, partition))?.place
  }

  notes(): readonly Note[] {
    this.#advance()
    const notes: Note[] = []
    for (const { changed, noteKey: key, claim, place } of this.#partitions.values()) {
      if (changed) notes.push([key, encodeNote(claim, place)])
    }
    return notes
  }

  noted(): void {
    for (const partition of this.#partitions.values()) partition.changed = false
  }

  #advance(): void {
    const { taken } = this.#progress
    for (; this.#head < this.#spans.length; this.#head++) {
      const span = this.#spans[this.#head]!
      if (span.end > taken) {
        const within = this.#progress.within(span.start, span.base)
        if (within > span.base) this.#set(span.key, { offset: span.offset, within })
        break
      }
      this.#set(span.key, { offset: span.offset + 1n, within: 0 })
    }
    if (this.#head === this.#spans.length) {
      this.#spans.length = 0
      this.#head = 0
    } else if (this.#head > SPANS_KEPT) {
      this.#spans = this.#spans.slice(this.#head)
      this.#head = 0
    }
  }

  #set(key: string, place: Place): void {
    const partition = this.#partitions.get(key)
    if (partition === undefined) return
    if (partition.place.offset === place.offset && partition.place.within === place.within) return
    partition.place = place
    partition.changed = true
  }
}

const SPANS_KEPT = 4096
