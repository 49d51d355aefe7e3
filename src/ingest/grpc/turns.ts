import type { Sender } from '../../lib/senders.ts'

/**
 * What each sender may be read in one turn of the event loop. Who has more under way than that waits until everybody
 * else's sockets, the timers and the answers of the API have had theirs: HTTP/2 windows fill, and hold the sender back.
 *
 *   poll: sockets are read ─► spend ─► over: the call is held ─► check: `onNext` reads on, a share each ─► timers …
 *
 * Holding and reading on costs a third more for each byte that waits, so a sender has more of a turn while nobody else is
 * read.
 */
export class Turns {
  readonly #options: TurnsOptions
  readonly #spent = new Map<Sender, number>()
  #ending = false
  #isAwaited = false
  /** Senders read in the turn before. */
  #before = 0

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
      this.#before = this.#spent.size
      this.#spent.clear()
      if (!this.#isAwaited) return
      this.#isAwaited = false
      this.#options.onNext()
    })
  }

  /** Whether it has had its share of this turn. */
  isOver(sender: Sender): boolean {
    const { bytesMax, bytesMaxAlone } = this.#options
    const isAlone = this.#spent.size <= 1 && this.#before <= 1
    return (this.#spent.get(sender) ?? 0) >= (isAlone ? bytesMaxAlone : bytesMax)
  }

  /** Somebody who is over waits for the next turn. */
  wait(): void {
    this.#isAwaited = true
  }
}

export interface TurnsOptions {
  /** The share; what is begun is read to the end of its chunk, a stream's window at most. */
  readonly bytesMax: number
  /** The share of a sender whom nobody was read beside, in this turn or the one before. */
  readonly bytesMaxAlone: number
  /** Runs it when the sockets that have something have been read. */
  readonly schedule: (next: () => void) => void
  /** A turn begins that somebody waited for. */
  readonly onNext: () => void
}
