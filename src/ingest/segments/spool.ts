import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { decodeManifest, encodeManifest, type Manifest, type PartHeader } from '../../kafka/segment-records.ts'
import type { Clock } from '../../lib/clock.ts'
import { keepDeadLetter, pruneOldest } from '../../pipeline/journal-aside.ts'
import { realFiles } from '../../pipeline/journal-files.ts'
import type { Segment, SegmentTable } from '../../pipeline/segment.ts'

/**
 * Segments on their way from Kafka into the store, as files again. Nothing here has to last: until the store has a segment,
 * Kafka has it too. What the store took stays for a while, because an engine that is killed may forget what it said yes to.
 *
 *   <dir>/<segment>.<send>/      being put together, or being stored; deleted at the next start
 *     <table>.seg                the edge's file, byte for byte
 *     kept                       the manifest: the store said yes to it
 *   <dir>/dead-letter/<segment>/ what the store refused for good
 */
export interface Spool {
  /** Before anything else: what an earlier process left unfinished goes, what it kept is known again. */
  open(): void
  begin(header: PartHeader): Assembly
  /** What the store took and is still here, oldest first. */
  kept(): readonly Segment[]
  keptManifest(segment: string): Manifest | null
  /** The store took it: it stays for a while, if there is room. Never rejects. */
  accepted(whole: WholeSegment): Promise<void>
  /** The store will never take it. Rejects when the disk refuses. */
  refused(whole: WholeSegment, error: Error): Promise<void>
  readonly bytes: number
  readonly bytesMax: number
  readonly deadLetters: number
  /** What could not be kept. */
  readonly keepFailures: number
}

/** Parts of one segment, of one send, in order. */
export interface Assembly {
  readonly header: PartHeader
  readonly bytes: number
  /**
   * 'again': it was here before. 'gap': one before it is missing, so this send will never be whole. 'damaged': what
   * came is not what the manifest says. Rejects when the disk refuses; the same part can be added again.
   */
  add(header: PartHeader, value: Buffer): Promise<'more' | 'again' | 'gap' | 'damaged' | WholeSegment>
  /** Never rejects. */
  discard(): Promise<void>
}

export interface WholeSegment {
  readonly segment: Segment
  readonly manifest: Manifest
  readonly dir: string
  readonly bytes: number
  /** Statements that may still read the files. */
  holds(): number
}

export interface SpoolOptions {
  readonly dir: string
  readonly keepMs: number
  /** Of what is kept. */
  readonly bytesMax: number
  /** Of dead letters. */
  readonly deadLetterBytesMax: number
  /** The store is on this machine: what it forgets at a loss of power must be here then. */
  readonly sync: boolean
  readonly clock: Clock
}

interface Kept {
  readonly whole: WholeSegment
  readonly atMs: number
}

const KEPT = 'kept'
const DEAD_LETTER = 'dead-letter'

export function createSpool(options: SpoolOptions): Spool {
  return new FileSpool(options)
}

class FileSpool implements Spool {
  deadLetters = 0
  keepFailures = 0
  readonly #options: SpoolOptions
  #kept: Kept[] = []
  #keptBytes = 0
  readonly #assemblies = new Set<FileAssembly>()
  #made = 0

  constructor(options: SpoolOptions) {
    this.#options = options
  }

  get bytesMax(): number {
    return this.#options.bytesMax
  }

  get bytes(): number {
    let total = this.#keptBytes
    for (const { bytes } of this.#assemblies) total += bytes
    return total
  }

  open(): void {
    const { dir, clock } = this.#options
    mkdirSync(dir, { recursive: true })
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.name === DEAD_LETTER) continue
      const path = join(dir, entry.name)
      const manifest = readKept(path)
      if (manifest === null) rmSync(path, { recursive: true, force: true })
      else this.#keep(wholeOf(manifest, path), clock.now())
    }
    this.#kept.sort((a, b) => a.whole.manifest.sealedMs - b.whole.manifest.sealedMs)
  }

  begin(header: PartHeader): Assembly {
    const { dir, sync } = this.#options
    const { epoch, number } = header.send
    const path = join(dir, `${header.segment}.${epoch}-${number}.${++this.#made}`)
    const assembly = new FileAssembly({ header, dir: path, sync, ended: () => this.#assemblies.delete(assembly) })
    this.#assemblies.add(assembly)
    return assembly
  }

  kept(): readonly Segment[] {
    return this.#kept.map(({ whole }) => whole.segment)
  }

  keptManifest(segment: string): Manifest | null {
    return this.#kept.find(({ whole }) => whole.segment.id === segment)?.whole.manifest ?? null
  }

  async accepted(whole: WholeSegment): Promise<void> {
    const { clock, sync } = this.#options
    try {
      await writeFully(join(whole.dir, KEPT), encodeManifest(whole.manifest), sync)
    } catch {
      // A full disk: what is not kept cannot be compared later, and that is all.
      this.keepFailures++
      await discard(whole.dir)
      return
    }
    const before = this.#kept.findIndex((one) => one.whole.segment.id === whole.segment.id)
    if (before >= 0) await this.#forget(before)
    this.#keep(whole, clock.now())
    await this.#reap()
  }

  async refused(whole: WholeSegment, error: Error): Promise<void> {
    const { dir, clock, deadLetterBytesMax } = this.#options
    const folder = join(dir, DEAD_LETTER)
    keepDeadLetter(folder, whole.segment, { sink: 'clickhouse', error: error.message, atMs: clock.now() }, realFiles)
    pruneOldest(folder, deadLetterBytesMax, realFiles)
    this.deadLetters++
    await discard(whole.dir)
  }

  #keep(whole: WholeSegment, atMs: number): void {
    this.#kept.push({ whole, atMs })
    this.#keptBytes += whole.bytes
  }

  /** Oldest first, after their time or for want of room; never what a statement may still read. */
  async #reap(): Promise<void> {
    const { keepMs, bytesMax, clock } = this.#options
    while (this.#kept.length > 0) {
      const { whole, atMs } = this.#kept[0]!
      const due = clock.now() - atMs > keepMs || this.#keptBytes > bytesMax
      if (!due || whole.holds() > 0) return
      await this.#forget(0)
    }
  }

  async #forget(index: number): Promise<void> {
    const [kept] = this.#kept.splice(index, 1)
    this.#keptBytes -= kept!.whole.bytes
    await discard(kept!.whole.dir)
  }
}

interface AssemblyOptions {
  readonly header: PartHeader
  readonly dir: string
  readonly sync: boolean
  readonly ended: () => void
}

interface OpenTable {
  readonly table: SegmentTable['table']
  readonly handle: FileHandle
  bytes: number
  crc: number
}

class FileAssembly implements Assembly {
  bytes = 0
  readonly #options: AssemblyOptions
  readonly #tables: OpenTable[] = []
  #parts = 0

  constructor(options: AssemblyOptions) {
    this.#options = options
  }

  get header(): PartHeader {
    return this.#options.header
  }

  async add(header: PartHeader, value: Buffer): Promise<'more' | 'again' | 'gap' | 'damaged' | WholeSegment> {
    if (header.part <= this.#parts) return 'again'
    if (header.part > this.#parts + 1) return 'gap'
    if (header.slice === null) return this.#finish(value)
    const table = await this.#table(header.slice.table)
    if (header.slice.offset !== table.bytes) return 'damaged'
    await writeAt(table.handle, value, table.bytes)
    table.crc = crc32(value, table.crc)
    table.bytes += value.length
    this.bytes += value.length
    this.#parts++
    return 'more'
  }

  async discard(): Promise<void> {
    await this.#close()
    await discard(this.#options.dir)
  }

  async #table(name: SegmentTable['table']): Promise<OpenTable> {
    const known = this.#tables.find(({ table }) => table === name)
    if (known !== undefined) return known
    const { dir } = this.#options
    mkdirSync(dir, { recursive: true })
    const table = { table: name, handle: await open(join(dir, `${name}.seg`), 'w'), bytes: 0, crc: 0 }
    this.#tables.push(table)
    return table
  }

  async #finish(value: Buffer): Promise<'damaged' | WholeSegment> {
    const { dir, header, sync } = this.#options
    const manifest = decodeManifest(value)
    if (manifest === null || manifest.segment !== header.segment || !this.#matches(manifest)) return 'damaged'
    mkdirSync(dir, { recursive: true })
    if (sync) for (const { handle } of this.#tables) await handle.sync()
    await this.#close()
    return wholeOf(manifest, dir)
  }

  #matches(manifest: Manifest): boolean {
    if (manifest.tables.length !== this.#tables.length) return false
    return this.#tables.every((had) =>
      manifest.tables.some(({ table, bytes, crc }) => table === had.table && bytes === had.bytes && crc === had.crc),
    )
  }

  async #close(): Promise<void> {
    this.#options.ended()
    for (const { handle } of this.#tables.splice(0)) await handle.close().catch(() => {})
  }
}

function wholeOf(manifest: Manifest, dir: string): WholeSegment {
  const { segment: id, openedMs, sealedMs, recovered } = manifest
  const [worker, epoch, seq] = id.split('-')
  let holds = 0
  const segment: Segment = {
    id,
    worker: Number(worker),
    epoch: epoch!,
    seq: Number(seq),
    openedMs,
    sealedMs,
    recovered,
    tables: manifest.tables.map(({ table, bytes, rows, blocks, days }) => ({
      table,
      file: join(dir, `${table}.seg`),
      bytes,
      rows,
      blocks,
      days: new Map(days),
      // Whose rows they are is counted at the edge.
      nodes: new Map(),
    })),
    hold() {
      holds++
      let held = true
      return () => {
        if (held) holds--
        held = false
      }
    },
  }
  const bytes = manifest.tables.reduce((sum, table) => sum + table.bytes, 0)
  return { segment, manifest, dir, bytes, holds: () => holds }
}

function readKept(dir: string): Manifest | null {
  try {
    return decodeManifest(readFileSync(join(dir, KEPT)))
  } catch {
    return null
  }
}

/** What cannot be deleted goes at the next start. */
async function discard(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true }).catch(() => {})
}

async function writeAt(handle: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, at + done)
    done += bytesWritten
  }
}

async function writeFully(path: string, bytes: Buffer, sync: boolean): Promise<void> {
  const handle = await open(path, 'w')
  try {
    await writeAt(handle, bytes, 0)
    if (sync) await handle.sync()
  } finally {
    await handle.close()
  }
}
