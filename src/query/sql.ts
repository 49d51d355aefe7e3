import type { Statement } from '../model/query.ts'

/** Types that values are bound with. */
export type BoundType = 'String' | 'UInt64' | 'Int64' | 'Float64' | 'UUID' | 'UInt8' | 'Array(String)'

/**
 * Collects the values of one statement. A value gets into SQL in this way alone: `bind` keeps it and returns the
 * placeholder `{p0:Type}` that stands for it. What else is in a statement is our own text: names out of the schema's
 * table, and whole numbers that we computed.
 */
export class Bindings {
  readonly #params: Record<string, unknown> = {}
  #count = 0
  #bytes = 0

  bind(value: string | bigint | readonly string[], type: BoundType): string {
    const name = `p${this.#count++}`
    this.#params[name] = typeof value === 'bigint' ? value.toString() : value
    this.#bytes +=
      typeof value === 'object' ? value.reduce((sum, item) => sum + item.length + 3, 0) : String(value).length
    return `{${name}:${type}}`
  }

  /** Characters of all values: they travel in an address, which has a bound. */
  get bytes(): number {
    return this.#bytes
  }

  statement(sql: string): Statement {
    return { sql, params: this.#params }
  }
}

/** Conditions joined with AND; always true when there is none. */
export function allOf(conditions: readonly string[]): string {
  return conditions.length === 0 ? '1' : conditions.map((condition) => `(${condition})`).join(' AND ')
}
