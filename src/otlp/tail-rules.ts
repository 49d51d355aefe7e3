import { createGenerations } from '../lib/generations.ts'
import { combine } from '../lib/hash.ts'
import { parseDuration } from '../lib/units.ts'
import type { NativeBlockColumns } from '../pipeline/segment-reader.ts'
import { RowIds, textHash } from './row-ids.ts'

/**
 * Which requests are sent on. All that failed, that were slow, or that are of a route seldom seen; every other request
 * of a trace that one of those belongs to, from then on; and of the rest a share that the trace id decides, so that all
 * proxies and all of Sidecast's instances keep the same traces.
 *
 *   pass 1 over the segment: note the traces of failed, slow and rare requests
 *   pass 2: decide row by row
 *
 * The share is OpenTelemetry's consistent probability sampling: the lowest 56 bits of the trace id against a threshold,
 * which stands in `tracestate` (`ot=th:…`) so that a backend can tell what a span stands for.
 */
export interface TailRules {
  /** Share of requests that no rule keeps, from 0 to 1. */
  readonly sample: number
  /** Classes of answers that are always kept. */
  readonly classes: readonly string[]
  /** Requests that took longer, ns; Infinity: none for that reason. */
  readonly slowNs: number
  /** The first so many requests of a route in each minute. 0: none for that reason. */
  readonly rare: number
  /** Whether the rest of a trace is kept as well, once one of its requests was kept by a rule. */
  readonly wholeTraces: boolean
}

/** Rules as the configuration has them, `tailRules` of its schema. */
export interface TailRulesConfig extends Omit<TailRules, 'slowNs'> {
  /** A duration; 0: none for that reason. */
  readonly slow: string
}

export function tailRulesOf({ sample, classes, slow, rare, wholeTraces }: TailRulesConfig): TailRules {
  const slowMs = parseDuration(slow)!
  return { sample, classes, slowNs: slowMs === 0 ? Number.POSITIVE_INFINITY : slowMs * 1e6, rare, wholeTraces }
}

export const DROP = 0
/** Kept because of a rule: it stands for itself alone. */
export const BY_RULE = 1
/** Kept by the share: it stands for 1 / sample requests. */
export const BY_SHARE = 2

export interface TailSampler {
  /** A segment begins (again). Routes are counted by the minute it was sealed in, so that a second try decides alike. */
  begin(sealedMs: number): void
  /** Pass 1, over rows for which `selected` is not 0 (null: all). Does nothing unless whole traces are kept. */
  note(block: NativeBlockColumns, selected: Uint8Array | null): void
  /** Whether pass 1 is wanted. */
  readonly notes: boolean
  /** Pass 2: `DROP`, `BY_RULE` or `BY_SHARE` for each row. Valid until the next call. */
  decide(block: NativeBlockColumns, selected: Uint8Array | null): Uint8Array
  /** The segment is done: what it had of each route counts. */
  commit(): void
  /** `trace_state` of what was kept by the share, as an `ot` member: `ot=th:8`. */
  readonly shareState: string
}

const MINUTE_MS = 60_000
/** Routes counted in one minute; more than that are not rare. 65 536 entries are some 4 MB. */
const ROUTES_MAX = 65_536
/** Traces that a rule has kept, remembered for their later requests: the inner ones end first. 200 000 are some 16 MB. */
const TRACES_MAX = 200_000

export function createTailSampler(rules: TailRules): TailSampler {
  return new Sampler(rules)
}

class Sampler implements TailSampler {
  readonly notes: boolean
  readonly shareState: string
  readonly #rules: TailRules
  readonly #classes: ReadonlySet<string>
  readonly #traces = createGenerations<number, true>(TRACES_MAX)
  /** Rejected below it: the threshold of the share, 24 and 32 bits. */
  readonly #thresholdHigh: number
  readonly #thresholdLow: number
  #minute = -1
  /** Requests by route in this minute: of segments that are done, and of the one at hand. */
  #routes = new Map<number, number>()
  #here = new Map<number, number>()
  #decisions = new Uint8Array(1024)

  constructor(rules: TailRules) {
    this.#rules = rules
    this.#classes = new Set(rules.classes)
    this.notes = rules.wholeTraces
    const threshold = thresholdOf(rules.sample)
    this.#thresholdHigh = Number(threshold >> 32n)
    this.#thresholdLow = Number(threshold & 0xffff_ffffn)
    this.shareState = rules.sample > 0 ? `ot=th:${thresholdText(threshold)}` : ''
  }

  begin(sealedMs: number): void {
    const minute = Math.floor(sealedMs / MINUTE_MS)
    if (minute !== this.#minute) this.#routes = new Map()
    this.#minute = minute
    this.#here = new Map()
  }

  note(block: NativeBlockColumns, selected: Uint8Array | null): void {
    if (!this.notes) return
    const { classes, durations, slowNs } = this.#columns(block)
    let ids: RowIds | null = null
    for (let row = 0; row < block.rows; row++) {
      if ((selected !== null && selected[row] === 0) || (!classes(row) && durations[row]! <= slowNs)) continue
      ids ??= new RowIds(block)
      ids.readTrace(row)
      this.#traces.set(traceKey(ids.trace), true)
    }
  }

  decide(block: NativeBlockColumns, selected: Uint8Array | null): Uint8Array {
    const { rows } = block
    if (this.#decisions.length < rows) this.#decisions = new Uint8Array(2 * rows)
    const decisions = this.#decisions
    const { classes, durations, slowNs } = this.#columns(block)
    const route = this.#rules.rare > 0 ? routeKeys(block) : null
    const ids = new RowIds(block)
    for (let row = 0; row < rows; row++) {
      if (selected !== null && selected[row] === 0) {
        decisions[row] = DROP
        continue
      }
      const rare = route !== null && this.#rare(route(row))
      if (rare || classes(row) || durations[row]! > slowNs) {
        decisions[row] = BY_RULE
        if (rare && this.notes) {
          ids.readTrace(row)
          this.#traces.set(traceKey(ids.trace), true)
        }
        continue
      }
      ids.readTrace(row)
      if (this.notes && this.#traces.get(traceKey(ids.trace)) === true) decisions[row] = BY_RULE
      else decisions[row] = this.#shared(ids.trace) ? BY_SHARE : DROP
    }
    return decisions
  }

  commit(): void {
    for (const [key, count] of this.#here) this.#routes.set(key, (this.#routes.get(key) ?? 0) + count)
    this.#here = new Map()
  }

  #columns(block: NativeBlockColumns) {
    const { codes, texts } = block.dictionary('class')
    const kept = texts.map((text) => this.#classes.has(text))
    return {
      classes: (row: number): boolean => kept[codes[row]!]!,
      durations: block.numbers('duration_ns'),
      slowNs: this.#rules.slowNs,
    }
  }

  #rare(key: number): boolean {
    const before = this.#routes.get(key)
    const here = this.#here.get(key)
    if (before === undefined && here === undefined && this.#routes.size + this.#here.size >= ROUTES_MAX) return false
    const seen = (before ?? 0) + (here ?? 0)
    if (seen >= this.#rules.rare) return false
    this.#here.set(key, (here ?? 0) + 1)
    return true
  }

  #shared(trace: Uint32Array): boolean {
    const high = trace[2]! & 0xff_ffff
    return high > this.#thresholdHigh || (high === this.#thresholdHigh && trace[3]! >= this.#thresholdLow)
  }
}

const BITS = 56n

/** (1 − share) · 2^56: what is below is dropped. 2^56 itself drops all. */
function thresholdOf(sample: number): bigint {
  const share = BigInt(Math.round(Math.min(Math.max(sample, 0), 1) * 2 ** 52)) << (BITS - 52n)
  return (1n << BITS) - share
}

/** 14 hex digits without the zeros at the end; `0` for all. */
function thresholdText(threshold: bigint): string {
  return threshold.toString(16).padStart(14, '0').replace(/0+$/, '') || '0'
}

/** 53 bits of a hash of the trace id: not of every trace id is each part random. */
function traceKey(trace: Uint32Array): number {
  const low = combine(trace[0]!, trace[1]!, trace[2]!, trace[3]!)
  const high = combine(trace[3]!, trace[2]!, low, trace[0]! ^ trace[1]!)
  return (high & 0x1f_ffff) * 2 ** 32 + (low >>> 0)
}

/** A key of (service, route, path template, method): what "route" means for the rule on rare ones. */
function routeKeys(block: NativeBlockColumns): (row: number) => number {
  const [service, route, template, method] = (['destination_service', 'route', 'path_template', 'method'] as const).map(
    (name) => {
      const { codes, texts } = block.dictionary(name)
      return { codes, hashes: Int32Array.from(texts, textHash) }
    },
  )
  const of = (column: { codes: ArrayLike<number>; hashes: Int32Array }, row: number) =>
    column.hashes[column.codes[row]!]!
  return (row) => combine(of(service!, row), of(route!, row), of(template!, row), of(method!, row))
}
