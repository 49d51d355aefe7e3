import type { Batch, IdentityResolver } from './batch.ts'
import type { RowTable } from './schema.ts'

/**
 * Collects rows of one table as columns and seals them into a batch. A batch and its Native block share the builder's
 * buffers: they are valid until `reset`.
 */
export interface BatchBuilder {
  readonly table: RowTable
  readonly rowsMax: number
  /** Rows so far, and how many more fit. A builder may be full earlier, when a dictionary or a heap is. */
  readonly rows: number
  readonly room: number
  seal(): Batch
  reset(): void
}

export interface BatchBuilderOptions {
  readonly table: RowTable
  /** At most 65 535, because dictionary codes have 16 bits. */
  readonly rowsMax: number
  readonly resolver: IdentityResolver
}
