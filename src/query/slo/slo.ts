import type { View } from '../schemas.ts'
import type { Nanos } from '../time.ts'

/** An objective with everything that is needed to count it. One with several targets is as many of these. */
export interface Slo {
  /** `metadata.name`; with `-1`, `-2` … where there are several objectives. */
  readonly name: string
  readonly displayName: string
  readonly description: string
  readonly service: string
  readonly labels: Readonly<Record<string, string>>
  /** Share of requests that must be good, 0 < target < 1. */
  readonly target: number
  /** The time that the budget is for; ends at the time that is asked about. */
  readonly period: { readonly text: string; readonly ns: Nanos }
  readonly indicator: Indicator
  /** `metadata.name` of the document, which several objectives may share. */
  readonly document: string
  readonly origin: SloOrigin
  /** `file:line`. */
  readonly place: string
}

/** Whether `slo.files` has it, or somebody put it here over HTTP. */
export const SLO_ORIGINS = ['file', 'api'] as const
export type SloOrigin = (typeof SLO_ORIGINS)[number]

/** Which requests count, and which of those are good. Conditions are those of `where`. */
export interface Indicator {
  /** All must hold. */
  readonly total: readonly string[]
  /** A request that one of these holds for is left out, and counted as excluded. */
  readonly exclude: readonly string[]
  /** All must hold. */
  readonly match: readonly string[]
  /** What a request is that `match` holds for. */
  readonly matches: 'good' | 'bad'
  readonly view: View
}
