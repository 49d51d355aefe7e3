import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../lib/clock.ts'
import type { Origin } from '../model/batch.ts'
import type { SecondaryRows } from '../model/secondary-rows.ts'
import type { Log } from '../telemetry/log.ts'

/**
 * A proxy may log each request in several ways, such as ALS and a file. One of them counts: for each node, and apart for
 * HTTP and for TCP and UDP, the first of the configured order that has brought rows within `fallbackMs`. Rows that came
 * by another are kept and marked, and left out of rollups, live metrics and answers, unless a question names `source`.
 *
 *   node  ─ http ─► als 12:00:07 · json 12:00:09         json is marked
 *         ─ l4   ─► text 12:00:05                        counts
 *
 * What is known of nodes with several sources is kept on disk, so that a restart does not count what arrives first. Rows
 * without a node id cannot be told apart, and always count.
 */
export interface PrimarySources extends SecondaryRows {
  /** Nodes that log by more than one way. */
  readonly several: number
  /** Resolves when what is known is on disk. */
  saved(): Promise<void>
}

export interface PrimarySourcesOptions {
  /** The best first; a source that is missing comes last. */
  readonly order: readonly Origin['source'][]
  /** How long the better source may be silent while the other goes on, before the other counts. */
  readonly fallbackMs: number
  /** Where what is known is kept. */
  readonly dir: string
  readonly clock: Pick<Clock, 'now'>
  readonly log: Log
  readonly nodesMax?: number
}

/** 200 bytes each. Beyond, the nodes that were silent longest are forgotten. */
const NODES_MAX = 200_000
const FILE = 'primary-sources.json'
const HTTP = 0
const L4 = 1
const LAYERS = [HTTP, L4] as const

export function createPrimarySources(options: PrimarySourcesOptions): PrimarySources {
  return new NodeSources(options)
}

/** By layer and source: wall clock, ms, of the last rows; 0 when there were none. */
type Seen = Float64Array

class NodeSources implements PrimarySources {
  readonly #options: PrimarySourcesOptions
  readonly #ranks: ReadonlyMap<Origin['source'], number>
  readonly #sources: readonly Origin['source'][]
  /** In the order of their last rows, roughly: a node moves back when it is looked up for a new origin. */
  readonly #nodes = new Map<string, Seen>()
  readonly #byOrigin = new WeakMap<Origin, Seen>()
  /** Nodes whose sources are to be kept on disk. */
  readonly #several = new Set<string>()
  #saving: Promise<void> = Promise.resolve()
  #unsaved = false
  /** Kinds that the streams of one batch have rows of, as bits; and whether each (stream, kind) is secondary. */
  #kinds = new Uint8Array(64)
  #marks = new Uint8Array(128)

  constructor(options: PrimarySourcesOptions) {
    this.#options = options
    const rest = (['als', 'otlp', 'json', 'text', 'kafka'] as const).filter((source) => !options.order.includes(source))
    this.#sources = [...options.order, ...rest]
    this.#ranks = new Map(this.#sources.map((source, rank) => [source, rank]))
    this.#load()
  }

  get several(): number {
    return this.#several.size
  }

  mark(rows: number, origins: readonly Origin[], stream: Uint16Array, kind: Uint8Array, marks: Uint8Array): boolean {
    const streams = origins.length
    if (this.#kinds.length < streams) {
      this.#kinds = new Uint8Array(2 * streams)
      this.#marks = new Uint8Array(4 * streams)
    }
    const kinds = this.#kinds.fill(0, 0, streams)
    for (let i = 0; i < rows; i++) kinds[stream[i]!]! |= kind[i] === 0 ? 1 : 2
    const now = this.#options.clock.now()
    for (let k = 0; k < streams; k++) if (kinds[k] !== 0) this.#see(origins[k]!, kinds[k]!, now)
    let any = 0
    for (let k = 0; k < streams; k++) {
      if (kinds[k] === 0) continue
      const seen = this.#byOrigin.get(origins[k]!)
      for (const layer of LAYERS) {
        const secondary = seen === undefined ? 0 : this.#isSecondary(seen, layer, origins[k]!, now)
        this.#marks[2 * k + layer] = secondary
        any |= secondary & (kinds[k]! >> layer)
      }
    }
    if (any === 0) return false
    for (let i = 0; i < rows; i++) marks[i] = this.#marks[2 * stream[i]! + (kind[i] === 0 ? HTTP : L4)]!
    return true
  }

  async saved(): Promise<void> {
    await this.#saving
  }

  #see(origin: Origin, kinds: number, now: number): void {
    if (origin.nodeId === '') return
    let seen = this.#byOrigin.get(origin)
    if (seen === undefined) {
      seen = this.#nodeOf(origin.nodeId)
      this.#byOrigin.set(origin, seen)
    }
    const rank = this.#ranks.get(origin.source)!
    for (const layer of LAYERS) {
      if (((kinds >> layer) & 1) === 0) continue
      const at = layer * this.#sources.length + rank
      const first = seen[at] === 0
      seen[at] = now
      if (first) this.#remember(origin.nodeId, seen, layer)
    }
  }

  #nodeOf(nodeId: string): Seen {
    const known = this.#nodes.get(nodeId)
    const seen = known ?? new Float64Array(2 * this.#sources.length)
    if (known !== undefined) this.#nodes.delete(nodeId)
    this.#nodes.set(nodeId, seen)
    if (this.#nodes.size > (this.#options.nodesMax ?? NODES_MAX)) {
      const oldest = this.#nodes.keys().next().value!
      this.#nodes.delete(oldest)
      this.#several.delete(oldest)
    }
    return seen
  }

  #isSecondary(seen: Seen, layer: number, origin: Origin, now: number): 0 | 1 {
    const rank = this.#ranks.get(origin.source)!
    const from = layer * this.#sources.length
    const since = now - this.#options.fallbackMs
    for (let better = 0; better < rank; better++) if (seen[from + better]! > since) return 1
    return 0
  }

  #remember(nodeId: string, seen: Seen, layer: number): void {
    const from = layer * this.#sources.length
    let sources = 0
    for (let rank = 0; rank < this.#sources.length; rank++) if (seen[from + rank] !== 0) sources++
    if (sources < 2) return
    this.#several.add(nodeId)
    if (this.#unsaved) return
    this.#unsaved = true
    this.#saving = this.#saving.then(() => this.#save())
  }

  async #save(): Promise<void> {
    this.#unsaved = false
    const { dir, log } = this.#options
    const known: Record<string, string[][]> = {}
    for (const nodeId of this.#several) {
      const seen = this.#nodes.get(nodeId)
      if (seen === undefined) continue
      known[nodeId] = LAYERS.map((layer) =>
        this.#sources.filter((_, rank) => seen[layer * this.#sources.length + rank] !== 0),
      )
    }
    try {
      await writeFile(join(dir, `${FILE}.new`), JSON.stringify(known))
      await rename(join(dir, `${FILE}.new`), join(dir, FILE))
    } catch (error) {
      log.warn({ error }, 'which sources count could not be kept; right after a restart some rows may count twice')
    }
  }

  /** What is known counts as seen now: the better source may need a while to connect again. */
  #load(): void {
    let known: unknown
    try {
      known = JSON.parse(readFileSync(join(this.#options.dir, FILE), 'utf8'))
    } catch {
      return
    }
    if (typeof known !== 'object' || known === null) return
    const now = this.#options.clock.now()
    for (const [nodeId, kinds] of Object.entries(known)) {
      if (!Array.isArray(kinds)) continue
      const seen = this.#nodeOf(nodeId)
      for (const layer of LAYERS) {
        const sources: unknown = kinds[layer]
        for (const source of Array.isArray(sources) ? (sources as unknown[]) : []) {
          const rank = this.#ranks.get(source as Origin['source'])
          if (rank !== undefined) seen[layer * this.#sources.length + rank] = now
        }
      }
      this.#several.add(nodeId)
    }
  }
}
