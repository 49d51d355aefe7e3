/**
 * Whether the counters of a proxy come as increases or as totals (`report_counters_as_deltas`). The messages do not say, but
 * inside one process a total never falls, and an increase falls all the time: at the latest when what happened at the start (a
 * listener created) is 0 in the second flush.
 *
 *   unknown ── a counter fell ──► delta          what was taken for totals so far is added up, once
 *      └──── `FLUSHES` without a fall ──► absolute       a fall is a reset from now on: a restart, `POST /reset_counters`
 *
 * The first flush of a process is the same in both readings. Until it is known each counter therefore keeps the sum of what it
 * said beside the last of it, and no reading loses anything.
 */
export type CounterMode = 'unknown' | 'delta' | 'absolute'

/** Flushes of one stream in which no counter fell, while some were above 0. Half a minute at Envoy's default. */
export const FLUSHES = 6

/** What is known of the proxies, by node id. A new stream of a known one needs no finding out. */
export interface CounterModes {
  get(nodeId: string): CounterMode
  set(nodeId: string, mode: CounterMode): void
}
