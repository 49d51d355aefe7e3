import type { CommittedPosition, TopicPartition } from '../../kafka/driver.ts'

/**
 * How records are stored once although partitions change hands, and consumers are killed between storing and committing.
 *
 * A commit alone cannot tell: between the fsync of rows and the commit of their offsets a consumer may die, and whoever
 * takes the partition over begins before those rows. So a consumer says first what it is about to store, in the metadata
 * of a commit that the broker takes from the present owner alone:
 *
 *   1  commit  offset = where we are,      metadata = "sidecast <owner> <claim>"      the claim
 *   2  journal rows, and with them in one record the note  {claim, offset, within}
 *   3  fsync
 *   4  commit  offset = what is stored,    metadata = ""                              the claim is settled
 *
 * Whoever begins with a partition finds a settled offset and goes on there, or a claim:
 *   - its own, from an earlier life or generation: the note says how far it came, or that it stored nothing of it;
 *   - somebody else's: it waits until that one says how far it came, in a group of its own, which each consumer does when
 *     it starts and when a commit of its own was refused. Who does not come back within `takeover` is not waited for any
 *     longer: then records may be stored twice, and are counted.
 *
 * A claim is never used again: a note or a release with the same name speaks of exactly these records.
 */
export interface Claim {
  /** The installation that made it: a data directory, over restarts. */
  readonly owner: string
  readonly claim: string
}

/** A place in a partition: the next record, and how many entries of it are stored already. */
export interface Place {
  readonly offset: bigint
  readonly within: number
}

const WORD = 'sidecast'
const NAME = /^[0-9A-Za-z-]{1,64}$/

export function encodeClaim({ owner, claim }: Claim): string {
  return `${WORD} ${owner} ${claim}`
}

/** Null for anything else: other programs may have committed for the group. */
export function decodeClaim(metadata: string): Claim | null {
  const [word, owner = '', claim = '', ...rest] = metadata.split(' ')
  if (word !== WORD || rest.length > 0 || !NAME.test(owner) || !NAME.test(claim)) return null
  return { owner, claim }
}

/** The group where a consumer says how far it came with claims that it could not settle. */
export function releaseGroup(group: string, owner: string): string {
  return `${group}.sidecast.${owner}`
}

export function encodeRelease(at: TopicPartition, claim: string, { offset, within }: Place): CommittedPosition {
  return { topic: at.topic, partition: at.partition, offset, metadata: `${claim} ${within}` }
}

/** How far the owner came with this claim; null when the release speaks of another one. */
export function decodeRelease({ offset, metadata }: CommittedPosition, claim: string): Place | null {
  const [name, within = ''] = metadata.split(' ')
  if (name !== claim || !/^\d{1,9}$/.test(within)) return null
  return { offset, within: Number(within) }
}

/** Key and value of the note beside the rows. Offsets are texts: JSON has no 64-bit integers. */
export function noteKey(group: string, { topic, partition }: TopicPartition): string {
  return `kafka/${group}/${topic}/${partition}`
}

export interface PlaceNote {
  readonly claim: string
  readonly offset: string
  readonly within: number
}

export function encodeNote(claim: string, { offset, within }: Place): PlaceNote {
  return { claim, offset: String(offset), within }
}

/** How far we came with this claim; null when the note speaks of another one, or is none. */
export function decodeNote(value: unknown, claim: string): Place | null {
  if (typeof value !== 'object' || value === null) return null
  const { claim: name, offset, within } = value as Record<string, unknown>
  if (name !== claim || typeof offset !== 'string' || !/^\d{1,19}$/.test(offset)) return null
  if (!Number.isSafeInteger(within) || (within as number) < 0) return null
  return { offset: BigInt(offset), within: within as number }
}

export type Beginning =
  | { readonly kind: 'at'; readonly place: Place }
  /** The group never committed anything. */
  | { readonly kind: 'default' }
  | { readonly kind: 'wait'; readonly claim: Claim; readonly from: Place }

/** Where to begin with a partition, by what was committed for it and what we noted. */
export function beginningOf(committed: CommittedPosition | undefined, note: unknown, owner: string): Beginning {
  if (committed === undefined) return { kind: 'default' }
  const settled = { offset: committed.offset, within: 0 }
  const claim = decodeClaim(committed.metadata)
  if (claim === null) return { kind: 'at', place: settled }
  if (claim.owner !== owner) return { kind: 'wait', claim, from: settled }
  return { kind: 'at', place: decodeNote(note, claim.claim) ?? settled }
}
