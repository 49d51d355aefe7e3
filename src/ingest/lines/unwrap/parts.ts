/**
 * Joins lines that a runtime has cut. Streams may be interleaved; each has its own parts, and all together are bounded:
 *
 *     part ─► held (charsMax per line, streamsMax) ─ end ─► the whole line
 *                  │ too long: the rest is skipped to its end, counted once
 *                  └ too many streams: the one that waited longest is given up, counted
 */
export interface Parts {
  /** Null: held, or skipped. */
  add(stream: string, text: string, part: 'part' | 'end'): string | null
  /** Gives up what is held: the source has ended. Returns how many lines that were. */
  clear(): number
  /** Streams with an unfinished line. */
  readonly held: number
  /** Lines given up because they were too long, and because too many streams were unfinished at once. */
  readonly tooLong: number
  readonly abandoned: number
}

export interface PartsOptions {
  /** Characters of a whole line; in memory a character is one or two bytes. */
  readonly charsMax: number
  readonly streamsMax: number
}

export function createParts({ charsMax, streamsMax }: PartsOptions): Parts {
  /** Null: too long, to be skipped until its end. Map order is the order of the first part. */
  const streams = new Map<string, string | null>()
  const counts = { tooLong: 0, abandoned: 0 }
  return {
    add(stream, text, part) {
      const before = streams.get(stream)
      if (before === undefined && part === 'end') return text
      const tooLong = before === null || (before?.length ?? 0) + text.length > charsMax
      if (tooLong && before !== null) counts.tooLong++
      if (part === 'end') {
        streams.delete(stream)
        return tooLong ? null : before + text
      }
      if (before === undefined && streams.size >= streamsMax) {
        const oldest = streams.keys().next().value
        if (oldest !== undefined) streams.delete(oldest)
        counts.abandoned++
      }
      streams.set(stream, tooLong ? null : (before ?? '') + text)
      return null
    },
    clear() {
      const given = streams.size
      counts.abandoned += given
      streams.clear()
      return given
    },
    get held() {
      return streams.size
    },
    get tooLong() {
      return counts.tooLong
    },
    get abandoned() {
      return counts.abandoned
    },
  }
}
