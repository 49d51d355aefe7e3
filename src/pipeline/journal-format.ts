import { crc32 } from 'node:zlib'
import { ROW_TABLES, type RowTable, SEGMENT_TABLES, SOURCE_TABLES, type SourceTable } from '../model/schema.ts'
import type { SegmentTable } from './segment.ts'

/**
 * Names and records of the journal; the whole layout is drawn in `journal.ts`. Pure: no file is touched here.
 *
 * Index records are one line each, `<crc32 of the JSON, 8 hex digits> <JSON>\n`, and say everything about their block,
 * the segment's id included: a damaged line costs its own block and no other.
 */

/** Of the layout. Newer ones are refused by name, older ones replayed. 2 brought groups and notes. */
export const FORMAT_VERSION = 2

export type JournalTable = SegmentTable['table']

/** Where a segment stands in the order of one worker's segments. */
export interface Position {
  /** 9 digits of base 36, ms of the process's start, always above the epoch before; then 4 random ones. */
  readonly epoch: string
  readonly seq: number
}

export interface BlockRecord {
  readonly segment: string
  readonly table: JournalTable
  /** First byte in the table's file. */
  readonly offset: number
  readonly bytes: number
  readonly rows: number
  /** `blockCrc` of the bytes. */
  readonly crc: number
  /** Wall clock, ms, of the append. */
  readonly atMs: number
  readonly days: readonly (readonly [number, number])[]
  readonly nodes: readonly (readonly [string, number])[]
}

/**
 * What a receiver remembers of its source, such as a position in a file: a key, and a value that is JSON. A later note
 * of the same key replaces an earlier one.
 */
export type Note = readonly [key: string, value: unknown]

/**
 * Blocks of several tables, and notes, in one line: after a crash all of them are there or none. A note is what became
 * true by these blocks, so it must not be believed without them.
 */
export interface GroupRecord {
  readonly segment: string
  readonly blocks: readonly BlockRecord[]
  readonly notes: readonly Note[]
  /** Wall clock, ms, of the append. */
  readonly atMs: number
}

/** The last record of a whole segment. */
export interface SealRecord {
  readonly segment: string
  readonly sealedMs: number
  /** Block records before this one. */
  readonly blocks: number
  /** The segment was put together again from what was left: it has no rollups. */
  readonly recovered: boolean
}

export interface Index {
  /** Of the first sound record; records of another segment count as damage. Null when there is none. */
  readonly segment: string | null
  /** Those of groups included. */
  readonly blocks: readonly BlockRecord[]
  /** Groups that have notes, in order; their blocks are in `blocks` as well. */
  readonly groups: readonly GroupRecord[]
  readonly seal: SealRecord | null
  /** Offsets of lines whose CRC does not hold or that make no sense, the torn last one excluded. */
  readonly damaged: readonly number[]
  /** Bytes after the last line end: an append that was cut off. */
  readonly tornBytes: number
}

const NAME = /^([0-9a-z]{13})-(\d{1,15})$/
const TIME_DIGITS = 9
const RANDOM_DIGITS = 4

export function segmentName(position: Position): string {
  return `${position.epoch}-${position.seq}`
}

export function segmentId(worker: number, position: Position): string {
  return `${worker}-${segmentName(position)}`
}

export function parseSegmentName(name: string): Position | null {
  const match = NAME.exec(name)
  return match === null ? null : { epoch: match[1]!, seq: Number(match[2]) }
}

export function parseSegmentId(id: string): (Position & { readonly worker: number }) | null {
  const dash = id.indexOf('-')
  const worker = id.slice(0, dash)
  const position = /^\d{1,5}$/.test(worker) ? parseSegmentName(id.slice(dash + 1)) : null
  return position === null ? null : { ...position, worker: Number(worker) }
}

export function comparePositions(a: Position, b: Position): number {
  if (a.epoch !== b.epoch) return a.epoch < b.epoch ? -1 : 1
  return a.seq - b.seq
}

/**
 * A new epoch, above `previous` even when the clock went back. The random digits keep two installations apart that
 * start in one millisecond and write to one cluster: segment ids are deduplication tokens.
 */
export function nextEpoch(nowMs: number, previous: string | null, random: () => number): string {
  const before = previous === null ? -1 : Number.parseInt(previous.slice(0, TIME_DIGITS), 36)
  const time = Math.max(Math.floor(nowMs), before + 1)
  const noise = Math.floor(random() * 36 ** RANDOM_DIGITS)
  return time.toString(36).padStart(TIME_DIGITS, '0') + noise.toString(36).padStart(RANDOM_DIGITS, '0')
}

export const isEpoch = (text: string): boolean => /^[0-9a-z]{13}$/.test(text)

const TABLE_SET: ReadonlySet<string> = new Set(SEGMENT_TABLES)
export const isJournalTable = (name: string): name is JournalTable => TABLE_SET.has(name)

const ROW_TABLE_SET: ReadonlySet<string> = new Set(ROW_TABLES)
/** Tables whose rows the ledger counts. */
export const isRowTable = (name: string): name is RowTable => ROW_TABLE_SET.has(name)

const SOURCE_TABLE_SET: ReadonlySet<string> = new Set(SOURCE_TABLES)
/** What arrived: rows, stats and spans. Every other table can be computed from them. */
export const isSourceTable = (name: string): name is SourceTable => SOURCE_TABLE_SET.has(name)

/**
 * CRC-32 of a block, seeded with where it belongs. The same bytes at another offset, or left in a recycled file by
 * an earlier segment, have another CRC: for equal data, different seeds never give equal results.
 */
export function blockCrc(seed: number, buffers: readonly Uint8Array[]): number {
  let crc = seed
  for (const buffer of buffers) crc = crc32(buffer, crc)
  return crc
}

export function blockSeed(segment: string, table: string, offset: number): number {
  return crc32(`${segment}/${table}@${offset}`)
}

export function encodeBlockRecord(record: BlockRecord): Buffer {
  const { crc, ...rest } = record
  return encodeLine({ ...rest, crc: hex(crc) })
}

export function encodeGroupRecord({ segment, blocks, notes, atMs }: GroupRecord): Buffer {
  const group = blocks.map(({ table, offset, bytes, rows, crc, days, nodes }) => {
    return { table, offset, bytes, rows, days, nodes, crc: hex(crc) }
  })
  return encodeLine({ segment, atMs, group, notes })
}

export function encodeSealRecord(record: SealRecord): Buffer {
  return encodeLine({ ...record })
}

function encodeLine(value: object): Buffer {
  const json = JSON.stringify(value)
  return Buffer.from(`${hex(crc32(json))} ${json}\n`)
}

const hex = (value: number): string => value.toString(16).padStart(8, '0')

const NEWLINE = 10

/** Reads an index file, whatever is in it. */
export function parseIndex(bytes: Uint8Array): Index {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const blocks: BlockRecord[] = []
  const groups: GroupRecord[] = []
  const damaged: number[] = []
  let segment: string | null = null
  let seal: SealRecord | null = null
  let at = 0
  for (let end = text.indexOf(NEWLINE, at); end >= 0; end = text.indexOf(NEWLINE, at)) {
    const record = decodeLine(text.subarray(at, end))
    segment ??= record?.segment ?? null
    if (record === null || record.segment !== segment) damaged.push(at)
    else if ('sealedMs' in record) seal = record
    else if ('notes' in record) {
      blocks.push(...record.blocks)
      if (record.notes.length > 0) groups.push(record)
    } else blocks.push(record)
    at = end + 1
  }
  return { segment, blocks, groups, seal, damaged, tornBytes: text.length - at }
}

/** Reads a file of group records, of whatever segments; what is damaged is left out. */
export function parseGroups(bytes: Uint8Array): GroupRecord[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const groups: GroupRecord[] = []
  let at = 0
  for (let end = text.indexOf(NEWLINE, at); end >= 0; end = text.indexOf(NEWLINE, at)) {
    const record = decodeLine(text.subarray(at, end))
    if (record !== null && 'notes' in record) groups.push(record)
    at = end + 1
  }
  return groups
}

function decodeLine(line: Buffer): BlockRecord | GroupRecord | SealRecord | null {
  if (line.length < 11 || line[8] !== 32) return null
  const json = line.subarray(9)
  if (line.toString('latin1', 0, 8) !== hex(crc32(json))) return null
  let value: unknown
  try {
    value = JSON.parse(json.toString())
  } catch {
    return null
  }
  return readBlockRecord(value) ?? readSealRecord(value) ?? readGroupRecord(value)
}

function readGroupRecord(value: unknown): GroupRecord | null {
  if (typeof value !== 'object' || value === null) return null
  const { segment, atMs, group, notes } = value as Record<string, unknown>
  if (typeof segment !== 'string' || parseSegmentId(segment) === null || !isCount(atMs)) return null
  if (!Array.isArray(group) || !Array.isArray(notes) || !notes.every(isNote)) return null
  const blocks: BlockRecord[] = []
  for (const part of group) {
    const block = typeof part === 'object' && part !== null ? readBlockRecord({ ...part, segment, atMs }) : null
    if (block === null) return null
    blocks.push(block)
  }
  return { segment, blocks, notes, atMs }
}

function isNote(value: unknown): value is Note {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string'
}

function readBlockRecord(value: unknown): BlockRecord | null {
  if (typeof value !== 'object' || value === null) return null
  const { segment, table, offset, bytes, rows, crc, atMs, days, nodes } = value as Record<string, unknown>
  if (typeof segment !== 'string' || parseSegmentId(segment) === null) return null
  if (typeof table !== 'string' || !isJournalTable(table)) return null
  if (!isCount(offset) || !isCount(bytes) || bytes === 0 || !isCount(rows) || !isCount(atMs)) return null
  if (typeof crc !== 'string' || !/^[0-9a-f]{8}$/.test(crc)) return null
  if (!isPairs(days, isInteger) || !isPairs(nodes, isText)) return null
  return { segment, table, offset, bytes, rows, crc: Number.parseInt(crc, 16), atMs, days, nodes }
}

function readSealRecord(value: unknown): SealRecord | null {
  if (typeof value !== 'object' || value === null) return null
  const { segment, sealedMs, blocks, recovered } = value as Record<string, unknown>
  if (typeof segment !== 'string' || parseSegmentId(segment) === null) return null
  if (!isCount(sealedMs) || !isCount(blocks) || typeof recovered !== 'boolean') return null
  return { segment, sealedMs, blocks, recovered }
}

const isInteger = (value: unknown): value is number => Number.isSafeInteger(value)
const isCount = (value: unknown): value is number => isInteger(value) && value >= 0
const isText = (value: unknown): value is string => typeof value === 'string'

function isPairs<K>(value: unknown, isKey: (key: unknown) => key is K): value is [K, number][] {
  return (
    Array.isArray(value) &&
    value.every((pair) => Array.isArray(pair) && pair.length === 2 && isKey(pair[0]) && isCount(pair[1]))
  )
}
