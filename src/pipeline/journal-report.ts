import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { readCursor } from './cursor.ts'
import { folderBytes } from './journal-aside.ts'
import { FORMAT_VERSION, isRowTable, parseIndex, parseSegmentId, parseSegmentName } from './journal-format.ts'
import { checkSegment, type Damage } from './journal-recovery.ts'
import type { Replayed } from './journal-replay.ts'
import { readFormat } from './journal-start.ts'

/**
 * Looking at a journal from outside, `sidecast journal ls|verify`: only reads, takes no lock, and works while the
 * process runs. What moves or goes away under the eyes is looked at again, and then is no finding.
 */

export interface JournalListing {
  readonly workers: readonly WorkerListing[]
}

export interface WorkerListing {
  readonly worker: string
  /** Null when it cannot be read. */
  readonly format: number | null
  readonly segments: readonly SegmentListing[]
  readonly cursors: readonly { readonly sink: string; readonly through: string | null }[]
  readonly quarantined: readonly string[]
  readonly deadLetters: readonly string[]
  /** Of everything below. */
  readonly bytes: number
}

export interface SegmentListing {
  readonly id: string | null
  readonly folder: string
  readonly state: SegmentState
  readonly rows: number
  readonly blocks: number
  readonly bytes: number
  /** Wall clock, ms. */
  readonly openedMs: number | null
  readonly sealedMs: number | null
  readonly recovered: boolean
  readonly tables: Readonly<Record<string, number>>
  /** Sinks with a cursor that have not acknowledged it. */
  readonly waitingFor: readonly string[]
}

type SegmentState = 'writing' | 'sealing' | 'sealed'

/** Lists what the folder of all workers holds. A folder that is not there has no workers. */
export async function listJournal(dir: string): Promise<JournalListing> {
  return { workers: workersIn(dir).map((worker) => listWorker(join(dir, worker), worker)) }
}

function listWorker(root: string, worker: string): WorkerListing {
  const cursors = listOrNone(join(root, 'cursors'))
    .filter((name) => !name.endsWith('.tmp'))
    .map((sink) => ({ sink, cursor: readCursor(join(root, 'cursors', sink)).cursor }))
  const segments = segmentFolders(root).flatMap(({ folder, state }) => {
    const found = listSegment(join(root, folder), folder, state)
    if (found === null) return []
    const position = found.id === null ? null : parseSegmentId(found.id)
    const waitingFor = cursors.filter(({ cursor }) => position === null || !cursor.covers(position))
    return [{ ...found, waitingFor: waitingFor.map(({ sink }) => sink) }]
  })
  return {
    worker,
    format: readFormat(join(root, 'format')),
    segments,
    cursors: cursors.map(({ sink, cursor: { through } }) => ({
      sink,
      through: through === null ? null : `${through.epoch}-${through.seq}`,
    })),
    quarantined: listOrNone(join(root, 'quarantine')),
    deadLetters: listOrNone(join(root, 'dead-letter')).flatMap((sink) =>
      listOrNone(join(root, 'dead-letter', sink)).map((id) => `${sink}/${id}`),
    ),
    bytes: folderBytes(root),
  }
}

function listSegment(path: string, folder: string, state: SegmentState): Omit<SegmentListing, 'waitingFor'> | null {
  let bytes: Buffer
  try {
    bytes = readFileSync(join(path, 'index'))
  } catch {
    if (!existsSync(path)) return null
    bytes = Buffer.alloc(0)
  }
  const { segment: id, blocks, seal } = parseIndex(bytes)
  const tables: Record<string, number> = {}
  let rows = 0
  for (const block of blocks) {
    tables[block.table] = (tables[block.table] ?? 0) + block.rows
    if (isRowTable(block.table)) rows += block.rows
  }
  return {
    id,
    folder,
    state,
    rows,
    blocks: blocks.length,
    bytes: blocks.reduce((sum, block) => sum + block.bytes, bytes.length),
    openedMs: blocks[0]?.atMs ?? null,
    sealedMs: seal?.sealedMs ?? null,
    recovered: state === 'sealed' && (seal?.recovered ?? true),
    tables,
  }
}

export interface JournalVerification {
  /** No damage, and no format this version does not know. What lies in quarantine is old news. */
  readonly sound: boolean
  readonly segments: number
  readonly blocks: number
  readonly rows: number
  /** Bytes read and compared. */
  readonly bytes: number
  /** Bytes of unsealed segments that no record covers: appends under way or cut off, stale bytes of recycled files. */
  readonly tailBytes: number
  readonly damage: readonly Damage[]
  /** Versions that are newer than this program's, with their files. */
  readonly newer: readonly string[]
}

/** Reads every block and compares it with its CRC. */
export async function verifyJournal(dir: string): Promise<JournalVerification> {
  const total = { segments: 0, blocks: 0, rows: 0, bytes: 0, tailBytes: 0 }
  const damage: Damage[] = []
  const newer: string[] = []
  for (const worker of workersIn(dir)) {
    const root = join(dir, worker)
    const format = readFormat(join(root, 'format'))
    if (format !== null && format > FORMAT_VERSION) {
      newer.push(join(root, 'format'))
      continue
    }
    for (const { folder, state } of segmentFolders(root)) {
      const check = await checkSteady(join(root, folder), state)
      if (check === null) continue
      total.segments++
      for (const blocks of check.sound.values()) {
        for (const block of blocks) {
          total.blocks++
          total.bytes += block.bytes
          if (isRowTable(block.table)) total.rows += block.rows
        }
      }
      damage.push(...check.damage)
      if (state !== 'sealed') total.tailBytes += check.tailBytes
      else if (check.tailBytes > 0) {
        damage.push({ file: join(root, folder), offset: 0, bytes: check.tailBytes, rows: 0, reason: 'no record' })
      }
    }
  }
  return { sound: damage.length === 0 && newer.length === 0, ...total, damage, newer }
}

/** Checks again while the folder changes; null when it went away. A segment is found damaged only if it stays so. */
async function checkSteady(path: string, state: SegmentState) {
  for (let attempt = 1; ; attempt++) {
    const before = identity(path)
    if (before === null) return null
    const check = await checkSegment(path).catch((error: unknown) => {
      if (identity(path) === null) return null
      throw error
    })
    const doubtful = check === null || check.damage.length > 0 || (state === 'sealed' && check.tailBytes > 0)
    if (check !== null && (!doubtful || (identity(path) === before && attempt > 1))) return check
    if (check === null || attempt === ATTEMPTS) return identity(path) === before ? check : null
  }
}

const ATTEMPTS = 5

/** Changes when another folder takes the name. */
function identity(path: string): string | null {
  try {
    const { ino, birthtimeMs } = statSync(path)
    return `${ino} ${birthtimeMs}`
  } catch {
    return null
  }
}

function segmentFolders(root: string): { folder: string; state: SegmentState }[] {
  return listOrNone(root)
    .flatMap((folder): { folder: string; state: SegmentState }[] => {
      if (folder === 'current') return [{ folder, state: 'writing' }]
      if (folder.startsWith('sealing-')) return [{ folder, state: 'sealing' }]
      return parseSegmentName(folder) === null ? [] : [{ folder, state: 'sealed' }]
    })
    .sort((a, b) => (orderOf(a.folder) < orderOf(b.folder) ? -1 : 1))
}

/** Sealed ones by epoch and number, then those on their way, then the one being written. */
function orderOf(folder: string): string {
  if (folder === 'current') return '~~'
  const position = parseSegmentName(folder.replace('sealing-', ''))
  return `${folder.startsWith('sealing-') ? '~' : ''}${position?.epoch ?? ''}${String(position?.seq ?? 0).padStart(15, '0')}`
}

const workersIn = (dir: string): string[] =>
  listOrNone(dir)
    .filter((name) => /^\d{1,5}$/.test(name))
    .sort((a, b) => Number(a) - Number(b))

function listOrNone(dir: string): string[] {
  try {
    return readdirSync(dir).sort()
  } catch {
    return []
  }
}

/** What `sidecast journal ls` prints. */
export async function formatJournalList(dir: string, { json }: { readonly json: boolean }): Promise<string> {
  const listing = await listJournal(dir)
  if (json) return `${JSON.stringify(listing, null, 2)}\n`
  if (listing.workers.length === 0) return `no journal in ${dir}\n`
  const lines: string[] = []
  for (const { worker, format, segments, cursors, quarantined, deadLetters, bytes } of listing.workers) {
    lines.push(`worker ${worker}: format ${format ?? 'unknown'}, ${segments.length} segments, ${bytes} bytes`)
    for (const { sink, through } of cursors) lines.push(`  sink ${sink}: through ${through ?? '(nothing yet)'}`)
    for (const segment of segments) {
      const waiting = segment.waitingFor.length === 0 ? 'delivered' : `waiting for ${segment.waitingFor.join(', ')}`
      const opened = segment.openedMs === null ? '-' : new Date(segment.openedMs).toISOString()
      const notes = `${segment.state}${segment.recovered ? ', recovered' : ''}${segment.state === 'sealed' ? `, ${waiting}` : ''}`
      lines.push(`  ${segment.id ?? segment.folder}  ${opened}  ${segment.rows} rows  ${segment.bytes} bytes  ${notes}`)
    }
    for (const name of quarantined) lines.push(`  quarantine/${name}`)
    for (const name of deadLetters) lines.push(`  dead-letter/${name}`)
  }
  return `${lines.join('\n')}\n`
}

/** What `sidecast journal verify` prints, and whether all is well. */
export async function formatJournalVerify(
  dir: string,
  { json }: { readonly json: boolean },
): Promise<{ readonly text: string; readonly sound: boolean }> {
  const result = await verifyJournal(dir)
  if (json) return { text: `${JSON.stringify(result, null, 2)}\n`, sound: result.sound }
  const { segments, blocks, rows, bytes, tailBytes, damage, newer } = result
  const lines = [`${segments} segments, ${blocks} blocks, ${rows} rows, ${bytes} bytes sound`]
  if (tailBytes > 0)
    lines.push(`${tailBytes} bytes after the last block of unsealed segments: not blocks yet, or never`)
  for (const { file, offset, bytes: length, rows: lost, reason } of damage) {
    lines.push(`error SC3101  ${file} at ${offset}: ${reason}, ${length} bytes, ${lost} rows`)
  }
  for (const file of newer) lines.push(`error SC3102  ${file} is newer than this version knows (${FORMAT_VERSION})`)
  return { text: `${lines.join('\n')}\n`, sound: result.sound }
}

/** What `sidecast journal replay` prints, and whether it found what was asked for. */
export function formatReplay({ asked, without }: Replayed): { readonly text: string; readonly done: boolean } {
  const lines = asked.map(({ sink, id }) => `${sink}/${id}  is sent again: within a second, or at the next start`)
  for (const { sink, id } of without) lines.push(`${sink}/${id}  cannot be sent again: its manifest was not kept`)
  if (lines.length === 0) lines.push('no dead letters')
  return { text: `${lines.join('\n')}\n`, done: asked.length > 0 && without.length === 0 }
}
