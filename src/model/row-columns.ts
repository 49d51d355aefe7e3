import type { Origin } from './batch.ts'
import { KINDS } from './batch.ts'
import { Dictionary, type DictionaryOptions, FixedDictionary } from './dictionary.ts'
import { Heap, type Room } from './heap.ts'
import type { IdentityTable } from './identity-table.ts'
import { MapColumn } from './map-column.ts'
import { detailsKind } from './outcome.ts'
import { POINTS } from './phases.ts'
import { CLASSES, OUTCOMES } from './schema.ts'
import type { SecondaryRows } from './secondary-rows.ts'

/**
 * The buffers of one builder, as decoders write them. Row `i` of every array belongs together.
 *
 * *Dense* columns are written for every row. *Sparse* ones are written only where a row has a value: they are zero
 * otherwise, `touched[k]` says that one of the rows has it, and an untouched column is left out of the block.
 */

/** Dictionary columns, with the names of the schema. */
export const DENSE_DICTIONARIES = [
  'route',
  'upstream_cluster',
  'upstream_remote_address',
  'upstream_local_address',
  'downstream_remote_address',
  'downstream_direct_address',
  'downstream_local_address',
  'scheme',
  'authority',
  'user_agent',
  'forwarded_for',
  'response_code_details',
] as const
export const SPARSE_DICTIONARIES = [
  'listener',
  'path_template',
  'referer',
  'flags_text',
  'connection_termination_details',
  'upstream_transport_failure',
  'downstream_transport_failure',
  'sni',
  'ja3',
  'tls_session',
  'peer_san',
  'peer_subject',
  'peer_issuer',
  'local_san',
  'local_subject',
  'local_issuer',
] as const
export type DictionaryName = (typeof DENSE_DICTIONARIES)[number] | (typeof SPARSE_DICTIONARIES)[number]

/** Counts that live aggregation reads: Float64, whole numbers from 0 to 2^53 − 1. */
export const READ_COUNTS = ['downstream_wire_received', 'downstream_wire_sent'] as const
export type ReadCountName = (typeof READ_COUNTS)[number]
/**
 * The other counts, as the two words that a block has of them. A low word is written for every row; a high word only
 * where it is not zero, and `wide` says that there is one.
 */
export const COUNTS = [
  'request_headers_bytes',
  'request_body_bytes',
  'upstream_wire_sent',
  'upstream_header_sent',
  'downstream_header_received',
  'response_headers_bytes',
  'response_body_bytes',
  'upstream_wire_received',
  'upstream_header_received',
  'downstream_header_sent',
] as const
export type CountName = (typeof COUNTS)[number]

export const PORTS = [
  'upstream_remote_port',
  'upstream_local_port',
  'downstream_remote_port',
  'downstream_direct_port',
  'downstream_local_port',
] as const
export type PortName = (typeof PORTS)[number]

/** Sparse numbers with their width in bits. */
export const SPARSE_NUMBERS = {
  port: 16,
  tls_cipher: 16,
  tls_version: 8,
  unauthorized_reason: 8,
  intermediate: 8,
  trace_flags: 8,
  sample_rate: 64,
} as const
export type SparseNumberName = keyof typeof SPARSE_NUMBERS

/** Every sparse column; the position is its index in `touched`. */
export const SPARSE = [
  ...SPARSE_DICTIONARIES,
  ...(Object.keys(SPARSE_NUMBERS) as SparseNumberName[]),
  'trace_uuid',
  'span_number',
] as const
export type SparseName = (typeof SPARSE)[number]

export const HEAPS = ['path', 'original_path', 'request_text', 'stream_text', 'metadata'] as const
export type HeapName = (typeof HEAPS)[number]
export const TEXT_MAPS = ['request_headers', 'response_headers', 'response_trailers', 'custom_tags'] as const
export type TextMapName = (typeof TEXT_MAPS)[number]

/** Envoy's AccessLogType, by number. */
export const ACCESS_LOG_TYPES = [
  'NotSet',
  'TcpUpstreamConnected',
  'TcpPeriodic',
  'TcpConnectionEnd',
  'DownstreamStart',
  'DownstreamPeriodic',
  'DownstreamEnd',
  'UpstreamPoolReady',
  'UpstreamPeriodic',
  'UpstreamEnd',
  'DownstreamTunnelSuccessfullyEstablished',
  'UdpTunnelUpstreamConnected',
  'UdpPeriodic',
  'UdpSessionEnd',
  'TcpConnectionStart',
] as const
/** Texts of enumerations; the code is the index. What Envoy may add later is `Other`, or empty. */
export const ENTRY_TYPES = [...ACCESS_LOG_TYPES, 'Other'] as const
export const METHODS = ['', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'] as const
export const PROTOCOLS = ['', 'HTTP/1.0', 'HTTP/1.1', 'HTTP/2', 'HTTP/3'] as const
export const TLS_VERSIONS = ['', 'TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const

export const ENUMS = {
  kind: new FixedDictionary(KINDS),
  entry_type: new FixedDictionary(ENTRY_TYPES),
  protocol: new FixedDictionary(PROTOCOLS),
  method: new FixedDictionary(METHODS),
  outcome: new FixedDictionary(OUTCOMES),
  class: new FixedDictionary(CLASSES),
  tls_version: new FixedDictionary(TLS_VERSIONS),
} as const

/** Streams of one batch; far more than send within the 50 ms that a batch lasts. */
const STREAMS_MAX = 4096
/** Entries of one map column in a batch. */
const MAP_ENTRIES_A_ROW = 32
const MAP_ENTRIES_LEAST = 4096
/** Longer JSON texts are left out by decoders: a cut one is no JSON. */
export const JSON_BYTES_MAX = 65_536

export interface RowColumnsOptions {
  readonly rowsMax: number
  readonly textBytesMax: number
  readonly heapBytesMax: number
  readonly dictionaryBytesMax: number
}

type Arrays<Name extends string, T> = { readonly [K in Name]: T }

function each<Name extends string, T>(names: readonly Name[], make: (name: Name) => T): Arrays<Name, T> {
  return Object.fromEntries(names.map((name) => [name, make(name)])) as Arrays<Name, T>
}

export class RowColumns {
  /** Complete rows. */
  rows = 0
  /** No more rows than this: `rowsMax`, or less once something is full. */
  limit: number
  readonly rowsMax: number
  readonly room: Room
  readonly origins: Origin[] = []

  readonly stream: Uint16Array
  readonly identity: Uint16Array
  readonly endSeconds: Uint32Array
  readonly endNanos: Uint32Array
  /** Unix ms, as two words. */
  readonly received: Uint32Array
  readonly duration: Float64Array
  readonly points: readonly Float64Array[]
  readonly code: Int32Array
  readonly grpcStatus: Int16Array
  readonly flags: Uint32Array
  readonly attempts: Uint32Array
  readonly mutualTls: Uint8Array
  /** Valid after `markSecondary`, when `anySecondary`. */
  readonly secondary: Uint8Array
  anySecondary = false
  readonly streamIsRequest: Uint8Array
  readonly kind: Uint8Array
  readonly entryType: Uint8Array
  readonly outcome: Uint8Array
  readonly responseClass: Uint8Array
  readonly protocol: Uint16Array
  readonly method: Uint16Array
  /** 16 bytes of each id, in the byte order of ClickHouse's UUID; zero where it is none, or stands in the text column. */
  readonly requestUuid: Int32Array
  readonly streamUuid: Int32Array
  readonly traceUuid: Int32Array
  readonly spanNumber: Int32Array
  readonly readCounts: Arrays<ReadCountName, Float64Array>
  readonly counts: Arrays<CountName, Uint32Array>
  /** Whether any count of this batch has a high word. */
  wide = false
  readonly ports: Arrays<PortName, Uint16Array>
  readonly codes: Arrays<DictionaryName, Uint16Array>
  readonly dictionaries: Arrays<DictionaryName, Dictionary>
  readonly numbers: Arrays<SparseNumberName, Uint8Array | Uint16Array | Float64Array>
  readonly touched: Uint8Array
  readonly heaps: Arrays<HeapName, Heap>
  readonly maps: Arrays<TextMapName, MapColumn>
  readonly filterState: MapColumn
  /** Serialized `Any` of filter state objects, with the code of their JSON in `filterState.values` as `act`. */
  readonly filterStateRaw: Dictionary
  /** Set by the builder, which has the resolver. */
  identities!: IdentityTable
  #cutBefore = 0
  readonly #dictionaryBytesMax: number
  readonly #streamCodes = new Map<Origin, number>()

  constructor(options: RowColumnsOptions) {
    const { rowsMax, textBytesMax, heapBytesMax } = options
    this.rowsMax = rowsMax
    this.limit = rowsMax
    this.#dictionaryBytesMax = options.dictionaryBytesMax
    this.room = { dictionaryBytes: options.dictionaryBytesMax, exhausted: false, cut: 0, added: [], addedCount: 0 }
    const room = this.room
    const u8 = () => new Uint8Array(rowsMax)
    const u16 = () => new Uint16Array(rowsMax)
    const f64 = () => new Float64Array(rowsMax)
    const dictionary: DictionaryOptions = { room, textBytesMax }
    const entriesMax = rowsMax * MAP_ENTRIES_A_ROW + MAP_ENTRIES_LEAST

    this.stream = u16()
    this.identity = u16()
    this.endSeconds = new Uint32Array(rowsMax)
    this.endNanos = new Uint32Array(rowsMax)
    this.received = new Uint32Array(2 * rowsMax)
    this.duration = f64()
    this.points = POINTS.map(f64)
    this.code = new Int32Array(rowsMax)
    this.grpcStatus = new Int16Array(rowsMax)
    this.flags = new Uint32Array(rowsMax)
    this.attempts = new Uint32Array(rowsMax)
    this.mutualTls = u8()
    this.secondary = u8()
    this.streamIsRequest = u8()
    this.kind = u8()
    this.entryType = u8()
    this.outcome = u8()
    this.responseClass = u8()
    this.protocol = u16()
    this.method = u16()
    this.requestUuid = new Int32Array(4 * rowsMax)
    this.streamUuid = new Int32Array(4 * rowsMax)
    this.traceUuid = new Int32Array(4 * rowsMax)
    this.spanNumber = new Int32Array(2 * rowsMax)
    this.readCounts = each(READ_COUNTS, f64)
    this.counts = each(COUNTS, () => new Uint32Array(2 * rowsMax))
    this.ports = each(PORTS, u16)
    const names = [...DENSE_DICTIONARIES, ...SPARSE_DICTIONARIES]
    this.codes = each(names, u16)
    // The client's address is mostly that of the physical peer: one dictionary for both.
    const clients = new Dictionary(dictionary)
    this.dictionaries = each(names, (name) =>
      name === 'downstream_remote_address' || name === 'downstream_direct_address'
        ? clients
        : new Dictionary(dictionary),
    )
    this.dictionaries.response_code_details.classify = detailsKind
    this.numbers = each(Object.keys(SPARSE_NUMBERS) as SparseNumberName[], (name) =>
      SPARSE_NUMBERS[name] === 8 ? u8() : SPARSE_NUMBERS[name] === 16 ? u16() : f64(),
    )
    this.touched = new Uint8Array(SPARSE.length)
    this.heaps = each(HEAPS, () => new Heap(room, 4096, heapBytesMax))
    this.maps = each(TEXT_MAPS, (name) => new MapColumn({ name, rowsMax, entriesMax, room, keys: dictionary }))
    this.filterState = new MapColumn({
      name: 'filter_state',
      rowsMax,
      entriesMax,
      room,
      keys: dictionary,
      values: { room, textBytesMax: JSON_BYTES_MAX },
    })
    this.filterStateRaw = new Dictionary({ room, textBytesMax: JSON_BYTES_MAX, raw: true })
  }

  /** Code of a proxy's stream in this batch; −1 when there are too many for one. */
  streamCode(origin: Origin): number {
    const known = this.#streamCodes.get(origin)
    if (known !== undefined) return known
    if (this.origins.length >= STREAMS_MAX) return -1
    const code = this.origins.push(origin) - 1
    this.#streamCodes.set(origin, code)
    return code
  }

  /** A row begins: what it adds from here on can be taken back. */
  begin(): void {
    const { room } = this
    room.addedCount = 0
    this.#cutBefore = room.cut
    this.maps.request_headers.begin()
    this.maps.response_headers.begin()
    this.maps.response_trailers.begin()
    this.maps.custom_tags.begin()
    this.filterState.begin()
  }

  /** Takes back everything that the row after the complete ones has left. */
  undo(): void {
    const row = this.rows
    const { room } = this
    while (room.addedCount > 0) room.added[--room.addedCount]!.undo()
    room.cut = this.#cutBefore
    for (const name of TEXT_MAPS) this.maps[name].undo()
    this.filterState.undo()
    for (const name of HEAPS) this.heaps[name].undo(row)
    if (row < this.rowsMax) this.#clearSparse(row, row + 1)
  }

  /** Tells which rows do not count. */
  markSecondary(judge: SecondaryRows | undefined): void {
    this.anySecondary = judge?.mark(this.rows, this.origins, this.stream, this.kind, this.secondary) ?? false
  }

  reset(): void {
    const { room } = this
    this.#clearSparse(0, Math.min(this.rows + 1, this.rowsMax))
    this.touched.fill(0)
    if (this.wide) for (const name of COUNTS) this.counts[name].fill(0)
    this.wide = false
    this.rows = 0
    this.limit = this.rowsMax
    for (const dictionary of Object.values(this.dictionaries)) dictionary.reset()
    for (const name of HEAPS) this.heaps[name].reset()
    for (const name of TEXT_MAPS) this.maps[name].reset()
    this.filterState.reset()
    this.filterStateRaw.reset()
    this.identities.reset()
    this.origins.length = 0
    this.#streamCodes.clear()
    room.dictionaryBytes = this.#dictionaryBytesMax
    room.exhausted = false
    room.added.length = 0
    room.addedCount = 0
  }

  #clearSparse(from: number, to: number): void {
    SPARSE.forEach((name, k) => {
      if (this.touched[k] === 0) return
      if (name === 'trace_uuid') this.traceUuid.fill(0, 4 * from, 4 * to)
      else if (name === 'span_number') this.spanNumber.fill(0, 2 * from, 2 * to)
      else if (name in SPARSE_NUMBERS) this.numbers[name as SparseNumberName].fill(0, from, to)
      else this.codes[name as DictionaryName].fill(0, from, to)
    })
  }
}
