import type { Clock } from '../lib/clock.ts'
import type { Log } from '../telemetry/log.ts'
import type { Delivery } from './delivery.ts'
import type { Journal } from './journal.ts'
import type { Segment } from './segment.ts'
import type { Outcome, Stage } from './sink.ts'

/** What the segments of one interval add up to. Made anew for each interval, and again when one has to be read again. */
export interface Aggregate {
  /** Adds one segment, whole or not at all as far as anybody sees: after a rejection the aggregate is thrown away. */
  add(segment: Segment, signal: AbortSignal): Promise<void>
  /** A bound is reached: the interval is sent before its time is over, and goes on in a further aggregate. */
  readonly full: boolean
}

/** Segments that were sealed from `fromMs` up to and without `toMs`, by our clock; both are multiples of the interval. */
export interface Interval {
  readonly fromMs: number
  readonly toMs: number
  /** Ids, in order. The same ids mean the same content, whenever and by whichever process they are put together. */
  readonly segments: readonly string[]
  /** Rows of them. */
  readonly rows: number
  /** Whether an earlier flush had segments of the same interval: gauges of it were sent before. */
  readonly again: boolean
}

export interface IntervalSink<A extends Aggregate> extends Stage {
  /** Called for one interval at a time, in order, again after `retry` with the same one. Expected failures are values. */
  flush(aggregate: A, interval: Interval, signal: AbortSignal): Promise<Outcome>
}

export interface IntervalDeliveryOptions<A extends Aggregate> {
  readonly sink: IntervalSink<A>
  readonly create: () => A
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Log
  /** Intervals begin at multiples of it since 1970. */
  readonly intervalMs: number
  /** How long after its end an interval waits for segments that are on their way to the disk. */
  readonly graceMs?: number
  /** Segments of one aggregate: bounds what a restart reads again. */
  readonly segmentsMax?: number
  readonly retryFirstMs?: number
  readonly retryMaxMs?: number
  readonly random?: () => number
}

export type { Delivery, Segment }
