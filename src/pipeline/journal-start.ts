import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { SidecastError } from '../errors.ts'
import { type DirectoryLock, lockDirectory } from '../lib/directory-lock.ts'
import type { Log } from '../telemetry/log.ts'
import { type JournalFiles, replaceFile } from './journal-files.ts'
import {
  FORMAT_VERSION,
  isEpoch,
  isRowTable,
  type Note,
  nextEpoch,
  type Position,
  parseIndex,
  parseSegmentId,
  parseSegmentName,
  segmentId,
} from './journal-format.ts'
import {
  type Damage,
  type FoundSegment,
  type Rescue,
  type RollupOf,
  readSealed,
  rescueSegment,
  segmentOf,
  settleSalvage,
} from './journal-recovery.ts'

/** The first moments of a journal: whose it is, which version wrote it, and what the last process left behind. */

export interface OpenedDirectory {
  readonly epoch: string
  readonly lock: DirectoryLock
}

const FORMAT = /^sidecast-journal (\d+)\n?$/

/** Takes the folder for this process. Throws SC4105, SC3102, or SC4104 when not even the folder can be made. */
export async function openDirectory(options: {
  readonly root: string
  readonly files: JournalFiles
  readonly log: Log
  readonly nowMs: number
  readonly random: () => number
}): Promise<OpenedDirectory> {
  const { root, files, log } = options
  try {
    files.mkdir(root)
  } catch (cause) {
    throw new SidecastError('SC4104', `the journal's folder ${root} cannot be made`, { cause })
  }
  const attempt = lockDirectory(root)
  if (!attempt.held) {
    const owner = attempt.ownerPid === null ? 'another process' : `process ${attempt.ownerPid}`
    throw new SidecastError('SC4105', `the journal in ${root} is in use by ${owner}`, {
      help: 'stop the other process, or choose another data directory',
      cause: attempt.cause,
    })
  }
  try {
    await checkFormat(root, files, log)
    tolerate(log, () => files.mkdir(join(root, 'cursors')))
    return { lock: attempt.lock, epoch: await takeEpoch(options) }
  } catch (error) {
    attempt.lock.release()
    throw error
  }
}

async function checkFormat(root: string, files: JournalFiles, log: Log): Promise<void> {
  const path = join(root, 'format')
  const version = readFormat(path)
  if (version !== null && version > FORMAT_VERSION) {
    throw new SidecastError(
      'SC3102',
      `the journal in ${root} has format ${version}, this version knows ${FORMAT_VERSION}`,
      {
        help: 'use the version of Sidecast that wrote it, or newer',
      },
    )
  }
  if (version === FORMAT_VERSION) return
  if (version === null && existsSync(path))
    log.error({ code: 'SC3101', file: path }, 'the format file is damaged: taken as the present format')
  // With a full disk it is missing until a later start; segments say what they are by themselves.
  await replaceFile(files, path, `sidecast-journal ${FORMAT_VERSION}\n`).catch((error: unknown) => {
    log.warn({ file: path, error }, 'the format file cannot be written')
  })
}

/** Version in a `format` file; null when there is none or it is damaged. */
export function readFormat(path: string): number | null {
  try {
    const match = FORMAT.exec(readFileSync(path, 'utf8'))
    return match === null ? null : Number(match[1])
  } catch {
    return null
  }
}

/** An epoch above every one that was ever used here, whatever the clock says. */
async function takeEpoch(options: {
  readonly root: string
  readonly files: JournalFiles
  readonly log: Log
  readonly nowMs: number
  readonly random: () => number
}): Promise<string> {
  const { root, files, log, nowMs, random } = options
  const used = readdirSync(root).map((name) => parseSegmentName(name.replace(/^[a-z]+-(?=[0-9a-z]{13}-\d)/, ''))?.epoch)
  const open = segmentOf(join(root, 'current'))
  if (open !== null) used.push(parseSegmentId(open)?.epoch)
  const saved = readOrEmpty(join(root, 'epoch')).trim()
  if (isEpoch(saved)) used.push(saved)
  const last = used.reduce<string | null>(
    (max, epoch) => (epoch !== undefined && (max === null || epoch > max) ? epoch : max),
    null,
  )
  const epoch = nextEpoch(nowMs, last, random)
  await replaceFile(files, join(root, 'epoch'), `${epoch}\n`).catch((error: unknown) => {
    log.warn({ error }, 'the epoch file cannot be written')
  })
  return epoch
}

/** What a start found. */
export interface RecoveryReport {
  /** Segments on disk, those made of `current` included. */
  readonly segments: number
  readonly rows: number
  /** Bytes of appends that were cut off, and stale bytes of recycled files. */
  readonly cutBytes: number
  readonly damage: readonly Damage[]
  /** Rows known to be lost, by segment and node. */
  readonly lost: readonly { readonly segment: string | null; readonly nodes: ReadonlyMap<string, number> }[]
  /** Folders that wait for room on the disk. */
  readonly stuck: number
}

export interface Recovered {
  readonly report: RecoveryReport
  /** `checked`: the blocks were compared with their CRCs. Sealed segments are, later, before they go out. */
  readonly found: readonly { readonly segment: FoundSegment; readonly checked: boolean }[]
  readonly stuck: readonly Stuck[]
  /** What was noted beside the blocks of each segment; of those that are stuck, as far as their index tells. */
  readonly notes: readonly { readonly id: string; readonly notes: readonly Note[] }[]
}

/** A folder that could not be made a segment yet. */
export interface Stuck {
  readonly dir: string
  readonly position: Position | null
  readonly sealed: boolean
}

export interface RecoverOptions {
  readonly root: string
  readonly worker: number
  readonly nowMs: number
  readonly files: JournalFiles
  readonly log: Log
  onRescue(rescue: Rescue): void
  readonly rollupOf?: RollupOf
}

/** Makes segments of everything in the folder. Never throws for bad data. */
export async function recover(options: RecoverOptions): Promise<Recovered> {
  const { root, files, log } = options
  const found: { segment: FoundSegment; checked: boolean }[] = []
  const stuck: Stuck[] = []
  const damage: Damage[] = []
  const lost: { segment: string | null; nodes: ReadonlyMap<string, number> }[] = []
  const notes: { id: string; notes: readonly Note[] }[] = []
  let cutBytes = 0

  const rescue = async (dir: string, sealed: boolean): Promise<void> => {
    try {
      const result = await rescueSegment({ ...options, dir, sealed })
      options.onRescue(result)
      cutBytes += result.cutBytes
      damage.push(...result.damage)
      if (result.lostNodes.size > 0) lost.push({ segment: result.id, nodes: result.lostNodes })
      if (result.segment !== null) found.push({ segment: result.segment, checked: true })
    } catch (error) {
      const index = parseIndex(readBytes(join(dir, 'index')))
      const position = parseSegmentId(index.segment ?? '')
      if (index.segment !== null) notes.push({ id: index.segment, notes: index.groups.flatMap((group) => group.notes) })
      stuck.push({ dir: leaveCurrent(options, dir, position), position, sealed })
      log.warn({ dir, error }, 'a segment cannot be recovered yet; trying again')
    }
  }

  settleSalvages(options)
  for (const name of readdirSync(root)) {
    const dir = join(root, name)
    if (name.startsWith('trash-')) tolerate(log, () => files.remove(dir))
    else if (name.startsWith('sealing-')) await rescue(dir, false)
    else if (parseSegmentName(name) !== null) {
      const segment = readSealed(dir, segmentId(options.worker, parseSegmentName(name)!))
      if (segment === null) await rescue(dir, true)
      else found.push({ segment, checked: false })
    }
  }
  if (existsSync(join(root, 'current'))) await rescue(join(root, 'current'), false)

  found.sort((a, b) => (a.segment.id < b.segment.id ? -1 : 1))
  const rows = found.reduce((sum, { segment }) => sum + rowsOf(segment), 0)
  const report = { segments: found.length, rows, cutBytes, damage, lost, stuck: stuck.length }
  if (found.length > 0 || damage.length > 0 || stuck.length > 0) {
    log.info(
      { segments: found.length, rows, cutBytes, damage: damage.length, stuck: stuck.length },
      'journal recovered',
    )
  }
  for (const { segment } of found) if (segment.notes.length > 0) notes.push(segment)
  return { report, found, stuck, notes }
}

/** The name `current` is needed: what stays there for now moves to a name of its own. */
function leaveCurrent({ root, files }: RecoverOptions, dir: string, position: Position | null): string {
  if (dir !== join(root, 'current')) return dir
  const aside = join(root, `sealing-${position === null ? 'unknown' : `${position.epoch}-${position.seq}`}`)
  files.rename(dir, aside)
  return aside
}

function settleSalvages({ root, worker, files, log }: RecoverOptions): void {
  const originals = new Set<string>()
  for (const name of readdirSync(root)) {
    const position = parseSegmentName(name)
    if (position !== null) originals.add(segmentId(worker, position))
    else if (name === 'current' || name.startsWith('sealing-')) originals.add(segmentOf(join(root, name)) ?? '')
  }
  for (const name of readdirSync(root)) {
    if (name.startsWith('salvage-')) tolerate(log, () => settleSalvage(join(root, name), files, originals))
  }
}

const rowsOf = (segment: FoundSegment): number =>
  segment.tables.reduce((sum, { table, rows }) => sum + (isRowTable(table) ? rows : 0), 0)

function readOrEmpty(path: string): string {
  return readBytes(path).toString()
}

function readBytes(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}

function tolerate(log: Log, work: () => void): void {
  try {
    work()
  } catch (error) {
    log.warn({ error }, 'the journal cannot be tidied up; trying again at the next start')
  }
}
