import { type Random, seededRandom } from '../../src/lib/random.ts'

/**
 * What happens in one run, all of it decided by its seed before it begins: a seed that fails fails again, as far as the
 * machine lets it, since what is under way at a step depends on how fast it is.
 */
export type Step =
  /** So many requests, acknowledged when they are fsynced. */
  | { readonly do: 'write'; readonly rows: number }
  | { readonly do: 'seal' }
  | { readonly do: 'wait'; readonly ms: number }
  /** The connection to a target, until it changes again. `target` is an index into those of the run. */
  | { readonly do: 'connection'; readonly target: number; readonly mode: ConnectionMode }
  /** The target itself. */
  | { readonly do: 'target'; readonly target: number; readonly mode: TargetMode }
  /** kill -9, something may happen to the files, and another process starts on them. */
  | { readonly do: 'kill'; readonly damage: Damage | null }
  /** Bytes that are left on the disk; null: as many as it likes. */
  | { readonly do: 'disk'; readonly room: number | null }
  /** The wall clock jumps by so many ms. */
  | { readonly do: 'clock'; readonly byMs: number }
  /** Another process tries to work on the same directory. */
  | { readonly do: 'second writer' }

/**
 * `pass`; `away`: refused; `half-open`: accepted, swallowed, never answered; `reset`: a TCP reset after `RESET_AFTER` bytes
 * of the request, in the middle of it; `cut`: the answer is cut off by a reset; `slow`; `garbage`: the answer is rubbish.
 */
export const CONNECTION_MODES = ['pass', 'away', 'half-open', 'reset', 'cut', 'slow', 'garbage'] as const
export type ConnectionMode = (typeof CONNECTION_MODES)[number]
/** `retry` is 500, 503, 429 or UNAVAILABLE, whatever the protocol has. */
export const TARGET_MODES = ['accept', 'retry', 'slow', 'hang'] as const
export type TargetMode = (typeof TARGET_MODES)[number]

/** `torn`: the end of a file that was being written is cut off; `flipped`: one bit of any file. `at` in [0, 1). */
export interface Damage {
  readonly kind: 'torn' | 'flipped'
  readonly file: number
  readonly at: number
}

export interface Plan {
  readonly seed: number
  readonly targets: readonly TargetName[]
  readonly steps: readonly Step[]
}

export const TARGETS = ['store', 'otlp', 'wavefront-http', 'wavefront-tcp', 'remote-write'] as const
export type TargetName = (typeof TARGETS)[number]

/** `only`: faults to choose from, by what they do; absent: all. */
export function createPlan(seed: number, only?: readonly Step['do'][]): Plan {
  const random = seededRandom(seed)
  // Both ways to a Wavefront proxy would share one cursor.
  const wavefront = random() < 0.7 ? 'wavefront-http' : 'wavefront-tcp'
  const targets = TARGETS.filter((name) => {
    const chosen = random() < 0.6
    return name === 'store' || (chosen && (!name.startsWith('wavefront') || name === wavefront))
  })
  const length = 10 + below(random, 16)
  const steps: Step[] = []
  while (steps.length < length) {
    const step = chooseStep(random, targets.length)
    if (only === undefined || step.do === 'write' || step.do === 'wait' || only.includes(step.do)) steps.push(step)
  }
  return { seed, targets, steps }
}

function chooseStep(random: Random, targets: number): Step {
  const dice = random()
  const target = below(random, targets)
  if (dice < 0.42) return { do: 'write', rows: 1 + below(random, 300) }
  if (dice < 0.5) return { do: 'seal' }
  if (dice < 0.6) return { do: 'wait', ms: 5 + below(random, 40) }
  if (dice < 0.74) return { do: 'connection', target, mode: pick(random, CONNECTION_MODES) }
  if (dice < 0.82) return { do: 'target', target, mode: pick(random, TARGET_MODES) }
  if (dice < 0.92) return { do: 'kill', damage: random() < 0.4 ? chooseDamage(random) : null }
  if (dice < 0.95) return { do: 'disk', room: random() < 0.6 ? below(random, 60_000) : null }
  if (dice < 0.98) return { do: 'clock', byMs: (random() < 0.5 ? -1 : 1) * (1 + below(random, 7_200_000)) }
  return { do: 'second writer' }
}

const chooseDamage = (random: Random): Damage => ({
  kind: random() < 0.5 ? 'torn' : 'flipped',
  file: below(random, 1 << 20),
  at: random(),
})

const below = (random: Random, n: number): number => Math.floor(random() * n)
const pick = <T>(random: Random, values: readonly T[]): T => values[below(random, values.length)]!
