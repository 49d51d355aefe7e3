import type { Sender } from '../../lib/senders.ts'
import type { Call } from './call.ts'

/**
 * Calls that are held back, in turns by sender: when there is room again each sender is read one call at a time, so one
 * with a thousand streams waits as long for its second as all others for their first. A call has at most its window of
 * unread bytes, which is what a turn is.
 */
export class PausedCalls {
  /** Senders in the order of their turns; each has a call. */
  readonly #bySender = new Map<Sender, Set<Call>>()
  #size = 0

  get size(): number {
    return this.#size
  }

  add(call: Call): void {
    let calls = this.#bySender.get(call.sender)
    if (calls === undefined) {
      calls = new Set()
      this.#bySender.set(call.sender, calls)
    }
    if (calls.has(call)) return
    calls.add(call)
    this.#size++
  }

  delete(call: Call): void {
    const calls = this.#bySender.get(call.sender)
    if (calls?.delete(call) !== true) return
    this.#size--
    if (calls.size === 0) this.#bySender.delete(call.sender)
  }

  *[Symbol.iterator](): Iterator<Call> {
    for (const calls of this.#bySender.values()) yield* calls
  }

  /** Lets them read as far as they may. Whose turn is cut short by a gate that closes goes on after the others. */
  resume(): void {
    for (let progressed = true; progressed && this.#size > 0; ) {
      progressed = false
      for (const [sender, calls] of [...this.#bySender]) {
        const call = first(calls)
        if (call === undefined) continue
        const before = call.unreadBytes
        call.resume()
        const isStuck = calls.has(call)
        if (isStuck && call.unreadBytes === before) {
          // Not now. Another call of the sender may have another gate.
          calls.delete(call)
          calls.add(call)
          continue
        }
        progressed = true
        if (this.#bySender.get(sender) !== calls) continue
        this.#bySender.delete(sender)
        this.#bySender.set(sender, calls)
      }
    }
  }
}

function first(calls: ReadonlySet<Call>): Call | undefined {
  for (const call of calls) return call
  return undefined
}
