import type { Stage } from './sink.ts'

/** Stages that have started, or tried to: what started last stops first. */
export interface Stages {
  start(stage: Stage): Promise<void>
  /** Within `stopMs`, all of them together. Safe twice. */
  stop(): Promise<void>
}

export function createStages({ stopMs }: { readonly stopMs: number }): Stages {
  const started: Stage[] = []
  return {
    async start(stage) {
      started.push(stage)
      await stage.start()
    },
    async stop() {
      // A timer that holds the process, unlike AbortSignal.timeout: draining must not end because nothing else is left.
      const deadline = new AbortController()
      const timer = setTimeout(() => deadline.abort(), stopMs)
      for (let stage = started.pop(); stage !== undefined; stage = started.pop()) await stage.stop(deadline.signal)
      clearTimeout(timer)
    },
  }
}
