import type { Sender } from '../../lib/senders.ts'

/**
 * What each sender may be read in one turn of the event loop. Who has more under way than that waits until everybody
 * else's sockets, the timers and the answers of the API have had theirs: HTTP/2 windows fill, and hold the sender back.
 *
 *   poll: sockets are read ─► spend ─► over: the call is held ─► check: `onNext` reads on, a share each ─► timers …
 *
 * The next turn of a sender that is alone comes at once; holding and reading on costs a third more for each byte that
 * waits.
 */
export class Turns {
  readonly #options: TurnsOptions
  readonly #spent = new Map<Sender, number>()
  #ending = false
  #isAwaited = false

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  /** Bytes of the sender are being read. */
  spend(sender: Sender, bytes: number): void {
    this.#spent.set(sender, (this.#spent.get(sender) ?? 0) + bytes)
    if (this.#ending) return
    this.#ending = true
    this.#options.schedule(() => {
      this.#ending = false
      this.#spent.clear()
      if (!this.#isAwaited) return
      this.#isAwaited = false
      this.#options.onNext()
    })
  }

  /** Whether it has had its share of this turn. */
  isOver(sender: Sender): boolean {
    return (this.#spent.get(sender) ?? 0) >= this.#options.bytesMax
  }

  /** Somebody who is over waits for the next turn. */
  wait(): void {
    this.#isAwaited = true
  }
}

export interface TurnsOptions {
  /** The share; what is begun is read to the end of its chunk, a stream's window at most. */
  readonly bytesMax: number
  /** Runs it when the sockets that have something have been read. */
  readonly schedule: (next: () => void) => void
  /** A turn begins that somebody waited for. */
  readonly onNext: () => void
}
