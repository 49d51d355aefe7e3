import { readdirSync, readFileSync, statSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { NativeBlock } from '../model/batch.ts'
import { type JournalFiles, replaceFile, writeAll } from './journal-files.ts'
import {
  type BlockRecord,
  blockCrc,
  blockSeed,
  encodeBlockRecord,
  encodeGroupRecord,
  encodeSealRecord,
  type Index,
  isJournalTable,
  isRowTable,
  isSourceTable,
  type JournalTable,
  type Note,
  parseIndex,
  parseSegmentId,
  segmentName,
} from './journal-format.ts'
import { unrecordedRows } from './journal-unrecorded.ts'
import type { SegmentTable } from './segment.ts'

/**
 * Reading segments back, whole or not. A block is sound when its record is, its bytes are all there, and their CRC
 * holds; every sound block of a row table is saved, wherever the damage is, and nothing else ever is.
 *
 *   unsealed, blocks sound, perhaps a tail without a record  →  files cut in place, index written anew, the rollup made
 *                                                               from the rows, sealed
 *   anything damaged                                         →  sound blocks copied to salvage-<name>, the original
 *                                                               moved to quarantine/<name>, salvage-<name> to <name>
 *
 * Until the last rename a crash leaves the original, or a complete salvage that the next start puts in place.
 */

/** What a folder holds, by its index and the sizes of its files. */
export interface FoundSegment {
  readonly id: string
  readonly openedMs: number
  readonly sealedMs: number
  readonly recovered: boolean
  readonly tables: readonly SegmentTable[]
  /** All files, index included. */
  readonly bytes: number
  /** What was noted beside its blocks, in order. */
  readonly notes: readonly Note[]
}

/** A place where a file is not what it was. */
export interface Damage {
  readonly file: string
  readonly offset: number
  readonly bytes: number
  /** Rows that were there, where the index tells. */
  readonly rows: number
  readonly reason: 'checksum' | 'short' | 'no record' | 'index' | 'order'
}

export interface SegmentCheck {
  readonly index: Index
  /** By table, in the order of their offsets. */
  readonly sound: ReadonlyMap<JournalTable, readonly BlockRecord[]>
  readonly damage: readonly Damage[]
  /** Bytes after the last record of each file: an append that was cut off, and stale bytes of a recycled file. */
  readonly tailBytes: number
  readonly lostNodes: ReadonlyMap<string, number>
  /** Of groups all of whose blocks are sound. */
  readonly notes: readonly Note[]
}

/** Reads the index and compares it with the files, without reading them. Null when they do not agree. */
export function readSealed(dir: string, id: string): FoundSegment | null {
  let index: Index
  let indexBytes: number
  const sizes = new Map<string, number>()
  try {
    const bytes = readFileSync(join(dir, 'index'))
    index = parseIndex(bytes)
    indexBytes = bytes.length
    for (const name of readdirSync(dir)) {
      // Anything else, such as what an interrupted rescue left, is nobody's.
      if (name.endsWith('.seg')) sizes.set(name, statSync(join(dir, name)).size)
    }
  } catch {
    return null
  }
  if (index.segment !== id || index.damaged.length > 0 || index.tornBytes > 0) return null
  if (index.seal !== null && index.seal.blocks !== index.blocks.length) return null
  const tables = summarize(index.blocks, (table) => join(dir, `${table}.seg`))
  if (tables === null || tables.length !== sizes.size) return null
  if (!tables.every((table) => sizes.get(basename(table.file)) === table.bytes)) return null
  // Without its last record a segment may lack rollups: then it is as good as a recovered one.
  const recovered = index.seal?.recovered ?? true
  const kept = recovered ? tables.filter(({ table }) => isSourceTable(table)) : tables
  if (kept.length === 0) return null
  const openedMs = Math.min(...index.blocks.map(({ atMs }) => atMs))
  const sealedMs = index.seal?.sealedMs ?? Math.max(...index.blocks.map(({ atMs }) => atMs))
  const bytes = tables.reduce((sum, table) => sum + table.bytes, indexBytes)
  return { id, openedMs, sealedMs, recovered, tables: kept, bytes, notes: index.groups.flatMap(({ notes }) => notes) }
}

/** Sums records up by table; null when they leave holes or overlap. */
function summarize(records: readonly BlockRecord[], file: (table: JournalTable) => string): SegmentTable[] | null {
  const tables = new Map<JournalTable, Sum>()
  for (const record of records) {
    let sum = tables.get(record.table)
    if (sum === undefined) {
      sum = {
        table: record.table,
        file: file(record.table),
        bytes: 0,
        rows: 0,
        blocks: 0,
        days: new Map(),
        nodes: new Map(),
      }
      tables.set(record.table, sum)
    }
    if (record.offset !== sum.bytes) return null
    sum.bytes += record.bytes
    sum.rows += record.rows
    sum.blocks++
    for (const [day, rows] of record.days) sum.days.set(day, (sum.days.get(day) ?? 0) + rows)
    for (const [node, rows] of record.nodes) sum.nodes.set(node, (sum.nodes.get(node) ?? 0) + rows)
  }
  return [...tables.values()]
}

interface Sum {
  table: JournalTable
  file: string
  bytes: number
  rows: number
  blocks: number
  days: Map<number, number>
  nodes: Map<string, number>
}

/** Reads a whole segment, sealed or not, and tells sound blocks from damage. Throws only when the disk cannot be read. */
export async function checkSegment(dir: string): Promise<SegmentCheck> {
  const index = parseIndex(readOrNothing(join(dir, 'index')))
  const sound = new Map<JournalTable, BlockRecord[]>()
  const damage: Damage[] = index.damaged.map((offset) => ({
    file: join(dir, 'index'),
    offset,
    bytes: 0,
    rows: 0,
    reason: 'index',
  }))
  if (index.seal !== null && index.seal.blocks !== index.blocks.length) {
    damage.push({ file: join(dir, 'index'), offset: 0, bytes: 0, rows: 0, reason: 'index' })
  }
  const lostNodes = new Map<string, number>()
  let tailBytes = index.tornBytes
  for (const [table, path] of tableFiles(dir, index.blocks)) {
    const records = index.blocks.filter((record) => record.table === table).sort((a, b) => a.offset - b.offset)
    const good: BlockRecord[] = []
    const file = await openOrNull(path)
    try {
      const size = file === null ? 0 : (await file.stat()).size
      let covered = 0
      const lostWithoutRecord = async (from: number, to: number): Promise<number> => {
        if (file === null || !isRowTable(table)) return 0
        const { rows, nodes } = await unrecordedRows({ file, table, from, to, segment: index.segment })
        for (const [node, lost] of nodes) lostNodes.set(node, (lostNodes.get(node) ?? 0) + lost)
        return rows
      }
      for (const record of records) {
        if (record.offset > covered && covered < size) {
          const bytes = Math.min(record.offset, size) - covered
          const rows = await lostWithoutRecord(covered, covered + bytes)
          damage.push({ file: path, offset: covered, bytes, rows, reason: 'no record' })
        }
        const reason = await faultOf(record, file, size, covered)
        covered = Math.max(covered, record.offset + record.bytes)
        if (reason === null) {
          good.push(record)
          continue
        }
        damage.push({ file: path, offset: record.offset, bytes: record.bytes, rows: record.rows, reason })
        if (!isRowTable(table)) continue
        for (const [node, rows] of record.nodes) lostNodes.set(node, (lostNodes.get(node) ?? 0) + rows)
      }
      // A line that is damaged, and not merely torn, was of a block that had been written.
      const rows = index.damaged.length > 0 && size > covered ? await lostWithoutRecord(covered, size) : 0
      if (rows > 0) damage.push({ file: path, offset: covered, bytes: size - covered, rows, reason: 'no record' })
      else tailBytes += Math.max(0, size - covered)
    } finally {
      await file?.close()
    }
    sound.set(table, good)
  }
  const whole = new Set([...sound.values()].flat())
  const notes = index.groups.filter(({ blocks }) => blocks.every((block) => whole.has(block)))
  return { index, sound, damage, tailBytes, lostNodes, notes: notes.flatMap(({ notes }) => notes) }
}

async function faultOf(
  record: BlockRecord,
  file: FileHandle | null,
  size: number,
  covered: number,
): Promise<Damage['reason'] | null> {
  if (record.offset < covered) return 'order'
  if (file === null || record.offset + record.bytes > size) return 'short'
  const seed = blockSeed(record.segment, record.table, record.offset)
  return (await crcOfRange(file, record.offset, record.bytes, seed)) === record.crc ? null : 'checksum'
}

const CHUNK_BYTES = 1 << 20

async function crcOfRange(file: FileHandle, offset: number, bytes: number, seed: number): Promise<number> {
  let crc = seed
  for await (const chunk of chunks(file, offset, bytes)) crc = blockCrc(crc, [chunk])
  return crc
}

/** The bytes of a range, in pieces that are valid until the next one. Ends early where the file does. */
async function* chunks(file: FileHandle, offset: number, bytes: number): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(Math.min(bytes, CHUNK_BYTES))
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, bytes - done), offset + done)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
    done += bytesRead
  }
}

/** Files of tables, those that are there and those that records speak of. */
function tableFiles(dir: string, records: readonly BlockRecord[]): Map<JournalTable, string> {
  const found = new Map<JournalTable, string>()
  for (const { table } of records) found.set(table, join(dir, `${table}.seg`))
  for (const name of readdirSync(dir)) {
    const [stem, suffix] = [name.slice(0, name.lastIndexOf('.')), name.slice(name.lastIndexOf('.') + 1)]
    if ((suffix === 'seg' || suffix === 'native') && isJournalTable(stem)) found.set(stem, join(dir, name))
  }
  return found
}

export interface RescueOptions {
  /** Folder of the segment: `current`, `sealing-<name>`, or a sealed one. */
  readonly dir: string
  /** Folder of the worker's journal, where the rescued segment goes. */
  readonly root: string
  /** A sealed segment has no tail: bytes without a record are damage. */
  readonly sealed: boolean
  readonly nowMs: number
  readonly files: JournalFiles
  /** Makes the rollup of a segment that was never sealed; absent: it stays `recovered`, without one. */
  readonly rollupOf?: RollupOf
}

/**
 * The block of `latency_1m` for rows of `requests` that are whole, null when it has no row. Throws when the rows cannot be
 * read.
 */
export type RollupOf = (requests: SegmentTable) => Promise<NativeBlock | null>

export interface Rescue {
  /** Of the segment, as far as its index tells. */
  readonly id: string | null
  /** Null when no row could be saved. */
  readonly segment: FoundSegment | null
  readonly damage: readonly Damage[]
  /** Where the original is now, when something was damaged. */
  readonly quarantine: string | null
  /** Bytes that were never a block, cut off. */
  readonly cutBytes: number
  /** Rows known to be lost, by node. */
  readonly lostNodes: ReadonlyMap<string, number>
}

/** Makes a sealed segment of what is sound in a folder. Throws when the disk refuses: call it again when there is room. */
export async function rescueSegment(options: RescueOptions): Promise<Rescue> {
  const { dir, sealed } = options
  const check = await checkSegment(dir)
  const damaged = check.damage.length > 0 || (sealed && check.tailBytes > 0) || orphaned(dir, check)
  const rescue = {
    id: check.index.segment,
    damage: check.damage,
    cutBytes: damaged ? 0 : check.tailBytes,
    lostNodes: check.lostNodes,
  }
  if (damaged) return { ...rescue, ...(await salvage(options, check)) }
  if (check.index.segment === null || check.index.blocks.length === 0) {
    await options.files.discard(dir)
    return { ...rescue, segment: null, quarantine: null }
  }
  return { ...rescue, segment: await sealInPlace(options, check), quarantine: null }
}

/** Blocks without any index: nothing tells them from rubbish. */
function orphaned(dir: string, check: SegmentCheck): boolean {
  return check.index.segment === null && check.tailBytes > 0 && !readdirSync(dir).includes('index')
}

async function sealInPlace(options: RescueOptions, check: SegmentCheck): Promise<FoundSegment | null> {
  const { dir, files, root, nowMs } = options
  const { index } = check
  const id = index.segment!
  const whole = index.seal !== null && index.seal.blocks === index.blocks.length && !index.seal.recovered
  const kept = whole ? index.blocks : index.blocks.filter(({ table }) => isSourceTable(table))
  if (kept.length === 0) {
    await files.discard(dir)
    return null
  }
  const sealedMs = whole ? index.seal!.sealedMs : nowMs
  await replaceFile(files, join(dir, 'index'), encodeIndex(id, kept, check.notes, sealedMs, !whole))
  for (const [table, path] of tableFiles(dir, index.blocks)) {
    const records = kept.filter((record) => record.table === table)
    if (records.length === 0) {
      files.remove(path)
      continue
    }
    const fd = files.open(path, 'reuse')
    try {
      files.truncate(
        fd,
        records.reduce((end, record) => Math.max(end, record.offset + record.bytes), 0),
      )
      await files.sync(fd)
    } finally {
      files.close(fd)
    }
    const sealedPath = join(dir, `${table}.seg`)
    if (path !== sealedPath) files.rename(path, sealedPath)
  }
  if (!whole) await addRollup(options, { id, kept, notes: check.notes })
  await files.syncDirectory(dir)
  const target = join(root, segmentName(parseSegmentId(id)!))
  if (dir !== target) files.rename(dir, target)
  await files.syncDirectory(root)
  return readSealed(target, id)
}

/**
 * Nobody has seen such a segment yet, and all its rows are here: with a rollup it is as good as one that was sealed. The
 * file comes before the index, and until the folder has its name the next start takes a file that is in no index away.
 * Rows that cannot be read, or a disk without room, leave the segment `recovered`.
 */
async function addRollup(
  { dir, files, nowMs, rollupOf }: RescueOptions,
  { id, kept, notes }: { readonly id: string; readonly kept: readonly BlockRecord[]; readonly notes: readonly Note[] },
): Promise<void> {
  if (rollupOf === undefined) return
  const requests = summarize(
    kept.filter(({ table }) => table === 'requests'),
    () => join(dir, 'requests.seg'),
  )?.[0]
  const path = join(dir, 'latency_1m.seg')
  try {
    const block = requests === undefined ? null : await rollupOf(requests)
    const made = block === null ? [] : [await writeRollup({ files, path, id, nowMs }, block)]
    await replaceFile(files, join(dir, 'index'), encodeIndex(id, [...kept, ...made], notes, nowMs, false))
  } catch {
    files.remove(path)
  }
}

async function writeRollup(
  { files, path, id, nowMs }: { files: JournalFiles; path: string; id: string; nowMs: number },
  { buffers, rows, days }: NativeBlock,
): Promise<BlockRecord> {
  const fd = files.open(path, 'create')
  try {
    writeAll(files, fd, buffers, 0)
    await files.sync(fd)
  } finally {
    files.close(fd)
  }
  return {
    segment: id,
    table: 'latency_1m',
    offset: 0,
    bytes: buffers.reduce((sum, buffer) => sum + buffer.length, 0),
    rows,
    crc: blockCrc(blockSeed(id, 'latency_1m', 0), buffers),
    atMs: nowMs,
    days: [...days],
    nodes: [],
  }
}

async function salvage(
  options: RescueOptions,
  check: SegmentCheck,
): Promise<{ segment: FoundSegment | null; quarantine: string }> {
  const { dir, root, files, nowMs } = options
  const id = check.index.segment
  const rows = [...check.sound].filter(([table, records]) => isSourceTable(table) && records.length > 0)
  if (id === null || rows.length === 0) {
    return { segment: null, quarantine: await moveToQuarantine(options, null) }
  }
  const name = segmentName(parseSegmentId(id)!)
  const copy = join(root, `salvage-${name}`)
  files.remove(copy)
  files.mkdir(copy)
  const records: BlockRecord[] = []
  const sources = tableFiles(dir, check.index.blocks)
  try {
    for (const [table, blocks] of rows) records.push(...(await copyBlocks(files, sources.get(table)!, copy, blocks)))
    await replaceFile(files, join(copy, 'index'), encodeIndex(id, records, check.notes, nowMs, true))
  } catch (error) {
    // Without room for a copy the original stays as it is.
    files.remove(copy)
    throw error
  }
  const quarantine = await moveToQuarantine(options, name)
  files.rename(copy, join(root, name))
  await files.syncDirectory(root)
  return { segment: readSealed(join(root, name), id), quarantine }
}

async function copyBlocks(
  files: JournalFiles,
  source: string,
  copy: string,
  blocks: readonly BlockRecord[],
): Promise<BlockRecord[]> {
  const records: BlockRecord[] = []
  const input = await open(source, 'r')
  try {
    const output = files.open(join(copy, `${blocks[0]!.table}.seg`), 'create')
    try {
      let offset = 0
      for (const block of blocks) {
        let crc = blockSeed(block.segment, block.table, offset)
        let at = offset
        for await (const chunk of chunks(input, block.offset, block.bytes)) {
          crc = blockCrc(crc, [chunk])
          writeAll(files, output, [chunk], at)
          at += chunk.length
        }
        records.push({ ...block, offset, crc })
        offset += block.bytes
      }
      await files.sync(output)
    } finally {
      files.close(output)
    }
  } finally {
    await input.close()
  }
  return records
}

/** Moves the folder as it is; `quarantine/<name>`, with a number when that is taken. */
async function moveToQuarantine({ dir, root, files }: RescueOptions, name: string | null): Promise<string> {
  const quarantine = join(root, 'quarantine')
  files.mkdir(quarantine)
  const taken = new Set(readdirSync(quarantine))
  const stem = name ?? basename(dir)
  let target = stem
  for (let n = 2; taken.has(target); n++) target = `${stem}.${n}`
  files.rename(dir, join(quarantine, target))
  await files.syncDirectory(quarantine)
  return join(quarantine, target)
}

/** Ends a salvage that a crash interrupted: puts it in place when the original is gone, forgets it otherwise. */
export function settleSalvage(dir: string, files: JournalFiles, originals: ReadonlySet<string>): void {
  const root = dirname(dir)
  const name = basename(dir).slice('salvage-'.length)
  const index = parseIndex(readOrNothing(join(dir, 'index')))
  if (index.seal === null || index.segment === null || originals.has(index.segment)) files.remove(dir)
  else files.rename(dir, join(root, name))
}

/** Id of the segment that a folder holds, by its index. */
export function segmentOf(dir: string): string | null {
  return parseIndex(readOrNothing(join(dir, 'index'))).segment
}

function encodeIndex(
  segment: string,
  blocks: readonly BlockRecord[],
  notes: readonly Note[],
  sealedMs: number,
  recovered: boolean,
): string {
  const seal = encodeSealRecord({ segment, sealedMs, blocks: blocks.length, recovered })
  const noted = notes.length === 0 ? [] : [encodeGroupRecord({ segment, blocks: [], notes, atMs: sealedMs })]
  return Buffer.concat([...blocks.map(encodeBlockRecord), ...noted, seal]).toString()
}

function readOrNothing(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}

async function openOrNull(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}
