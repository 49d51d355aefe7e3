import type { LaneGate } from '../../pipeline/lane.ts'

/** Waits until the journal takes rows again; at once when it does. Ends as well when the signal aborts. */
export function createGateWait(gate: LaneGate): (signal: AbortSignal) => Promise<void> {
  const waiting = new Set<() => void>()
  gate.onOpen(() => {
    for (const wake of waiting) wake()
  })
  return (signal) => {
    if (!gate.closed || signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      waiting.add(done)
      signal.addEventListener('abort', done, { once: true })
    })
  }
}
