import type { RequestOutcome, ResponseClass } from '../model/schema.ts'
import type { KnownColumn } from './columns.ts'
import type { Filter } from './filters.ts'
import type { Plan } from './plan.ts'
import type { Quantile } from './quantiles.ts'
import type { Quantity } from './schemas.ts'
import type { Nanos } from './time.ts'
import type { ResolvedView } from './view.ts'

/** What a reader is asked: distributions of some quantities over a plan, by label set and point. */
export interface Ask {
  readonly plan: Plan
  readonly filters: readonly Filter[]
  readonly view: ResolvedView
  readonly groups: readonly KnownColumn[]
  /** Width of a point; null: one point. */
  readonly step: Nanos | null
  readonly quantities: readonly Quantity[]
  readonly quantiles: readonly Quantile[]
  /** Requests by class and outcome are wanted too. */
  readonly breakdown: boolean
  /** Requests without phases are to be counted beside, not left out unseen. */
  readonly countUnknown: boolean
  readonly now: Nanos
  /** Most groups in the answer. */
  readonly groupsMax: number
}

/** One label set at one point. */
export interface Group {
  readonly labels: readonly string[]
  /** Number of the point: its start over the step. */
  readonly point: bigint
  /** All requests, those without a value of the quantity included. */
  readonly requests: number
  /** In the order of `Ask.quantities`. */
  readonly distributions: readonly Distribution[]
  readonly classes: Readonly<Record<ResponseClass, number>> | null
  readonly outcomes: Readonly<Record<RequestOutcome, number>> | null
  /** Coarsest resolution among the rows, ns; null when rollups were read, which do not know it. */
  readonly precisionNs: number | null
}

/** In ns. */
export interface Distribution {
  readonly n: number
  readonly sum: bigint
  readonly min: number
  readonly max: number
  /** In the order of `Ask.quantiles`; empty when n is 0. */
  readonly quantiles: readonly DoubtedNs[]
}

export interface DoubtedNs {
  readonly value: number
  readonly low: number
  readonly high: number
  /** Null: not known, or open. Absent: not asked. */
  readonly lossLow?: number | null
  readonly lossHigh?: number | null
  readonly ciLow?: number | null
  readonly ciHigh?: number | null
  readonly cutShort?: number | null
}

/** Doubts beyond that of the buckets. */
export interface Doubts {
  /** Requests lost in a point; null when that is not known. Absent: not asked. */
  readonly loss?: (point: bigint) => number | null
  readonly few: boolean
}

export const NO_DOUBTS: Doubts = { few: false }
