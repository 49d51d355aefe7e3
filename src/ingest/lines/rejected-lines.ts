/** Lines refused lately, for people who look for the reason: grouped by reason and source, the oldest group forgotten. */
export interface RejectedLines {
  add(line: {
    readonly reason: string
    /** Path, or address of the sender. */
    readonly source: string
    /** Offset behind the line, or its number. */
    readonly position: number
    readonly text: string
    readonly timeMs: number
  }): void
  /** Latest first. */
  list(): RejectedLinesGroup[]
}

export interface RejectedLinesGroup {
  readonly reason: string
  readonly source: string
  readonly count: number
  readonly firstMs: number
  readonly lastMs: number
  /** Of the latest sample. */
  readonly position: number
  /** Its shape: letters as `a`, digits as `0`, for a line may hold a token. */
  readonly sample: string
}

const GROUPS_MAX = 64
const SAMPLE_MS = 1000
const SAMPLE_CHARS = 160

export function createRejectedLines(): RejectedLines {
  const groups = new Map<
    string,
    { -readonly [K in keyof RejectedLinesGroup]: RejectedLinesGroup[K] } & { atMs: number }
  >()
  return {
    add({ reason, source, position, text, timeMs }) {
      const key = `${reason}\0${source}`
      let group = groups.get(key)
      if (group === undefined) {
        if (groups.size >= GROUPS_MAX) groups.delete(groups.keys().next().value!)
        const atMs = Number.NEGATIVE_INFINITY
        group = { reason, source, count: 0, firstMs: timeMs, lastMs: timeMs, position, sample: '', atMs }
      } else groups.delete(key)
      groups.set(key, group)
      group.count++
      group.lastMs = timeMs
      if (timeMs - group.atMs < SAMPLE_MS) return
      group.atMs = timeMs
      group.position = position
      group.sample = shapeOf(text)
    },
    list: () => [...groups.values()].reverse().map(({ atMs: _, ...group }) => group),
  }
}

export function shapeOf(text: string): string {
  const shown = text
    .slice(0, SAMPLE_CHARS)
    .replace(/\p{L}/gu, 'a')
    .replace(/\d/g, '0')
    .replace(/[^\x20-\x7e]/g, '·')
  return text.length > SAMPLE_CHARS ? `${shown}…` : shown
}
