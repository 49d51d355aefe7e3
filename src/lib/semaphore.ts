/** A fixed number of places; who finds none waits in line. */
export interface Semaphore {
  /** Resolves when a place is free; rejects with the signal's reason when it aborts first. Call the result once to leave. */
  enter(signal: AbortSignal): Promise<() => void>
  readonly inside: number
  readonly waiting: number
}

export function createSemaphore(places: number): Semaphore {
  const line = new Set<() => void>()
  let inside = 0
  const leaveOnce = () => {
    let left = false
    return () => {
      if (left) return
      left = true
      const next = line.values().next().value
      if (next === undefined) inside--
      else {
        line.delete(next)
        next()
      }
    }
  }
  return {
    get inside() {
      return inside
    },
    get waiting() {
      return line.size
    },
    enter(signal) {
      if (signal.aborted) return Promise.reject(signal.reason)
      if (inside < places) {
        inside++
        return Promise.resolve(leaveOnce())
      }
      return new Promise((resolve, reject) => {
        const give = () => {
          signal.removeEventListener('abort', giveUp)
          resolve(leaveOnce())
        }
        const giveUp = () => {
          line.delete(give)
          reject(signal.reason)
        }
        signal.addEventListener('abort', giveUp, { once: true })
        line.add(give)
      })
    },
  }
}
