import { isJournalTable, parseSegmentId } from '../pipeline/journal-format.ts'
import type { SegmentTable } from '../pipeline/segment.ts'
import { COMPRESSIONS, type Compression } from './producer.ts'

/**
 * How a sealed segment travels through Kafka: its files cut into slices, one record each, and a last record that says what
 * the whole is. All records of a segment are on one partition, in order.
 *
 *   part 1/5   requests@0         bytes 0 … 982 999 of the file
 *   part 2/5   requests@983000    the rest
 *   part 3/5   latency_1m@0
 *   part 4/5   samples@0
 *   part 5/5   manifest           JSON: times, tables with bytes, rows, days and CRC-32
 *
 * An edge that was killed after the broker's answer sends the segment again, at new offsets: the segment's id and not an
 * offset says what a record is. Each time that it is sent has a number of its own (`send`): parts of two sends are never
 * put together, because a segment that was damaged in between has fewer rows.
 */
export interface PartHeader {
  /** Of the layout of these records and of the columns in them. */
  readonly schema: number
  /** Which data directory the segment comes from, and the name of its machine. */
  readonly edge: string
  readonly node: string
  readonly segment: string
  readonly send: Send
  /** From 1; the last one is the manifest. */
  readonly part: number
  readonly parts: number
  /** It may have been sent before: by this process, or by one before it. */
  readonly doubt: boolean
  /** Of the value. */
  readonly encoding: Compression
  /** What the value is: a slice of a table's file, or the manifest. */
  readonly slice: { readonly table: SegmentTable['table']; readonly offset: number } | null
}

/** One attempt to send one segment. */
export interface Send {
  /** Of the process: that of its journal, 13 characters. */
  readonly epoch: string
  /** Grows with every send of the process, which begins one when the one before is over. */
  readonly number: number
}

export interface Manifest {
  readonly segment: string
  readonly openedMs: number
  readonly sealedMs: number
  readonly recovered: boolean
  readonly tables: readonly ManifestTable[]
}

export interface ManifestTable {
  readonly table: SegmentTable['table']
  readonly bytes: number
  readonly rows: number
  readonly blocks: number
  /** CRC-32 of the whole file. */
  readonly crc: number
  readonly days: readonly (readonly [number, number])[]
}

/**
 * 1: the first. A column that older programs do not know makes a new one: they would leave it out without a word. Writers
 * take every version up to their own and wait at a newer one, so they are updated before edges.
 */
export const SEGMENT_SCHEMA = 1
export const SEGMENT_TYPE = 'application/vnd.sidecast.segment'
const PARTS_MAX = 1 << 20

export function encodeHeader(header: PartHeader): Record<string, string> {
  const { schema, edge, node, segment, send, part, parts, doubt, encoding, slice } = header
  return {
    'content-type': slice === null ? `${SEGMENT_TYPE}+json` : `${SEGMENT_TYPE}+native`,
    'sidecast-schema': String(schema),
    'sidecast-edge': edge,
    'sidecast-node': node,
    'sidecast-segment': segment,
    'sidecast-send': `${send.epoch}-${send.number}`,
    'sidecast-part': `${part}/${parts}`,
    'sidecast-slice': slice === null ? 'manifest' : `${slice.table}@${slice.offset}`,
    ...(encoding === 'none' ? {} : { 'content-encoding': encoding }),
    ...(doubt ? { 'sidecast-doubt': '1' } : {}),
  }
}

/** Null: no part of a segment. Of a newer schema only that much is read. */
export function decodeHeader(headers: ReadonlyMap<string, string>): PartHeader | { readonly newer: number } | null {
  const schema = Number(headers.get('sidecast-schema'))
  if (!Number.isSafeInteger(schema) || schema < 1) return null
  if (schema > SEGMENT_SCHEMA) return { newer: schema }
  const edge = headers.get('sidecast-edge') ?? ''
  const segment = headers.get('sidecast-segment') ?? ''
  const send = /^([0-9a-z]{13})-(\d{1,15})$/.exec(headers.get('sidecast-send') ?? '')
  const part = /^(\d{1,7})\/(\d{1,7})$/.exec(headers.get('sidecast-part') ?? '')
  const slice = /^([a-z0-9_]{1,32})@(\d{1,15})$|^manifest$/.exec(headers.get('sidecast-slice') ?? '')
  if (!EDGE.test(edge) || parseSegmentId(segment) === null || send === null || part === null || slice === null)
    return null
  const encoding = COMPRESSIONS.find((name) => name === (headers.get('content-encoding') ?? 'none'))
  if (encoding === undefined) return null
  const [k, n] = [Number(part[1]), Number(part[2])]
  const table = slice[1]
  if (k < 1 || k > n || n > PARTS_MAX || (k === n) !== (table === undefined)) return null
  if (table !== undefined && !isJournalTable(table)) return null
  return {
    schema,
    edge,
    node: headers.get('sidecast-node') ?? '',
    segment,
    send: { epoch: send[1]!, number: Number(send[2]) },
    part: k,
    parts: n,
    doubt: headers.get('sidecast-doubt') === '1',
    encoding,
    slice: table === undefined ? null : { table, offset: Number(slice[2]) },
  }
}

const EDGE = /^[0-9A-Za-z._-]{1,64}$/

export function encodeManifest(manifest: Manifest): Buffer {
  return Buffer.from(JSON.stringify(manifest))
}

/** Null when it is none, or names what no segment has. */
export function decodeManifest(bytes: Uint8Array): Manifest | null {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString())
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  const { segment, openedMs, sealedMs, recovered, tables } = value as Record<string, unknown>
  if (typeof segment !== 'string' || parseSegmentId(segment) === null) return null
  if (!isCount(openedMs) || !isCount(sealedMs) || typeof recovered !== 'boolean') return null
  if (!Array.isArray(tables) || !tables.every(isTable)) return null
  if (new Set(tables.map(({ table }) => table)).size !== tables.length) return null
  return { segment, openedMs, sealedMs, recovered, tables }
}

function isTable(value: unknown): value is ManifestTable {
  if (typeof value !== 'object' || value === null) return false
  const { table, bytes, rows, blocks, crc, days } = value as Record<string, unknown>
  return (
    typeof table === 'string' &&
    isJournalTable(table) &&
    [bytes, rows, blocks, crc].every(isCount) &&
    Array.isArray(days) &&
    days.every((day) => Array.isArray(day) && day.length === 2 && Number.isSafeInteger(day[0]) && isCount(day[1]))
  )
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
