import { ROW_TABLES, type RowTable } from '../model/schema.ts'
import type { AckOutcome } from './journal-reader.ts'

/** What is saved of a node. `settled`: rows of sealed segments by table, in the order of `ROW_TABLES`. */
export interface SavedNode {
  readonly node: string
  readonly rejected: number
  readonly settled: readonly number[]
  readonly refused: readonly (readonly [string, number])[]
  readonly lost: readonly (readonly [string, number])[]
}

/** Counts of one node. Rows; adapters by name. */
export class NodeCounts {
  decoded = 0
  rejected = 0
  /** Counted at the append. */
  readonly journaled: Record<RowTable, number> = { requests: 0, attempts: 0, progress: 0, connections: 0 }
  /** The part of `journaled` that is in sealed segments. */
  readonly #settled: Record<RowTable, number> = { requests: 0, attempts: 0, progress: 0, connections: 0 }
  readonly #delivered = new Map<string, number>()
  readonly #refused = new Map<string, number>()
  readonly #lost = new Map<string, number>()

  /** Rows journaled, all tables. */
  get rows(): number {
    const { requests, attempts, progress, connections } = this.journaled
    return requests + attempts + progress + connections
  }

  deliveredTo(adapter: string): number {
    return this.#delivered.get(adapter) ?? 0
  }

  refusedBy(adapter: string): number {
    return this.#refused.get(adapter) ?? 0
  }

  /** Journaled, then damaged on disk before the adapter had it. */
  lostFor(adapter: string): number {
    return this.#lost.get(adapter) ?? 0
  }

  /** Rows of a sealed segment. `unseen`: another process appended them. */
  settle(table: RowTable, rows: number, unseen: boolean): void {
    this.#settled[table] += rows
    if (!unseen) return
    this.journaled[table] += rows
    this.decoded += rows
  }

  acked(adapter: string, rows: number, outcome: AckOutcome): void {
    add(outcome === 'accepted' ? this.#delivered : this.#refused, adapter, rows)
  }

  /** Refused once, and given to the adapter again. */
  replayed(adapter: string, rows: number): void {
    this.#refused.set(adapter, Math.max(0, this.refusedBy(adapter) - rows))
  }

  lost(adapter: string, rows: number): void {
    add(this.#lost, adapter, rows)
  }

  /** Rows that only the store remembers: they came this way, and every adapter had them. */
  addForgotten(rows: number, adapters: readonly string[]): void {
    this.settle('requests', rows, true)
    for (const adapter of adapters) add(this.#delivered, adapter, rows)
  }

  /** After a start: what is neither here, nor refused, nor lost, was delivered. */
  deriveDelivered(adapter: string, held: number): void {
    const rest = this.rows - held - this.refusedBy(adapter) - this.lostFor(adapter)
    this.#delivered.set(adapter, Math.max(0, rest))
  }

  save(node: string): SavedNode {
    return {
      node,
      rejected: this.rejected,
      settled: ROW_TABLES.map((table) => this.#settled[table]),
      refused: [...this.#refused],
      lost: [...this.#lost],
    }
  }

  restore(saved: SavedNode): void {
    this.rejected += saved.rejected
    ROW_TABLES.forEach((table, k) => {
      this.settle(table, saved.settled[k]!, true)
    })
    for (const [adapter, rows] of saved.refused) add(this.#refused, adapter, rows)
    for (const [adapter, rows] of saved.lost) add(this.#lost, adapter, rows)
  }

  static isSaved(value: unknown): value is SavedNode {
    if (typeof value !== 'object' || value === null) return false
    const { node, rejected, settled, refused, lost } = value as Record<string, unknown>
    if (typeof node !== 'string' || !isCount(rejected)) return false
    if (!Array.isArray(settled) || settled.length !== ROW_TABLES.length || !settled.every(isCount)) return false
    return isPairs(refused) && isPairs(lost)
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

const isPairs = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.every((pair) => Array.isArray(pair) && pair.length === 2 && typeof pair[0] === 'string' && isCount(pair[1]))

function add(counts: Map<string, number>, key: string, rows: number): void {
  counts.set(key, (counts.get(key) ?? 0) + rows)
}
