import type { Part } from './plan.ts'
import type { Quantity } from './schemas.ts'

/** A quantity as SQL over rows: its value in ns (UInt64, never NULL where `known` holds) and which rows have one. */
export interface RowQuantity {
  readonly value: string
  /** '1' when every row has it. */
  readonly known: string
}

/**
 * `upstream_ttfb` is from the last byte of the request towards the upstream to the first byte of its answer; an answer
 * that came before the request was out counts as 0.
 */
export function rowQuantity(quantity: Quantity): RowQuantity {
  if (quantity === 'total') return { value: 'duration_ns', known: '1' }
  if (quantity === 'upstream_ttfb') {
    const [sent, began] = ['assumeNotNull(t_up_tx_end)', 'assumeNotNull(t_up_rx_begin)']
    return {
      value: `(${began} - least(${began}, ${sent}))`,
      known: 'isNotNull(t_up_tx_end) AND isNotNull(t_up_rx_begin)',
    }
  }
  return { value: `assumeNotNull(phase_${quantity}_ns)`, known: 'phases_known' }
}

/** Rollups have the total and the phases. */
export function inRollups(quantity: Quantity): boolean {
  return quantity !== 'upstream_ttfb'
}

/** Columns of a rollup that a quantity is made from. */
export interface RollupQuantity {
  readonly n: string
  readonly sum: string
  readonly min: string
  readonly max: string
  readonly buckets: string
  readonly counts: string
}

export function rollupQuantity(quantity: Quantity): RollupQuantity {
  return {
    n: quantity === 'total' ? 'n' : 'phases_n',
    sum: `${quantity}_sum`,
    min: `${quantity}_min`,
    max: `${quantity}_max`,
    buckets: `\`${quantity}Map.bucket\``,
    counts: `\`${quantity}Map.count\``,
  }
}

export function isRows(part: Part): boolean {
  return part.table === 'requests'
}
