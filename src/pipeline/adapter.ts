import type { Clock } from '../lib/clock.ts'
import type { Log } from '../telemetry/log.ts'
import type { Delivery } from './delivery.ts'
import type { Journal } from './journal.ts'
import type { Stage } from './sink.ts'

/** What every adapter gets of the process that it is a part of. */
export interface AdapterShared {
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Log
  /** The data directory. An adapter that keeps files has a folder of its own below. */
  readonly data: string
  /** Name of this machine, for what a target calls source or instance. */
  readonly host: string
  /** Of the program. */
  readonly version: string
}

/**
 * One configured target: its sinks, and the deliveries that bring them segments. Each sink has a reader and a cursor of
 * its own, named like the sink, so nothing of one target waits for another.
 *
 * `src/adapters/<name>/open.ts` makes it: `openX(config, shared)`, null where nothing is configured. It throws a
 * `SidecastError` for what a user can mend, and does not connect: that is what `start` and `send` are for, and a target
 * that is away must not keep the process from starting.
 */
export interface Adapter {
  readonly name: string
  /** For people: address or URL, without credentials. */
  readonly endpoint: string
  /** In the order in which they start: sinks before their deliveries. They stop the other way round. */
  readonly stages: readonly Stage[]
  readonly deliveries: readonly Delivery[]
  /** What only this adapter counts, in its own units, since the process started: `lines_rejected_total: 3`. */
  readonly counters?: () => Readonly<Record<string, number>>
}
