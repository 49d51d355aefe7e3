/**
 * What a writer commits beside an offset: up to where records may be in the store already. Written before anything of them
 * is stored, so whoever reads the partition next, after a crash or a rebalance, looks up what is stored before that offset
 * and need not look from there on.
 *
 *   committed ─────────── doubtful until ──────── end
 *      │ may be stored: look up  │  nobody had it  │
 */
export function encodeDoubt(until: bigint): string {
  return `sidecast-writer/1 ${until}`
}

/** Null when it is not ours: offsets were set by hand, or by another program. Then everything may be stored. */
export function decodeDoubt(metadata: string): bigint | null {
  const match = /^sidecast-writer\/1 (\d{1,19})$/.exec(metadata)
  return match === null ? null : BigInt(match[1]!)
}
