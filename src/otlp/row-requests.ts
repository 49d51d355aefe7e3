import { BackWriter } from '../lib/back-writer.ts'
import type { NativeBlockColumns } from '../pipeline/segment-reader.ts'
import { NONE } from './attributes.ts'
import { createLogEncoder } from './log-encoder.ts'
import { BlockResources } from './resource.ts'
import { SCHEMA_URL } from './semantic.ts'
import { createSpanEncoder } from './span-encoder.ts'

/**
 * Export requests (`ExportTraceServiceRequest`, `ExportLogsServiceRequest`: the same shape) of rows, block by block, each
 * as large as it may be. Rows of one resource stand together.
 *
 *   request ─► resource ─► scope ─► spans or log records
 */
export interface RowRequests {
  /**
   * Adds the rows of a block for which `keep` is not 0 (all where it is null), and gives out what became full. Take all of
   * it before the next block.
   */
  add(block: NativeBlockColumns, keep: Uint8Array | null): Generator<ExportRequest>
  /** What is left; null when that is nothing. */
  finish(): ExportRequest | null
}

export interface ExportRequest {
  readonly bytes: Buffer
  /** Spans, log records or data points in it. */
  readonly items: number
}

export type RowSignal = 'traces' | 'logs'

export interface RowRequestsOptions {
  readonly signal: RowSignal
  /** A request is handed out when it has reached this; one row more is in it. */
  readonly bytesMax: number
  /** Of the program that says so: version of the instrumentation scope. */
  readonly version: string
  /** `tracestate` of a span by the value of `keep` for its row. */
  readonly state?: (keep: number) => string
}

const RESOURCE = 0x0a
const SCOPED = 0x12
const SCOPE = 0x0a
const SCHEMA = 0x1a
/** Tag of `trace_state`. */
const STATE = 0x1a

export function createRowRequests(options: RowRequestsOptions): RowRequests {
  return new Requests(options)
}

/** `InstrumentationScope` as the field `scope`. */
export function scopeField(version: string): Uint8Array {
  const writer = new BackWriter(256)
  writer.text(0x12, version)
  writer.text(0x0a, 'sidecast')
  writer.end(SCOPE, 0)
  return writer.take()
}

class Requests implements RowRequests {
  readonly #options: RowRequestsOptions
  readonly #writer = new BackWriter()
  readonly #scope: Uint8Array
  readonly #schema: Uint8Array
  readonly #states = new Map<number, Uint8Array>()
  #items = 0
  /** `length` where the group at hand, and the scope in it, began. */
  #groupFrom = 0
  #scopeFrom = 0

  constructor(options: RowRequestsOptions) {
    this.#options = options
    this.#scope = scopeField(options.version)
    this.#writer.text(SCHEMA, SCHEMA_URL)
    this.#schema = this.#writer.take()
    this.#writer.cut()
  }

  *add(block: NativeBlockColumns, keep: Uint8Array | null): Generator<ExportRequest> {
    const resources = new BlockResources(block)
    const write = this.#encoder(block)
    for (const [resource, rows] of rowsByResource(block, keep, resources)) {
      this.#begin()
      for (const row of rows) {
        this.#items += write(row, keep === null ? 1 : keep[row]!)
        if (this.#writer.length < this.#options.bytesMax) continue
        this.#end(resources.bytes(resource))
        yield this.finish()!
        this.#begin()
      }
      this.#end(resources.bytes(resource))
    }
  }

  finish(): ExportRequest | null {
    if (this.#items === 0) return null
    const request = { bytes: this.#writer.take(), items: this.#items }
    this.#writer.cut()
    this.#items = 0
    return request
  }

  #encoder(block: NativeBlockColumns): (row: number, keep: number) => number {
    const writer = this.#writer
    if (this.#options.signal === 'traces') {
      const spans = createSpanEncoder(block)
      return (row, keep) => spans.write(writer, row, this.#stateOf(keep))
    }
    const logs = createLogEncoder(block)
    return (row) => {
      logs.write(writer, row)
      return 1
    }
  }

  #stateOf(keep: number): Uint8Array {
    let bytes = this.#states.get(keep)
    if (bytes === undefined) {
      const text = this.#options.state?.(keep) ?? ''
      const writer = new BackWriter(64)
      if (text !== '') writer.text(STATE, text)
      bytes = text === '' ? NONE : writer.take()
      this.#states.set(keep, bytes)
    }
    return bytes
  }

  #begin(): void {
    this.#groupFrom = this.#writer.length
    this.#writer.raw(this.#schema)
    this.#scopeFrom = this.#writer.length
  }

  #end(resource: Uint8Array): void {
    const writer = this.#writer
    if (writer.length === this.#scopeFrom) {
      // Nothing came after a request was handed out.
      writer.cut(this.#groupFrom)
      return
    }
    writer.raw(this.#scope)
    writer.end(SCOPED, this.#scopeFrom)
    const from = writer.length
    writer.raw(resource)
    writer.end(RESOURCE, from)
    writer.end(0x0a, this.#groupFrom)
  }
}

function rowsByResource(
  block: NativeBlockColumns,
  keep: Uint8Array | null,
  resources: BlockResources,
): Map<number, number[]> {
  const groups = new Map<number, number[]>()
  let last = -1
  let rows: number[] = []
  for (let row = 0; row < block.rows; row++) {
    if (keep !== null && keep[row] === 0) continue
    const resource = resources.of(row)
    if (resource !== last) {
      const known = groups.get(resource)
      rows = known ?? []
      if (known === undefined) groups.set(resource, rows)
      last = resource
    }
    rows.push(row)
  }
  return groups
}
