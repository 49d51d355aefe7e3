/** What happened at one kind of records: `items` are log records, data points or spans. */
export interface SignalCounters {
  requests: number
  bytes: number
  /** Items in them, as far as they could be read. */
  items: number
  accepted: number
  /** Items refused, by reason; at least one where their number cannot be known. */
  readonly rejected: Map<string, number>
  /** Requests answered with an error, by reason. */
  readonly refused: Map<string, number>
  /** Wall clock, ms, of the last one; 0 before the first. */
  lastMs: number
}

export function createSignalCounters(): SignalCounters {
  return { requests: 0, bytes: 0, items: 0, accepted: 0, rejected: new Map(), refused: new Map(), lastMs: 0 }
}

export function count(reasons: Map<string, number>, reason: string, by = 1): void {
  if (by > 0) reasons.set(reason, (reasons.get(reason) ?? 0) + by)
}

/** What became of one request. */
export interface Decoded {
  readonly items: number
  readonly rejected: number
  /** The first reason, '' when nothing was rejected; and where, bytes after the start. */
  readonly reason: string
  readonly offset: number
  /** From some place on it is not protobuf. */
  readonly malformed: boolean
}
