import { finish } from '../../lib/hash.ts'

/**
 * Names the heaviest of any number of keys in fixed memory: a Count-Min sketch (Cormode and Muthukrishnan, 2005) that is
 * updated conservatively (Estan and Varghese, 2002), and beside it the keys that it says are heaviest.
 *
 * With N the weight of all keys, a weight is never too low and, with a probability of 98 %, too high by less than
 * e · N / 65 536, that is 0.4 % of a key that has a hundredth of it all. 2 MiB once there is a key.
 */
export class HeavyKeys {
  /** Of all keys. */
  weight = 0
  #cells = new Float64Array(0)
  /** Candidates; the lightest of them is looked for when another one is heavier. */
  readonly #heaviest = new Map<string, number>()
  #lightest = 0

  add(key: string, weight: number): void {
    if (this.#cells.length === 0) this.#cells = new Float64Array(DEPTH * WIDTH)
    this.weight += weight
    const cells = this.#cells
    let a = 0x811c9dc5
    let b = 0x9747b28c
    for (let k = 0; k < key.length; k++) {
      const unit = key.charCodeAt(k)
      a = Math.imul(a ^ unit, 0x01000193)
      b = Math.imul(b + unit, 0x5bd1e995) ^ (b >>> 15)
    }
    a = finish(a)
    b = finish(b) | 1
    let estimate = Number.POSITIVE_INFINITY
    for (let d = 0; d < DEPTH; d++) estimate = Math.min(estimate, cells[placeOf(a, b, d)]!)
    estimate += weight
    for (let d = 0; d < DEPTH; d++) {
      const at = placeOf(a, b, d)
      if (cells[at]! < estimate) cells[at] = estimate
    }
    if (this.#heaviest.size < CANDIDATES || this.#heaviest.has(key)) this.#heaviest.set(key, estimate)
    else if (estimate > this.#lightest) this.#replaceLightest(key, estimate)
  }

  /** Heaviest first. `error`: by how much a weight is too high at most, of all but one in fifty. */
  top(n: number): { readonly key: string; readonly weight: number; readonly error: number }[] {
    const error = Math.floor((Math.E * this.weight) / WIDTH)
    return [...this.#heaviest]
      .map(([key, weight]) => ({ key, weight, error: Math.min(error, weight) }))
      .sort((one, other) => other.weight - one.weight)
      .slice(0, n)
  }

  #replaceLightest(key: string, weight: number): void {
    let lightest = ''
    let least = Number.POSITIVE_INFINITY
    let second = Number.POSITIVE_INFINITY
    for (const [name, held] of this.#heaviest) {
      if (held < least) {
        second = least
        least = held
        lightest = name
      } else if (held < second) second = held
    }
    this.#lightest = least
    if (weight <= least) return
    this.#heaviest.delete(lightest)
    this.#heaviest.set(key, weight)
    this.#lightest = Math.min(second, weight)
  }
}

const DEPTH = 4
const WIDTH = 65_536
const CANDIDATES = 64

const placeOf = (a: number, b: number, d: number): number => d * WIDTH + ((a + Math.imul(d, b)) & (WIDTH - 1))
