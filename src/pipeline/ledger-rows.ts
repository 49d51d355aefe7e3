import type { Batch, Origin } from '../model/batch.ts'

/**
 * Rows of one node by the source they came by, and by when they ended, as finely as Envoy's counters have to be compared
 * with them. Sums since the process began; when a row ended matters for `KEPT_MS` only, and from `timed` on.
 *
 *   bins of 100 ms   │ 3 │ 0 │ 7 │ … │       a ring: the place of a bin is used again 60 s later
 */
export class NodeRows {
  /** By source, since the process began: rows of `requests`. */
  readonly bySource = new Map<Origin['source'], SourceRows>()
  /** 4.8 kB for each source: for nodes whose stats come. */
  timed = false
  /** When the first of these rows to end did so, ms since the epoch; Infinity before any. */
  firstEndMs = Number.POSITIVE_INFINITY

  /** Rows since the process began, by all sources. */
  get total(): number {
    let sum = 0
    for (const { total } of this.bySource.values()) sum += total
    return sum
  }

  add(source: Origin['source'], endMs: number, tcp: boolean, success: boolean): void {
    let rows = this.bySource.get(source)
    if (rows === undefined) {
      rows = new SourceRows()
      this.bySource.set(source, rows)
    }
    if (endMs < this.firstEndMs) this.firstEndMs = endMs
    rows.add(endMs, tcp, success, this.timed)
  }

  /** The source whose rows count: of several, the one that says most. */
  primary(order: readonly Origin['source'][] = SOURCES): Origin['source'] | null {
    return order.find((source) => this.bySource.has(source)) ?? null
  }
}

/** The order of design: what has nanoseconds and everything else before what has milliseconds and less. */
export const SOURCES: readonly Origin['source'][] = ['als', 'otlp', 'json', 'text', 'kafka']

const BIN_MS = 100
const KEPT_MS = 60_000
const BINS = KEPT_MS / BIN_MS

export class SourceRows {
  total = 0
  tcp = 0
  successes = 0
  #counts: Uint32Array | null = null
  /** Number of the bin that a place in the ring holds. */
  #bins = new Float64Array(0)

  add(endMs: number, tcp: boolean, success: boolean, timed: boolean): void {
    this.total++
    if (tcp) this.tcp++
    if (success) this.successes++
    if (!timed) return
    if (this.#counts === null) {
      this.#counts = new Uint32Array(BINS)
      this.#bins = new Float64Array(BINS).fill(-1)
    }
    const bin = Math.max(0, Math.floor(endMs / BIN_MS))
    const place = bin % BINS
    if (this.#bins[place] !== bin) {
      // A row from long ago must not clear what is newer.
      if (this.#bins[place]! > bin) return
      this.#bins[place] = bin
      this.#counts[place] = 0
    }
    this.#counts[place]!++
  }

  /** Rows that ended later than this, as far as is remembered. The bin that the time is in counts as not later. */
  after(timeMs: number): number {
    if (this.#counts === null) return 0
    const bin = Math.floor(timeMs / BIN_MS)
    let count = 0
    for (let place = 0; place < BINS; place++) if (this.#bins[place]! > bin) count += this.#counts[place]!
    return count
  }
}

/** What every batch of requests adds: rows by node. */
export function addBatch(batch: Batch, nodeOf: (nodeId: string) => NodeRows): void {
  if (batch.table !== 'requests') return
  const { rows, streams, stream, endSeconds, endNanos, kind, responseClass } = batch
  const nodes = streams.map(({ nodeId }) => nodeOf(nodeId))
  for (let row = 0; row < rows; row++) {
    const at = stream[row]!
    const endMs = endSeconds[row]! * 1000 + endNanos[row]! / 1e6
    nodes[at]!.add(streams[at]!.source, endMs, kind[row] !== 0, responseClass[row] === SUCCESS)
  }
}

/** Index in CLASSES. */
const SUCCESS = 0
