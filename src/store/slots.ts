import { engineError } from './engine-error.ts'

/**
 * A bounded number of places and a bounded queue for them, first come first served.
 *
 * Invariant: nobody waits while a place is free, `running ≤ places`, `waiting.length ≤ waitingMax`.
 */
export class Slots {
  readonly #name: string
  readonly #places: number
  readonly #waitingMax: number
  readonly #waitMsMax: number
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(options: { name: string; places: number; waitingMax: number; waitMsMax: number }) {
    this.#name = options.name
    this.#places = options.places
    this.#waitingMax = options.waitingMax
    this.#waitMsMax = options.waitMsMax
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** Runs `work` in a place of its own; rejects when there is no room to wait, the wait is too long, or nobody cares. */
  async run<Result>(signal: AbortSignal, work: () => Promise<Result>): Promise<Result> {
    await this.#enter(signal)
    try {
      return await work()
    } finally {
      this.#leave()
    }
  }

  #enter(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(engineError('QUERY_WAS_CANCELLED', 'The client left'))
    if (this.#running < this.#places) {
      this.#running++
      return Promise.resolve()
    }
    if (this.#waiting.length >= this.#waitingMax) {
      return Promise.reject(this.#tooMany(`${this.#running} run and ${this.#waiting.length} wait`))
    }
    return new Promise((resolve, reject) => {
      const give = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const drop = (error: Error) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', leave)
        this.#waiting.splice(this.#waiting.indexOf(give), 1)
        reject(error)
      }
      const leave = () => drop(engineError('QUERY_WAS_CANCELLED', 'The client left'))
      const timer = setTimeout(() => drop(this.#tooMany(`waited ${this.#waitMsMax} ms`)), this.#waitMsMax)
      signal.addEventListener('abort', leave, { once: true })
      this.#waiting.push(give)
    })
  }

  /** The place goes to the next in the queue without becoming free in between. */
  #leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running--
    else next()
  }

  #tooMany(detail: string): Error {
    return engineError('TOO_MANY_SIMULTANEOUS_QUERIES', `Too many statements of kind ${this.#name}: ${detail}`)
  }
}
