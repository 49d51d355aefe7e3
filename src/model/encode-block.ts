import type { Identity, NativeBlock, Origin, Party } from './batch.ts'
import { type FixedDictionary, keyListOf } from './dictionary.ts'
import { EncodedTexts } from './encoded-texts.ts'
import {
  blockHeader,
  bytesOf,
  columnHeader,
  LOW_CARDINALITY_PREFIX,
  lowCardinality,
  type PieceSink,
  Pieces,
} from './native.ts'
import { POINTS } from './phases.ts'
import {
  COUNTS,
  DENSE_DICTIONARIES,
  ENUMS,
  HEAPS,
  PORTS,
  READ_COUNTS,
  type RowColumns,
  SPARSE,
  SPARSE_DICTIONARIES,
  SPARSE_NUMBERS,
  type SparseName,
  type SparseNumberName,
  TEXT_MAPS,
} from './row-columns.ts'
import { STORED_ROW_COLUMNS } from './schema.ts'

const LC = 'LowCardinality(String)'
const DAY_SECONDS = 86_400
const WORD = 2 ** 32

const ORIGIN_COLUMNS: Readonly<Record<string, (origin: Origin) => string>> = {
  source: (origin) => origin.source,
  node_id: (origin) => origin.nodeId,
  node_cluster: (origin) => origin.nodeCluster,
  region: (origin) => origin.region,
  zone: (origin) => origin.zone,
  sub_zone: (origin) => origin.subZone,
  envoy_version: (origin) => origin.envoyVersion,
  log_name: (origin) => origin.logName,
}

const party = (side: 'source' | 'destination', field: keyof Party): [string, (identity: Identity) => string] => [
  `${side}_${field}`,
  (identity) => identity[side][field],
]
const PARTY_FIELDS = ['workload', 'namespace', 'service', 'version', 'principal'] as const
const IDENTITY_COLUMNS: Readonly<Record<string, (identity: Identity) => string>> = {
  mesh: (identity) => identity.mesh,
  reporter: (identity) => identity.reporter,
  ...Object.fromEntries(PARTY_FIELDS.map((field) => party('source', field))),
  ...Object.fromEntries(PARTY_FIELDS.map((field) => party('destination', field))),
}

const SPARSE_INDEX = new Map<string, number>(SPARSE.map((name, k) => [name, k]))

/** Appends one column to a block; false when no row has a value: the engine then fills in the default. */
type Writer = (out: PieceSink, rows: number) => boolean

/**
 * Makes Native blocks out of a builder's columns. Most buffers of a block are those of the columns; what the format
 * wants otherwise (UInt64 for Float64, null maps, one-byte indexes) is converted into buffers that the encoder keeps.
 */
export class BlockEncoder {
  readonly #columns: RowColumns
  readonly #writers: readonly Writer[]
  readonly #pieces = new Pieces()
  /** Conversion buffers by column, made when first used; those of indexes are apart. */
  readonly #scratch = new Map<string, ArrayBufferView>()
  readonly #narrowed = new Map<string, Uint8Array>()
  readonly #originTexts = new EncodedTexts(Object.values(ORIGIN_COLUMNS))
  readonly #identityTexts = new EncodedTexts(Object.values(IDENTITY_COLUMNS))
  /** Indexes of this block into streams and identities, shared by all columns that depend on them. */
  #streamIndex: Uint8Array | Uint16Array = new Uint8Array(0)
  #identityIndex: Uint8Array | Uint16Array = new Uint8Array(0)
  #segment = ''

  constructor(columns: RowColumns) {
    this.#columns = columns
    const writers = this.#writersByName()
    this.#writers = STORED_ROW_COLUMNS.map(({ name }) => {
      const writer = writers.get(name)
      if (writer === undefined) throw new Error(`no encoder for column ${name}`)
      return writer
    })
  }

  encode(segment: string): NativeBlock {
    const columns = this.#columns
    const { rows } = columns
    this.#segment = segment
    this.#streamIndex = this.#indexes('stream', columns.stream, columns.origins.length)
    this.#identityIndex = this.#indexes('identity', columns.identity, columns.identities.identities.length)
    this.#originTexts.begin(columns.origins)
    this.#identityTexts.begin(columns.identities.identities)
    const pieces = this.#pieces
    pieces.begin()
    let count = 0
    for (const write of this.#writers) if (write(pieces, rows)) count++
    return {
      buffers: pieces.finish(blockHeader(count, rows)),
      rows,
      days: rowsByDay(columns.endSeconds, rows),
      nodes: rowsByNode(columns, rows),
    }
  }

  #writersByName(): Map<string, Writer> {
    const c = this.#columns
    const writers = new Map<string, Writer>()
    writers.set('end_time', (out, rows) => {
      const words = this.#words('end_time')
      nanosInto(words, c.endSeconds, c.endNanos, rows)
      return fixed(out, 'end_time', "DateTime64(9, 'UTC')", words, 2 * rows)
    })
    writers.set('received', (out, rows) => fixed(out, 'received', "DateTime64(3, 'UTC')", c.received, 2 * rows))
    writers.set('segment', (out, rows) => {
      const zeros = this.#scratchOf('segment', () => new Uint8Array(c.rowsMax))
      return this.#lowCardinality(out, 'segment', keyListOf([this.#segment]), 1, zeros, rows)
    })
    Object.keys(ORIGIN_COLUMNS).forEach((name, k) => {
      writers.set(name, (out, rows) => {
        const keys = this.#originTexts.keyList(k)
        return keys !== null && this.#lowCardinality(out, name, keys, c.origins.length, this.#streamIndex, rows)
      })
    })
    Object.keys(IDENTITY_COLUMNS).forEach((name, k) => {
      writers.set(name, (out, rows) => {
        const keys = this.#identityTexts.keyList(k)
        const { identities } = c.identities
        return keys !== null && this.#lowCardinality(out, name, keys, identities.length, this.#identityIndex, rows)
      })
    })
    const enums: [string, FixedDictionary, Uint8Array | Uint16Array][] = [
      ['kind', ENUMS.kind, c.kind],
      ['entry_type', ENUMS.entry_type, c.entryType],
      ['outcome', ENUMS.outcome, c.outcome],
      ['class', ENUMS.class, c.responseClass],
      ['protocol', ENUMS.protocol, c.protocol],
      ['method', ENUMS.method, c.method],
    ]
    for (const [name, dictionary, codes] of enums) {
      writers.set(name, (out, rows) => {
        const indexes = codes.BYTES_PER_ELEMENT === 1 ? codes : this.#narrow(name, codes, rows)
        return this.#lowCardinality(out, name, dictionary.keyList(), dictionary.count, indexes, rows)
      })
    }
    for (const name of DENSE_DICTIONARIES) writers.set(name, this.#dictionary(name))
    for (const name of SPARSE_DICTIONARIES) writers.set(name, this.#sparse(name, this.#dictionary(name)))
    const numberTypes = { 8: 'UInt8', 16: 'UInt16', 64: 'Float64' } as const
    for (const [name, bits] of Object.entries(SPARSE_NUMBERS) as [SparseNumberName, 8 | 16 | 64][]) {
      const type = numberTypes[bits]
      const values = c.numbers[name]
      writers.set(
        name,
        this.#sparse(name, (out, rows) => fixed(out, name, type, values, rows)),
      )
    }
    writers.set(
      'tls_version',
      this.#sparse('tls_version', (out, rows) => {
        const { tls_version } = ENUMS
        const codes = c.numbers.tls_version as Uint8Array
        return this.#lowCardinality(out, 'tls_version', tls_version.keyList(), tls_version.count, codes, rows)
      }),
    )
    for (const name of PORTS) {
      const ports = c.ports[name]
      writers.set(name, (out, rows) => someSet(ports, rows) && fixed(out, name, 'UInt16', ports, rows))
    }
    for (const name of COUNTS) {
      const words = c.counts[name]
      writers.set(name, (out, rows) => someSet(words, 2 * rows) && fixed(out, name, 'UInt64', words, 2 * rows))
    }
    for (const name of READ_COUNTS) {
      const values = c.readCounts[name]
      writers.set(name, (out, rows) => {
        const words = this.#words(name)
        return countsInto(words, values, rows) && fixed(out, name, 'UInt64', words, 2 * rows)
      })
    }
    POINTS.forEach((name, k) => {
      const values = c.points[k]!
      const nullsName = `${name} nulls`
      writers.set(name, (out, rows) => {
        const words = this.#words(name)
        const nulls = this.#scratchOf(nullsName, () => new Uint8Array(c.rowsMax))
        if (!nullableInto(words, nulls, values, rows)) return false
        out.push(columnHeader(name, 'Nullable(UInt64)'), bytesOf(nulls, rows), bytesOf(words, 2 * rows))
        return true
      })
    })
    writers.set('duration_ns', (out, rows) => {
      const words = this.#words('duration_ns')
      countsInto(words, c.duration, rows)
      return fixed(out, 'duration_ns', 'UInt64', words, 2 * rows)
    })
    writers.set('response_flags', (out, rows) => {
      const words = this.#words('response_flags')
      let any = 0
      for (let i = 0; i < rows; i++) any |= words[2 * i] = c.flags[i]!
      return any !== 0 && fixed(out, 'response_flags', 'UInt64', words, 2 * rows)
    })
    writers.set('response_code', (out, rows) => {
      const values = this.#scratchOf('response_code', () => new Uint16Array(c.rowsMax))
      const nulls = this.#scratchOf('response_code nulls', () => new Uint8Array(c.rowsMax))
      if (!smallNullableInto(values, nulls, c.code, rows)) return false
      out.push(columnHeader('response_code', 'Nullable(UInt16)'), bytesOf(nulls, rows), bytesOf(values, rows))
      return true
    })
    writers.set('grpc_status', (out, rows) => {
      const values = this.#scratchOf('grpc_status', () => new Uint8Array(c.rowsMax))
      const nulls = this.#scratchOf('grpc_status nulls', () => new Uint8Array(c.rowsMax))
      if (!smallNullableInto(values, nulls, c.grpcStatus, rows)) return false
      out.push(columnHeader('grpc_status', 'Nullable(UInt8)'), bytesOf(nulls, rows), bytesOf(values, rows))
      return true
    })
    writers.set(
      'attempts',
      (out, rows) => someSet(c.attempts, rows) && fixed(out, 'attempts', 'UInt32', c.attempts, rows),
    )
    writers.set('stream_is_request', (out, rows) => {
      return someSet(c.streamIsRequest, rows) && fixed(out, 'stream_is_request', 'UInt8', c.streamIsRequest, rows)
    })
    writers.set('secondary', (out, rows) => c.anySecondary && fixed(out, 'secondary', 'Bool', c.secondary, rows))
    writers.set('precision_ns', (out, rows) => {
      const values = this.#scratchOf('precision_ns', () => new Uint32Array(c.rowsMax))
      const precisions = c.origins.map((origin) => origin.precisionNs)
      if (precisions.every((precision) => precision === precisions[0])) values.fill(precisions[0] ?? 0, 0, rows)
      else for (let i = 0; i < rows; i++) values[i] = precisions[c.stream[i]!]!
      return fixed(out, 'precision_ns', 'UInt32', values, rows)
    })
    writers.set('request_uuid', (out, rows) => uuid(out, 'request_uuid', c.requestUuid, rows))
    writers.set('stream_uuid', (out, rows) => uuid(out, 'stream_uuid', c.streamUuid, rows))
    writers.set(
      'trace_uuid',
      this.#sparse('trace_uuid', (out, rows) => fixed(out, 'trace_uuid', 'UUID', c.traceUuid, 4 * rows)),
    )
    writers.set(
      'span_number',
      this.#sparse('span_number', (out, rows) => fixed(out, 'span_number', 'UInt64', c.spanNumber, 2 * rows)),
    )
    for (const name of HEAPS) {
      const heap = c.heaps[name]
      writers.set(name, (out, rows) => {
        if (heap.rows === 0) return false
        heap.fill(rows)
        out.push(columnHeader(name, 'String'), heap.bytes.subarray(0, heap.end))
        return true
      })
    }
    for (const name of TEXT_MAPS) {
      const map = c.maps[name]
      writers.set(name, (out, rows) => map.encode(out, rows))
    }
    writers.set('filter_state', (out, rows) => c.filterState.encode(out, rows))
    return writers
  }

  #sparse(name: SparseName, write: Writer): Writer {
    const k = SPARSE_INDEX.get(name)!
    return (out, rows) => this.#columns.touched[k] !== 0 && write(out, rows)
  }

  #dictionary(name: keyof RowColumns['dictionaries']): Writer {
    const dictionary = this.#columns.dictionaries[name]
    const codes = this.#columns.codes[name]
    return (out, rows) => {
      if (dictionary.count === 1) return false
      const indexes = dictionary.count <= 256 ? this.#narrow(name, codes, rows) : codes
      return this.#lowCardinality(out, name, dictionary.keyList(), dictionary.count, indexes, rows)
    }
  }

  #lowCardinality(
    out: PieceSink,
    name: string,
    keyList: Uint8Array,
    keys: number,
    indexes: Uint8Array | Uint16Array,
    rows: number,
  ): boolean {
    out.push(columnHeader(name, LC), LOW_CARDINALITY_PREFIX)
    lowCardinality(out, keyList, keys, indexes, rows)
    return true
  }

  #indexes(name: string, codes: Uint16Array, keys: number): Uint8Array | Uint16Array {
    return keys <= 256 ? this.#narrow(name, codes, this.#columns.rows) : codes
  }

  #narrow(name: string, codes: Uint8Array | Uint16Array, rows: number): Uint8Array {
    let narrow = this.#narrowed.get(name)
    if (narrow === undefined) {
      narrow = new Uint8Array(this.#columns.rowsMax)
      this.#narrowed.set(name, narrow)
    }
    for (let i = 0; i < rows; i++) narrow[i] = codes[i]!
    return narrow
  }

  #words(name: string): Uint32Array {
    return this.#scratchOf(name, () => new Uint32Array(2 * this.#columns.rowsMax))
  }

  #scratchOf<T extends ArrayBufferView>(name: string, make: () => T): T {
    let scratch = this.#scratch.get(name)
    if (scratch === undefined) {
      scratch = make()
      this.#scratch.set(name, scratch)
    }
    return scratch as T
  }
}

function fixed(
  out: PieceSink,
  name: string,
  type: string,
  values: ArrayBufferView & { readonly BYTES_PER_ELEMENT: number },
  elements: number,
): boolean {
  out.push(columnHeader(name, type), bytesOf(values, elements))
  return true
}

function uuid(out: PieceSink, name: string, words: Int32Array, rows: number): boolean {
  return someSet(words, 4 * rows) && fixed(out, name, 'UUID', words, 4 * rows)
}

function someSet(values: Uint8Array | Uint16Array | Uint32Array | Int32Array, count: number): boolean {
  for (let i = 0; i < count; i++) if (values[i] !== 0) return true
  return false
}

/** 2^−32: the high word of a whole number is what is left of the product, exactly. */
const HIGH = 2 ** -32

/** Whole numbers from 0 to 2^63 as UInt64 (low word, high word). False when all are zero. */
function countsInto(words: Uint32Array, values: Float64Array, rows: number): boolean {
  let largest = 0
  for (let i = 0, at = 0; i < rows; i++, at += 2) {
    const value = values[i]!
    if (value > largest) largest = value
    words[at] = value
    words[at + 1] = value * HIGH
  }
  return largest > 0
}

/** The same with −1 for NULL. False when all are NULL. */
function nullableInto(words: Uint32Array, nulls: Uint8Array, values: Float64Array, rows: number): boolean {
  let all = true
  for (let i = 0, at = 0; i < rows; i++, at += 2) {
    let value = values[i]!
    let missing = 0
    if (value < 0) {
      missing = 1
      value = 0
    } else all = false
    nulls[i] = missing
    words[at] = value
    words[at + 1] = value * HIGH
  }
  return !all
}

function smallNullableInto(
  values: Uint8Array | Uint16Array,
  nulls: Uint8Array,
  source: Int32Array | Int16Array,
  rows: number,
): boolean {
  let all = 1
  for (let i = 0; i < rows; i++) {
    const value = source[i]!
    const missing = value < 0 ? 1 : 0
    nulls[i] = missing
    values[i] = missing === 1 ? 0 : value
    all &= missing
  }
  return all === 0
}

/**
 * Unix seconds and nanoseconds as one Int64 of nanoseconds, in two words. Seconds × 10⁹ needs 62 bits; the product is
 * put together from 16-bit halves of the seconds, so that every step is exact in a Float64.
 */
function nanosInto(words: Uint32Array, seconds: Uint32Array, nanos: Uint32Array, rows: number): void {
  let last = -1
  let low = 0
  let high = 0
  for (let i = 0; i < rows; i++) {
    const second = seconds[i]!
    if (second !== last) {
      last = second
      const top = Math.floor(second / 65_536) * 1e9
      const carry = Math.floor(top / 65_536)
      const rest = (top - carry * 65_536) * 65_536 + (second % 65_536) * 1e9
      const over = Math.floor(rest / WORD)
      high = carry + over
      low = rest - over * WORD
    }
    const value = low + nanos[i]!
    if (value < WORD) {
      words[2 * i] = value
      words[2 * i + 1] = high
    } else {
      words[2 * i] = value - WORD
      words[2 * i + 1] = high + 1
    }
  }
}

function rowsByDay(endSeconds: Uint32Array, rows: number): Map<number, number> {
  const days = new Map<number, number>()
  if (rows === 0) return days
  let least = endSeconds[0]!
  let most = least
  for (let i = 1; i < rows; i++) {
    const second = endSeconds[i]!
    if (second < least) least = second
    else if (second > most) most = second
  }
  const first = Math.floor(least / DAY_SECONDS)
  if (first === Math.floor(most / DAY_SECONDS)) return days.set(first, rows)
  for (let i = 0; i < rows; i++) {
    const day = Math.floor(endSeconds[i]! / DAY_SECONDS)
    days.set(day, (days.get(day) ?? 0) + 1)
  }
  return days
}

function rowsByNode(columns: RowColumns, rows: number): Map<string, number> {
  const counts = new Uint32Array(columns.origins.length)
  const { stream } = columns
  for (let i = 0; i < rows; i++) counts[stream[i]!]!++
  const nodes = new Map<string, number>()
  columns.origins.forEach(({ nodeId }, code) => {
    const count = counts[code]!
    if (count > 0) nodes.set(nodeId, (nodes.get(nodeId) ?? 0) + count)
  })
  return nodes
}
