/**
 * Names the heaviest of many keys in fixed memory (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and
 * top-k elements", 2005: Space-Saving). A key that makes up more than 1 / capacity of all weight is surely among them;
 * a weight is too high by at most `error`.
 */
export class SpaceSaving {
  readonly #capacity: number
  readonly #entries = new Map<string, { weight: number; error: number }>()

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  add(key: string, weight: number): void {
    const entry = this.#entries.get(key)
    if (entry !== undefined) {
      entry.weight += weight
      return
    }
    let error = 0
    if (this.#entries.size >= this.#capacity) {
      let lightest = ''
      error = Number.POSITIVE_INFINITY
      for (const [name, { weight: held }] of this.#entries) {
        if (held >= error) continue
        lightest = name
        error = held
      }
      this.#entries.delete(lightest)
    }
    this.#entries.set(key, { weight: error + weight, error })
  }

  /** Heaviest first. */
  top(n: number): { readonly key: string; readonly weight: number; readonly error: number }[] {
    return [...this.#entries]
      .map(([key, { weight, error }]) => ({ key, weight, error }))
      .sort((a, b) => b.weight - a.weight)
      .slice(0, n)
  }
}
