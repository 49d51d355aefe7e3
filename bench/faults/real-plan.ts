import { type Random, seededRandom } from '../../src/lib/random.ts'
import {
  CONNECTION_MODES,
  type ConnectionMode,
  type Damage,
  TARGET_MODES,
  type TargetMode,
  type TargetName,
} from './plan.ts'

/** What happens to real processes while requests are sent to them without a break. */
export type RealStep =
  /** Of Sidecast itself; something may happen to its journal before it starts again. */
  | { readonly do: 'kill main'; readonly damage: Damage | null }
  /** Of the engine. */
  | { readonly do: 'kill store' }
  /** The engine stands still for so long. */
  | { readonly do: 'stop store'; readonly ms: number }
  /** The connection to the store, of a plan with a server, or to one of the targets. */
  | { readonly do: 'store connection'; readonly mode: ConnectionMode }
  | { readonly do: 'connection'; readonly target: number; readonly mode: ConnectionMode }
  | { readonly do: 'target'; readonly target: number; readonly mode: TargetMode }
  | { readonly do: 'kafka connection'; readonly mode: ConnectionMode }
  | { readonly do: 'restart kafka'; readonly signal: 'SIGTERM' | 'SIGKILL' }
  | { readonly do: 'second writer' }
  /** Something else fills the disk that the journal is on, and gives the room back after so long. */
  | { readonly do: 'fill disk'; readonly ms: number }
  /** The configuration changes and is read again. */
  | { readonly do: 'reload'; readonly streams: number }

export interface RealPlan {
  readonly seed: number
  /** The engine inside Sidecast, or one of its own behind a connection that can break. */
  readonly store: 'embedded' | 'server'
  readonly targets: readonly TargetName[]
  /** Each after a while. */
  readonly steps: readonly { readonly afterMs: number; readonly step: RealStep }[]
}

const TARGETS = ['otlp', 'wavefront-http', 'remote-write'] as const

/** `kafka`: with a real broker among the targets. */
export function createRealPlan(seed: number, kafka = false): RealPlan {
  const random = seededRandom(seed)
  const store = random() < 0.5 ? 'embedded' : 'server'
  const targets = TARGETS.filter(() => random() < 0.5)
  const steps: RealPlan['steps'][number][] = []
  const length = 3 + below(random, 5)
  while (steps.length < length) {
    const step = chooseStep(random, store, targets.length)
    if (step !== null) steps.push({ afterMs: 100 + below(random, 500), step })
  }
  if (!kafka) return { seed, store, targets, steps }
  for (let k = 0; k < 3; k++) {
    const mode = CONNECTION_MODES[below(random, CONNECTION_MODES.length)]!
    const signal = random() < 0.5 ? 'SIGKILL' : 'SIGTERM'
    const step: RealStep = random() < 0.3 ? { do: 'restart kafka', signal } : { do: 'kafka connection', mode }
    steps.splice(below(random, steps.length + 1), 0, { afterMs: 100 + below(random, 500), step })
  }
  return { seed, store, targets, steps }
}

function chooseStep(random: Random, store: RealPlan['store'], targets: number): RealStep | null {
  const dice = random()
  const target = below(random, Math.max(1, targets))
  const mode = CONNECTION_MODES[below(random, CONNECTION_MODES.length)]!
  if (dice < 0.25) return { do: 'kill main', damage: random() < 0.25 ? damageOf(random) : null }
  if (dice < 0.4) return { do: 'kill store' }
  if (dice < 0.5) return { do: 'stop store', ms: 100 + below(random, 900) }
  if (dice < 0.7) return store === 'server' ? { do: 'store connection', mode } : null
  if (dice < 0.8) return targets > 0 ? { do: 'connection', target, mode } : null
  if (dice < 0.88) {
    return targets > 0 ? { do: 'target', target, mode: TARGET_MODES[below(random, TARGET_MODES.length)]! } : null
  }
  if (dice < 0.92) return { do: 'second writer' }
  // The engine's own files are elsewhere then: what it does without room is another question.
  if (dice < 0.96) return store === 'server' ? { do: 'fill disk', ms: 300 + below(random, 1200) } : null
  return { do: 'reload', streams: 1000 + below(random, 1000) }
}

const damageOf = (random: Random): Damage => ({
  kind: random() < 0.5 ? 'torn' : 'flipped',
  file: below(random, 1 << 20),
  at: random(),
})
const below = (random: Random, n: number): number => Math.floor(random() * n)
