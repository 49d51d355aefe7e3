import type { Batch } from '../model/batch.ts'
import type { Segment } from './segment.ts'

/**
 * The few shapes that everything which moves data has. See `docs/architecture.md` for the picture.
 *
 * Live sinks take a batch in place, synchronously, before its builder is reset. Durable sinks take sealed segments from
 * the journal, each at its own cursor.
 */
export interface Stage {
  readonly name: string
  /** Called once, downstream stages first. A failure aborts start-up. */
  start(): Promise<void>
  /** Drains until done or aborted. Safe to call twice, and before start. */
  stop(deadline: AbortSignal): Promise<void>
}

export interface LiveSink extends Stage {
  /** Called for every sealed batch, in order. Must not keep it, must not throw for bad data, must not block. */
  take(batch: Batch): void
}

export interface SegmentSink extends Stage {
  /** Called for one segment at a time, in order, again after `retry`. Expected failures are values, not throws. */
  send(segment: Segment, signal: AbortSignal): Promise<Outcome>
}

/**
 * `dropped`: rows of the segment that the sink left out as its user wants it: by a filter, or by sampling. `afterMs`: how
 * long the target asks to be left alone, at least.
 */
export type Outcome =
  | { readonly status: 'accepted'; readonly dropped?: number }
  | { readonly status: 'retry'; readonly error: Error; readonly afterMs?: number }
  | { readonly status: 'rejected'; readonly error: Error }
