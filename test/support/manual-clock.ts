import type { Clock } from '../../src/lib/clock.ts'

/** A clock that goes when the test says so; sleepers wake in the order of their times. */
export interface ManualClock extends Clock {
  /** Goes on by so many ms; everything that becomes due on the way has run when this resolves. */
  pass(ms: number): Promise<void>
}

export function createManualClock(startMs: number): ManualClock {
  let now = startMs
  const sleepers = new Set<{ readonly atMs: number; readonly wake: () => void }>()
  return {
    now: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted === true) return resolve()
        const sleeper = {
          atMs: now + ms,
          wake: () => {
            sleepers.delete(sleeper)
            resolve()
          },
        }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', sleeper.wake, { once: true })
      }),
    async pass(ms) {
      const until = now + ms
      await settled()
      for (;;) {
        const [next] = [...sleepers].filter(({ atMs }) => atMs <= until).sort((a, b) => a.atMs - b.atMs)
        if (next === undefined) break
        now = Math.max(now, next.atMs)
        next.wake()
        await settled()
      }
      now = until
    },
  }
}

/** What was begun has come as far as it can without time passing: files are written by then as well. */
async function settled(): Promise<void> {
  for (let k = 0; k < 5; k++) await new Promise((done) => setImmediate(done))
}
