/**
 * A bounded map for what is found again often: entries live in a young generation, and when it is full it becomes the
 * old one and the former old one is forgotten. What is used moves to the young one, so it stays; no entry costs more
 * than a Map's, and no moment is slow.
 */
export interface Generations<Key, Value> {
  get(key: Key): Value | undefined
  set(key: Key, value: Value): void
  /** Entries held, at most `entriesMax`; one that moved may count twice. */
  readonly size: number
}

export function createGenerations<Key, Value>(entriesMax: number): Generations<Key, Value> {
  const half = Math.max(1, Math.floor(entriesMax / 2))
  let young = new Map<Key, Value>()
  let old = new Map<Key, Value>()
  const set = (key: Key, value: Value): void => {
    if (young.size >= half && !young.has(key)) {
      old = young
      young = new Map()
    }
    young.set(key, value)
  }
  return {
    get(key) {
      const found = young.get(key)
      if (found !== undefined) return found
      const earlier = old.get(key)
      if (earlier !== undefined) set(key, earlier)
      return earlier
    },
    set,
    get size() {
      return young.size + old.size
    },
  }
}
