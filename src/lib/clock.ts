import { setTimeout as wait } from 'node:timers/promises'

/** Time as an argument, so that tests decide what it is. */
export interface Clock {
  /** Wall clock, ms since the epoch. Can go backwards. */
  now(): number
  /** Resolves after `ms`, at once when the signal is aborted. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    if (signal?.aborted === true) return
    await wait(ms, undefined, signal === undefined ? {} : { signal }).catch(() => {})
  },
}
