import type { Batch, DictionaryColumn, IdentityResolver } from './batch.ts'
import { BlockEncoder } from './encode-block.ts'
import { grpcMessages } from './grpc-messages.ts'
import { IdentityTable } from './identity-table.ts'
import { ENUMS, RowColumns } from './row-columns.ts'
import type { RowTable } from './schema.ts'
import type { SecondaryRows } from './secondary-rows.ts'

/**
 * Collects rows of one table as columns and seals them into a batch. A batch and its Native block share the builder's
 * buffers: they are valid until `reset`.
 */
export interface BatchBuilder {
  readonly table: RowTable
  readonly rowsMax: number
  /** Rows so far, and how many more fit. A builder may be full earlier, when a dictionary or a heap is. */
  readonly rows: number
  readonly room: number
  /** Where decoders write. */
  readonly columns: RowColumns
  /** The rows so far as a batch. Call `reset` before anything is added again. */
  seal(): Batch
  reset(): void
}

export interface BatchBuilderOptions {
  readonly table: RowTable
  /** At most 65 535, because dictionary codes have 16 bits. About 500 bytes of address space a row; used when touched. */
  readonly rowsMax: number
  readonly resolver: IdentityResolver
  readonly limits?: Partial<BuilderLimits>
  /** Which rows do not count because their proxy told them in a better way; absent: all count. */
  readonly secondary?: SecondaryRows
}

export interface BuilderLimits {
  /** Longer dictionary texts are cut. */
  readonly textBytesMax: number
  /** Of all dictionaries of the builder together, slots included. */
  readonly dictionaryBytesMax: number
  /** Of each of the five text columns; the four maps of texts have 256 bytes a row and 4 MiB. */
  readonly heapBytesMax: number
}

/** Twice the room that a batch of the largest size takes with 500 bytes of distinct text a row. */
const HEAP_BYTES_A_ROW = 512
const DICTIONARY_BYTES_A_ROW = 1024
const BYTES_LEAST = 8 << 20

export function createBatchBuilder(options: BatchBuilderOptions): BatchBuilder {
  const { table, rowsMax } = options
  if (!(rowsMax > 0 && rowsMax <= 65_535)) throw new RangeError(`rowsMax is ${rowsMax}, not 1 to 65535`)
  const columns = new RowColumns({
    rowsMax,
    textBytesMax: options.limits?.textBytesMax ?? 8192,
    heapBytesMax: options.limits?.heapBytesMax ?? Math.max(BYTES_LEAST, rowsMax * HEAP_BYTES_A_ROW),
    dictionaryBytesMax: options.limits?.dictionaryBytesMax ?? Math.max(BYTES_LEAST, rowsMax * DICTIONARY_BYTES_A_ROW),
  })
  const d = columns.dictionaries
  columns.identities = new IdentityTable({
    dictionaries: {
      cluster: d.upstream_cluster,
      route: d.route,
      authority: d.authority,
      sni: d.sni,
      peerSan: d.peer_san,
      localSan: d.local_san,
      peers: columns.filterStateRaw,
    },
    origins: columns.origins,
    resolver: options.resolver,
    room: columns.room,
  })
  const encoder = new BlockEncoder(columns)
  return {
    table,
    rowsMax,
    columns,
    get rows() {
      return columns.rows
    },
    get room() {
      return columns.limit - columns.rows
    },
    seal: () => {
      columns.markSecondary(options.secondary)
      return batchOf(table, columns, encoder)
    },
    reset: () => columns.reset(),
  }
}

function batchOf(table: RowTable, columns: RowColumns, encoder: BlockEncoder): Batch {
  const { rows } = columns
  return {
    table,
    rows,
    streams: columns.origins,
    identities: columns.identities.identities,
    stream: columns.stream.subarray(0, rows),
    identity: columns.identity.subarray(0, rows),
    endSeconds: columns.endSeconds.subarray(0, rows),
    endNanos: columns.endNanos.subarray(0, rows),
    duration: columns.duration.subarray(0, rows),
    points: columns.points.map((point) => point.subarray(0, rows)),
    code: columns.code.subarray(0, rows),
    grpcStatus: columns.grpcStatus.subarray(0, rows),
    flags: columns.flags.subarray(0, rows),
    responseClass: columns.responseClass.subarray(0, rows),
    outcome: columns.outcome.subarray(0, rows),
    attempts: columns.attempts.subarray(0, rows),
    downstreamReceived: columns.readCounts.downstream_wire_received.subarray(0, rows),
    downstreamSent: columns.readCounts.downstream_wire_sent.subarray(0, rows),
    kind: columns.kind.subarray(0, rows),
    mutualTls: columns.mutualTls.subarray(0, rows),
    secondary: columns.anySecondary ? columns.secondary.subarray(0, rows) : null,
    column: (name) => dictionaryColumn(columns, name),
    traceId: (row) => traceId(columns, row),
    grpcMessages: () => grpcMessages(columns),
    encode: (segment) => encoder.encode(segment),
  }
}

function dictionaryColumn(columns: RowColumns, name: DictionaryColumn): ReturnType<Batch['column']> {
  if (name === 'method' || name === 'protocol') {
    return { codes: columns[name].subarray(0, columns.rows), dictionary: ENUMS[name] }
  }
  return { codes: columns.codes[name].subarray(0, columns.rows), dictionary: columns.dictionaries[name] }
}

function traceId(columns: RowColumns, row: number): string {
  const words = columns.traceUuid
  const at = 4 * row
  if ((words[at]! | words[at + 1]! | words[at + 2]! | words[at + 3]!) === 0) return ''
  const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0')
  return hex(words[at + 1]!) + hex(words[at]!) + hex(words[at + 3]!) + hex(words[at + 2]!)
}
