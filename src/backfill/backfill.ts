import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { Prefix } from '../ingest/lines/prefix.ts'
import { compressionOf, contentOf, readStart } from '../ingest/lines/tail/content.ts'
import type { Position, Sender } from './send.ts'

/**
 * Sends whole files, by what is in them: a content has a key made of its begin, and the receiver knows how much of it is
 * stored. So it can be broken off and run again, on the same file under another name, compressed, or grown: what is stored
 * is compared by its checksum and stepped over.
 *
 *   file ─► decompress ─► compare with what is stored ─► parts of whole lines ─► answered when they are on disk
 */
export interface BackfillProgress {
  readonly file: string
  /** Bytes of the file as it lies on disk. */
  readonly read: number
  readonly size: number
  /** Lines of this file that are stored, those of earlier runs included. */
  readonly accepted: number
  readonly rejected: number
}

export interface BackfillResult extends BackfillProgress {
  /** Lines that this run stored. */
  readonly added: number
  /** Bytes of the content, decompressed; of these, stored by earlier runs. */
  readonly bytes: number
  readonly known: number
  /** Why it ended early; null when it did not. */
  readonly error: string | null
}

export interface BackfillOptions {
  readonly file: string
  readonly sender: Sender
  readonly signal: AbortSignal
  readonly onProgress: (progress: BackfillProgress) => void
  readonly partBytes?: number
}

/** Large enough that an fsync for each costs nothing, small enough for steady progress. */
const PART_BYTES = 4 << 20
/** Bytes that a key is made of: more when another content begins alike. */
const KEY_BYTES = [4096, 65_536, 1 << 20, 16 << 20]
const ATTEMPTS_MAX = 20

export async function backfillFile(options: BackfillOptions): Promise<BackfillResult> {
  const { file, signal } = options
  const none = { file, read: 0, size: 0, accepted: 0, rejected: 0, added: 0, bytes: 0, known: 0 }
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    return { ...none, error: error instanceof Error ? error.message : String(error) }
  }
  try {
    let result: BackfillResult = { ...none, error: 'somebody else sends the same content' }
    let firstAdded: number | null = null
    for (let attempt = 0; attempt < ATTEMPTS_MAX && !signal.aborted; attempt++) {
      const run = await sendFile(options, fd)
      firstAdded ??= run.result.accepted - run.result.added
      result = { ...run.result, added: run.result.accepted - firstAdded }
      if (!run.again) break
    }
    return result
  } catch (error) {
    return { ...none, error: error instanceof Error ? error.message : String(error) }
  } finally {
    closeSync(fd)
  }
}

async function sendFile(options: BackfillOptions, fd: number): Promise<{ result: BackfillResult; again: boolean }> {
  const { file, sender, signal, onProgress, partBytes = PART_BYTES } = options
  const { size } = fstatSync(fd)
  const compression = compressionOf(readStart(fd, 4))
  const { key, position } = await keyOf(fd, sender)
  let { accepted, rejected } = position
  const before = accepted
  let read = 0
  let bytes = 0
  let sentTo = position.position
  let waiting: Buffer[] = []
  let waitingBytes = 0
  const progress = (): BackfillProgress => ({ file, read: Math.min(read, size), size, accepted, rejected })
  const resultOf = (error: string | null): BackfillResult => {
    return { ...progress(), added: accepted - before, bytes, known: Math.min(bytes, position.position), error }
  }
  /** Sends whole lines; keeps the rest. */
  const flush = async (): Promise<'ok' | 'again' | string> => {
    const all = Buffer.concat(waiting)
    const end = all.lastIndexOf(10) + 1
    // A line that is larger than a part goes as it is: the receiver steps over it.
    const part = end === 0 ? all : all.subarray(0, end)
    const sent = await sender.send(key, sentTo, part)
    if (sent.status === 'elsewhere') return 'again'
    if (sent.status === 'failed') return sent.reason
    accepted = sent.accepted
    rejected = sent.rejected
    sentTo += part.length
    waiting = [all.subarray(part.length)]
    waitingBytes = all.length - part.length
    onProgress(progress())
    return 'ok'
  }
  onProgress(progress())
  let last = 10
  try {
    for await (const piece of withLineEnd(
      contentOf(fd, compression, (offset) => (read = offset)),
      (byte) => (last = byte),
    )) {
      if (signal.aborted) return { result: resultOf('broken off'), again: false }
      const from = position.position - bytes
      bytes += piece.length
      if (from >= piece.length) continue
      waiting.push(from > 0 ? piece.subarray(from) : piece)
      waitingBytes += piece.length - Math.max(0, from)
      if (waitingBytes < partBytes) continue
      const outcome = await flush()
      if (outcome !== 'ok')
        return { result: resultOf(outcome === 'again' ? null : outcome), again: outcome === 'again' }
    }
  } catch (error) {
    if (signal.aborted) return { result: resultOf('broken off'), again: false }
    // What came before the damage is sound.
    const reason = error instanceof Error ? error.message : String(error)
    if (waitingBytes > 0 && last === 10) await flush()
    return { result: resultOf(reason), again: false }
  }
  while (waitingBytes > 0) {
    const outcome = await flush()
    if (outcome !== 'ok') return { result: resultOf(outcome === 'again' ? null : outcome), again: outcome === 'again' }
  }
  read = size
  onProgress(progress())
  return { result: resultOf(null), again: false }
}

/** A content whose last line has no end gets one, the same in every run. */
async function* withLineEnd(content: AsyncIterable<unknown>, onByte: (byte: number) => void): AsyncGenerator<Buffer> {
  let last = 10
  for await (const piece of content) {
    const bytes = piece as Buffer
    if (bytes.length > 0) last = bytes[bytes.length - 1]!
    onByte(last)
    yield bytes
  }
  if (last !== 10) yield Buffer.from('\n')
}

/**
 * The key under which this content is stored, or will be. Contents that begin alike and are not the same get keys made of
 * more of them, and at last of all of them.
 */
async function keyOf(fd: number, sender: Sender): Promise<{ key: string; position: Position }> {
  for (const bytes of KEY_BYTES) {
    const key = await hashOfStart(fd, bytes)
    const position = await sender.position(key)
    if (position.checked === 0 || (await isSame(fd, position))) return { key, position }
  }
  const key = await hashOfStart(fd, Number.POSITIVE_INFINITY)
  return { key, position: await sender.position(key) }
}

/** Of the first line, or of the first bytes where it is longer: a small file keeps its key when it grows. */
async function hashOfStart(fd: number, bytesMax: number): Promise<string> {
  const hash = createHash('sha256').update(`${bytesMax}\0`)
  let rest = bytesMax
  const firstLineOnly = bytesMax === KEY_BYTES[0]
  for await (const piece of withLineEnd(contentOf(fd, compressionOf(readStart(fd, 4))), () => {})) {
    let part = piece.subarray(0, rest)
    const end = firstLineOnly ? part.indexOf(10) : -1
    if (end >= 0) part = part.subarray(0, end)
    hash.update(part)
    rest -= part.length
    if (end >= 0 || rest <= 0) break
  }
  return `content:${hash.digest('base64url')}`
}

/** Whether what is stored is the begin of this content, or, where this one is shorter, begins like it. */
async function isSame(fd: number, position: Position): Promise<boolean> {
  const own = new Prefix()
  for await (const piece of withLineEnd(contentOf(fd, compressionOf(readStart(fd, 4))), () => {})) {
    own.advance(piece.subarray(0, position.checked - own.bytes))
    if (own.bytes === position.checked) return own.crc === position.crc
  }
  return own.agrees(position.marks) === true
}
