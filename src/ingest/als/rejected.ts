import { hostOf } from '../../lib/units.ts'

/**
 * What was refused lately, for people who look for the reason: grouped by reason and sender, the oldest group forgotten.
 */
export interface RejectedLog {
  add(entry: RejectedEntry): void
  /** Latest first. */
  list(): RejectedGroup[]
}

export interface RejectedEntry {
  readonly timeMs: number
  readonly reason: string
  readonly peer: string
  readonly nodeId: string
  readonly logName: string
  /** Entries refused, at least 1. */
  readonly count: number
  /** The message, and the place in it (bytes after its start) that could not be read. Not kept. */
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
  readonly offset: number
}

export interface RejectedGroup {
  readonly reason: string
  readonly peer: string
  readonly nodeId: string
  readonly logName: string
  readonly count: number
  readonly firstMs: number
  readonly lastMs: number
  /** Of the latest sample. */
  readonly messageBytes: number
  readonly offset: number
  /** Bytes around the offset, with every text replaced by its length. */
  readonly sample: string
}

const GROUPS_MAX = 64
/** A sender that sends nothing but damage costs one sample in this time. */
const SAMPLE_MS = 1000

export function createRejectedLog(): RejectedLog {
  const groups = new Map<string, { -readonly [K in keyof RejectedGroup]: RejectedGroup[K] } & { sampledMs: number }>()
  return {
    add(entry) {
      // By host: a sender that reconnects has a new port each time.
      const key = `${entry.reason}\0${entry.nodeId || hostOf(entry.peer)}\0${entry.logName}`
      let group = groups.get(key)
      if (group === undefined) {
        if (groups.size >= GROUPS_MAX) groups.delete(groups.keys().next().value!)
        group = {
          reason: entry.reason,
          peer: entry.peer,
          nodeId: entry.nodeId,
          logName: entry.logName,
          count: 0,
          firstMs: entry.timeMs,
          lastMs: entry.timeMs,
          messageBytes: 0,
          offset: 0,
          sample: '',
          sampledMs: Number.NEGATIVE_INFINITY,
        }
      } else groups.delete(key)
      groups.set(key, group) // Last in order: latest.
      group.count += entry.count
      group.lastMs = entry.timeMs
      group.peer = entry.peer
      if (entry.timeMs - group.sampledMs < SAMPLE_MS) return
      group.sampledMs = entry.timeMs
      group.messageBytes = entry.end - entry.start
      group.offset = entry.offset
      group.sample = redactedSample(entry.bytes, entry.start, entry.end, entry.offset)
    },
    list() {
      return [...groups.values()].reverse().map(({ sampledMs: _, ...group }) => group)
    },
  }
}

/** Bytes shown before and behind the place. */
const SHOWN = 48
/** Shorter runs of printable bytes are more often numbers than text. */
const TEXT_MIN = 3

/**
 * `0a 2b text(43) 12 >ff< ff 03`: bytes around `offset` in hexadecimal, texts as their lengths, since a text may be a
 * token or a cookie; the place itself in angle brackets.
 */
export function redactedSample(bytes: Uint8Array, start: number, end: number, offset: number): string {
  const place = Math.min(Math.max(start + offset, start), Math.max(start, end - 1))
  const from = Math.max(start, place - SHOWN)
  const to = Math.min(end, place + SHOWN)
  const parts: string[] = from > start ? ['…'] : []
  for (let at = from; at < to; ) {
    let run = at
    while (run < to && run !== place && isText(bytes[run]!)) run++
    // A short end of a text that goes on, beyond what is shown or over the place, is not shown either.
    const cut = (at > start && isText(bytes[at - 1]!)) || (run < end && isText(bytes[run]!))
    if (run - at >= TEXT_MIN || (run > at && cut)) {
      parts.push(`text(${run - at})`)
      at = run
      continue
    }
    if (isText(bytes[at]!) && at === place) {
      parts.push('>text<')
      at++
      continue
    }
    const hex = bytes[at]!.toString(16).padStart(2, '0')
    parts.push(at === place ? `>${hex}<` : hex)
    at++
  }
  if (to < end) parts.push('…')
  return parts.join(' ')
}

/** Printable ASCII, or part of a UTF-8 character; 0xf8 and above are in neither. */
function isText(byte: number): boolean {
  return byte >= 0x20 && byte < 0xf8 && byte !== 0x7f
}
