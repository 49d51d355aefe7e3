/** What a PromQL expression is, once parsed. Times and durations are in ms. */
export type Expr =
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | Selector
  | { readonly kind: 'unary'; readonly expr: Expr }
  | Binary
  | Aggregation
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly Expr[] }

export interface Selector {
  readonly kind: 'selector'
  readonly matchers: readonly Matcher[]
  /** Of a range selector: `foo[5m]`. Null for an instant selector. */
  readonly rangeMs: number | null
  readonly offsetMs: number
  /** `@`: a fixed time in place of the time of evaluation. */
  readonly atMs: number | null
}

export interface Matcher {
  readonly label: string
  readonly op: '=' | '!=' | '=~' | '!~'
  readonly value: string
}

export interface Binary {
  readonly kind: 'binary'
  readonly op: BinaryOp
  readonly left: Expr
  readonly right: Expr
  /** Comparisons give 0 and 1 rather than filter. */
  readonly bool: boolean
  readonly on: boolean
  /** Labels of `on` or `ignoring`. */
  readonly labels: readonly string[]
}

export const ARITHMETIC = ['+', '-', '*', '/', '%', '^'] as const
export const COMPARISONS = ['==', '!=', '>', '<', '>=', '<='] as const
export const SETS = ['and', 'or', 'unless'] as const
export type BinaryOp = (typeof ARITHMETIC)[number] | (typeof COMPARISONS)[number] | (typeof SETS)[number]

export const AGGREGATIONS = ['sum', 'min', 'max', 'avg', 'count', 'group', 'topk', 'bottomk'] as const
export interface Aggregation {
  readonly kind: 'aggregation'
  readonly op: (typeof AGGREGATIONS)[number]
  readonly expr: Expr
  /** Of topk and bottomk. */
  readonly param: Expr | null
  readonly without: boolean
  readonly labels: readonly string[]
}

/** Why a query has no answer, in the words of Prometheus' API. */
export class PromError extends Error {
  readonly errorType: 'bad_data' | 'execution'

  constructor(errorType: 'bad_data' | 'execution', message: string) {
    super(message)
    this.errorType = errorType
  }
}
