/**
 * Waits until everything that was handed on is safe, once for all who wait at the time. A sync that runs is not joined,
 * since what comes after its beginning may not be in it; the next one takes all who came meanwhile.
 */
export type GroupSync = () => Promise<void>

export function createGroupSync(options: {
  readonly sync: () => Promise<void>
  /** Least time from the end of one sync to the next: each makes a block of its own, however little is in it. */
  readonly restMs: number
}): GroupSync {
  const { sync, restMs } = options
  let next: Promise<void> | null = null
  let running: Promise<unknown> = Promise.resolve()
  return () => {
    if (next === null) {
      next = running.then(() => {
        next = null
        return sync()
      })
      running = next.then(rest, rest)
    }
    return next
  }

  function rest(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, restMs))
  }
}
