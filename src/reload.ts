import { isDeepStrictEqual } from 'node:util'
import { type Config, type Finding, isSecret, type LoadedConfig } from './config.ts'
import type { Clock } from './lib/clock.ts'
import type { Log } from './telemetry/log.ts'

/**
 * Another configuration for a running process, as a difference:
 *
 * ```
 *   load ─► difference ─► every part makes ready ─► every part takes over ─► this is the configuration now
 *     └──────────┴────────────────┴─► refused: nothing has changed, and status and metrics say so until one is taken
 * ```
 *
 * Making ready may fail and changes nothing; taking over may not fail. So a reload is taken whole or not at all, and no
 * listener is closed by one: what would need that is refused by name.
 */
export interface LivePart {
  /** Paths of the configuration, `a.b` with everything below. */
  readonly paths: readonly string[]
  /** Made ready by every reload: files that it names may say something else. */
  readonly always?: boolean
  /** Making ready changes what is outside of us: only when all others are ready. */
  readonly last?: boolean
  /** Called when something below `paths` has changed. Throws, with the option in the message, what keeps it from being taken. */
  prepare(next: Config): Promise<TakeOver> | TakeOver
}
export type TakeOver = () => Promise<void> | void

export interface Change {
  readonly path: string
  /** For people; secrets and lists without their values. */
  readonly text: string
}

export interface ReloadReport {
  /** Wall clock, ms. */
  readonly timeMs: number
  readonly trigger: ReloadTrigger
  readonly taken: boolean
  readonly changes: readonly Change[]
  /** Why it was refused, one for each thing to mend; empty when it was taken. */
  readonly reasons: readonly string[]
}
export type ReloadTrigger = 'signal' | 'http'

export interface Reload {
  /** One after the other; never rejects. */
  run(trigger: ReloadTrigger): Promise<ReloadReport>
  /** The configuration that counts. */
  readonly config: Config
  /** Null before the first. */
  readonly last: ReloadReport | null
  readonly counters: Readonly<{ taken: number; refused: number }>
  /** When the configuration that counts was taken, Unix ms. */
  readonly takenMs: number
}

export interface ReloadOptions {
  readonly config: Config
  readonly load: () => LoadedConfig
  readonly parts: readonly LivePart[]
  /** Called after each that was taken: files that the configuration names may be others under the same names. */
  readonly after?: () => Promise<void> | void
  readonly clock: Clock
  readonly log: Log
}

export function createReload(options: ReloadOptions): Reload {
  const { load, parts, clock, log } = options
  const counters = { taken: 0, refused: 0 }
  let { config } = options
  let last: ReloadReport | null = null
  let takenMs = clock.now()
  let running: Promise<unknown> = Promise.resolve()

  async function attempt(trigger: ReloadTrigger): Promise<ReloadReport> {
    const refused = (reasons: readonly string[], changes: readonly Change[] = []): ReloadReport => ({
      timeMs: clock.now(),
      trigger,
      taken: false,
      changes,
      reasons,
    })
    const { config: next, findings } = load()
    const errors = findings.filter(({ severity }) => severity === 'error')
    if (errors.length > 0) return refused(errors.map(textOf))
    const changes = changesOf(config, next)
    const concerned = parts
      .filter(({ paths, always }) => always || changes.some(({ path }) => paths.some((own) => isBelow(path, own))))
      .sort((a, b) => Number(a.last ?? false) - Number(b.last ?? false))
    const known = parts.flatMap(({ paths }) => paths)
    const fixed = changes.filter(({ path }) => !known.some((own) => isBelow(path, own)))
    if (fixed.length > 0)
      return refused(
        fixed.map(({ text }) => `${text}: takes a restart`),
        changes,
      )
    const reasons: string[] = []
    const takeOvers: TakeOver[] = []
    for (const part of concerned) {
      if (part.last === true && reasons.length > 0) continue
      try {
        takeOvers.push(await part.prepare(next))
      } catch (error) {
        reasons.push(error instanceof Error ? error.message : String(error))
      }
    }
    if (reasons.length > 0) return refused(reasons, changes)
    for (const takeOver of takeOvers) await takeOver()
    await options.after?.()
    config = next
    takenMs = clock.now()
    return { timeMs: takenMs, trigger, taken: true, changes, reasons: [] }
  }

  async function run(trigger: ReloadTrigger): Promise<ReloadReport> {
    let report: ReloadReport
    try {
      report = await attempt(trigger)
    } catch (error) {
      // A bug in taking over. The rest of the process goes on with what it has, and this is said.
      log.error({ error }, 'a reload failed in the middle')
      const reasons = [`failed in the middle, restart to be sure: ${error instanceof Error ? error.message : error}`]
      report = { timeMs: clock.now(), trigger, taken: false, changes: [], reasons }
    }
    last = report
    if (report.taken) counters.taken++
    else counters.refused++
    const changes = report.changes.map(({ text }) => text)
    if (report.taken) log.info({ trigger, changes }, 'the configuration was reloaded')
    else log.error({ trigger, reasons: report.reasons }, 'a reload was refused: the configuration of before counts')
    return report
  }

  return {
    run(trigger) {
      const report = running.then(() => run(trigger))
      running = report
      return report
    },
    get config() {
      return config
    },
    get last() {
      return last
    },
    counters,
    get takenMs() {
      return takenMs
    },
  }
}

/** An option of the command line is named without its value: that may be a secret, and this is seen by many. */
function textOf({ place, path, message, help }: Finding): string {
  return `${place.startsWith('--set ') ? `--set ${path}` : place}  ${message}; ${help}`
}

function isBelow(path: string, own: string): boolean {
  return path === own || path.startsWith(`${own}.`)
}

/** Where two configurations differ. Lists are compared as a whole. */
export function changesOf(before: Config, after: Config): Change[] {
  const changes: Change[] = []
  const walk = (a: unknown, b: unknown, path: readonly string[]): void => {
    if (isDeepStrictEqual(a, b)) return
    if (isKeys(a) && isKeys(b)) {
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) walk(a[key], b[key], [...path, key])
    } else changes.push({ path: path.join('.'), text: `${path.join('.')} ${difference(a, b, path)}` })
  }
  walk(before, after, [])
  return changes
}

function isKeys(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function difference(a: unknown, b: unknown, path: readonly string[]): string {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length ? 'changed' : `changed, ${a.length} → ${b.length} entries`
  }
  const isPlain = (value: unknown) => typeof value !== 'object' || value === null
  return isSecret(path) || !isPlain(a) || !isPlain(b) ? 'changed' : `${shown(a)} → ${shown(b)}`
}

function shown(value: unknown): string {
  return value === undefined || value === '' ? 'none' : String(value)
}
