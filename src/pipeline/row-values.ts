import type { NativeBlockColumns } from '../model/native-read.ts'
import { FLAG_OM_BIT, PHASES, POINTS, phasesInto } from '../model/phases.ts'
import { type ColumnKind, flagNames, KNOWN_COLUMNS } from '../model/where.ts'

/**
 * The public columns of a block of rows, those included that the store computes when they are read (`request_id`, `time`,
 * `upstream_host`, phases, …). Each is a pair of functions of the row, made once for a block; nothing is computed for rows
 * that are not asked for.
 */
export interface RowColumn {
  readonly name: string
  readonly kind: ColumnKind
  isNull(row: number): boolean
  /** As text: numbers in decimal, times in ns since 1970, flags as their names; '' where missing. Not of maps. */
  text(row: number): string
  /** Numbers, durations in ns, times in ns since 1970, flags as bits, booleans as 0 and 1; 0 where missing. */
  number(row: number): number
  /** The same, exactly. */
  bigint(row: number): bigint
  /** Of a map: the value under the key, '' without; every entry. */
  get(row: number, key: string): string
  entries(row: number): readonly (readonly [key: string, value: string])[]
  /** Code of a row, where the block has the column as a dictionary, and the texts of the codes. */
  readonly dictionary: { readonly codes: ArrayLike<number>; readonly texts: readonly string[] } | null
}

/** The column, made for this block. Throws for a name that is not public. */
export function rowColumn(block: NativeBlockColumns, name: string): RowColumn {
  const known = KNOWN_COLUMNS.get(name)
  if (known === undefined) throw new Error(`${name} is no public column`)
  const { kind } = known
  switch (kind) {
    case 'map':
      return mapColumn(block, name)
    case 'id':
      return texts(name, kind, idOf(block, name))
    case 'text':
      return known.column.expr === undefined ? storedText(block, name) : texts(name, kind, addressOf(block, name))
    case 'flags': {
      const bits = block.bigints(name)
      return numeric(
        name,
        kind,
        (row) => bits[row]!,
        never,
        (row) => flagNames(bits[row]!),
      )
    }
    case 'bool':
      return boolColumn(block, name)
    default:
      return numberColumn(block, name, kind, known.column.type)
  }
}

const never = (): boolean => false
const NONE: readonly [] = []

function base(name: string, kind: ColumnKind): Pick<RowColumn, 'name' | 'kind' | 'get' | 'entries' | 'dictionary'> {
  return { name, kind, get: () => '', entries: () => NONE, dictionary: null }
}

function texts(name: string, kind: ColumnKind, text: (row: number) => string): RowColumn {
  return { ...base(name, kind), isNull: never, text, number: () => 0, bigint: () => 0n }
}

function storedText(block: NativeBlockColumns, name: string): RowColumn {
  if (block.type(name) !== 'LowCardinality(String)') return texts(name, 'text', (row) => block.text(name, row))
  const dictionary = block.dictionary(name)
  return { ...texts(name, 'text', (row) => dictionary.texts[dictionary.codes[row]!]!), dictionary }
}

function numeric(
  name: string,
  kind: ColumnKind,
  bigint: (row: number) => bigint,
  isNull: (row: number) => boolean,
  text: (row: number) => string = (row) => (isNull(row) ? '' : bigint(row).toString()),
): RowColumn {
  return { ...base(name, kind), isNull, text, bigint, number: (row) => Number(bigint(row)) }
}

function numberColumn(block: NativeBlockColumns, name: string, kind: ColumnKind, type: string): RowColumn {
  if (name === 'time') {
    const end = block.bigints('end_time')
    const duration = block.bigints('duration_ns')
    return numeric(name, kind, (row) => end[row]! - duration[row]!, never)
  }
  if (name.startsWith('phase_')) {
    const phases = phasesOf(block)
    const k = PHASES.indexOf(name.slice('phase_'.length, -'_ns'.length) as (typeof PHASES)[number])
    return numeric(
      name,
      kind,
      (row) => (phases(row) ? BigInt(phases.values[k]!) : 0n),
      (row) => !phases(row),
    )
  }
  const nulls = block.nulls(name)
  const isNull = nulls === null ? never : (row: number) => nulls[row] === 1
  if (type.startsWith('DateTime64')) {
    const values = block.bigints(name)
    const scale = type.startsWith('DateTime64(3') ? 1_000_000n : 1n
    return numeric(name, kind, (row) => values[row]! * scale, isNull)
  }
  if (type.includes('64') && !type.includes('Float')) {
    const values = block.bigints(name)
    return numeric(name, kind, (row) => values[row]!, isNull)
  }
  const values = block.numbers(name)
  const text = (row: number): string => (isNull(row) ? '' : String(values[row]!))
  return {
    ...numeric(name, kind, (row) => BigInt(Math.trunc(values[row]!)), isNull, text),
    number: (row) => values[row]!,
  }
}

function boolColumn(block: NativeBlockColumns, name: string): RowColumn {
  const value = boolOf(block, name)
  return {
    ...base(name, 'bool'),
    isNull: never,
    text: (row) => String(value(row)),
    number: (row) => (value(row) ? 1 : 0),
    bigint: (row) => (value(row) ? 1n : 0n),
  }
}

const FUTURE_NS = 300_000_000_000n

function boolOf(block: NativeBlockColumns, name: string): (row: number) => boolean {
  if (name === 'phases_known') return phasesOf(block)
  if (name === 'in_future') {
    const end = block.bigints('end_time')
    const received = block.bigints('received')
    return (row) => end[row]! > received[row]! * 1_000_000n + FUTURE_NS
  }
  const values = block.numbers(name)
  return (row) => values[row] !== 0
}

function mapColumn(block: NativeBlockColumns, name: string): RowColumn {
  const { ends, keys, value } = block.textMap(name)
  const { codes, texts: names } = keys
  const from = (row: number): number => (row === 0 ? 0 : ends[row - 1]!)
  const get = (row: number, key: string): string => {
    for (let entry = from(row); entry < ends[row]!; entry++) if (names[codes[entry]!] === key) return value(entry)
    return ''
  }
  const entries = (row: number): [string, string][] => {
    const found: [string, string][] = []
    for (let entry = from(row); entry < ends[row]!; entry++) found.push([names[codes[entry]!]!, value(entry)])
    return found
  }
  return { ...texts(name, 'map', () => ''), get, entries }
}

/** `ip:port`, `[ip]:port`, or what stands for an address, as the schema's expression has it. */
function addressOf(block: NativeBlockColumns, name: string): (row: number) => string {
  const stem = ADDRESS_STEMS[name]
  if (stem === undefined) throw new Error(`${name} is computed, and not known here`)
  const { codes, texts: addresses } = block.dictionary(`${stem}_address`)
  const ports = block.numbers(`${stem}_port`)
  const bracketed = addresses.map(
    (address) => address.includes(':') && !address.startsWith('envoy://') && !address.startsWith('/'),
  )
  return (row) => {
    const code = codes[row]!
    const address = addresses[code]!
    if (ports[row] === 0) return address
    return bracketed[code]! ? `[${address}]:${ports[row]}` : `${address}:${ports[row]}`
  }
}

const ADDRESS_STEMS: Readonly<Record<string, string>> = {
  upstream_host: 'upstream_remote',
  upstream_local: 'upstream_local',
  downstream_remote: 'downstream_remote',
  downstream_direct: 'downstream_direct',
  downstream_local: 'downstream_local',
}

/** Ids are stored as halves: 16 bytes where they are canonical, a text where they are not. */
function idOf(block: NativeBlockColumns, name: string): (row: number) => string {
  switch (name) {
    case 'trace_id': {
      const words = block.words('trace_uuid')
      return (row) => (isZero(words, row) ? '' : hexOf(words, row))
    }
    case 'span_id': {
      const numbers = block.bigints('span_number')
      return (row) => (numbers[row] === 0n ? '' : numbers[row]!.toString(16).padStart(16, '0'))
    }
    case 'request_id':
      return uuidOrText(block, 'request')
    default: {
      const request = uuidOrText(block, 'request')
      const stream = uuidOrText(block, 'stream')
      const same = block.numbers('stream_is_request')
      return (row) => (same[row] === 1 ? request(row) : stream(row))
    }
  }
}

function uuidOrText(block: NativeBlockColumns, stem: 'request' | 'stream'): (row: number) => string {
  const words = block.words(`${stem}_uuid`)
  return (row) => {
    if (isZero(words, row)) return block.text(`${stem}_text`, row)
    const text = block.text(`${stem}_text`, row)
    return text === '' ? hexOf(words, row).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-') : text
  }
}

function isZero(words: Uint32Array, row: number): boolean {
  const at = 4 * row
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0 && words[at + 3] === 0
}

/** 32 hex digits. Each half stands with its low word first. */
function hexOf(words: Uint32Array, row: number): string {
  let text = ''
  for (const k of [1, 0, 3, 2]) text += words[4 * row + k]!.toString(16).padStart(8, '0')
  return text
}

/** Whether a row has phases; then `values` has its seven, in ns, until the next call. One for a block. */
export type PhasesOfRow = ((row: number) => boolean) & { readonly values: Float64Array }

const PHASE_READERS = new WeakMap<NativeBlockColumns, PhasesOfRow>()

export function phasesOf(block: NativeBlockColumns): PhasesOfRow {
  const made = PHASE_READERS.get(block)
  if (made !== undefined) return made
  const values = new Float64Array(7)
  const points = POINTS.map((point) => ({ at: block.numbers(point), nulls: block.nulls(point)! }))
  const duration = block.numbers('duration_ns')
  const flags = block.bigints('response_flags')
  const point = (k: number, row: number): number => (points[k]!.nulls[row] === 1 ? -1 : points[k]!.at[row]!)
  const read = (row: number): boolean =>
    phasesInto(
      values,
      0,
      point(0, row),
      point(1, row),
      point(2, row),
      point(3, row),
      point(4, row),
      point(5, row),
      point(6, row),
      duration[row]!,
      ((flags[row]! >> BigInt(FLAG_OM_BIT)) & 1n) === 1n,
    )
  const reader = Object.assign(read, { values })
  PHASE_READERS.set(block, reader)
  return reader
}
