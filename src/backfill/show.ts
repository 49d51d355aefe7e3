import type { BackfillProgress, BackfillResult } from './backfill.ts'

/** What people or programs see of a backfill. */
export interface Show {
  progress(progress: BackfillProgress): void
  wait(reason: string | null): void
  file(result: BackfillResult): void
}

const BAR_CHARS = 24
const EVERY_MS = 100
const JSON_EVERY_MS = 1000

/** A bar that is drawn over itself, and one line for each file. */
export function showBar(write: (text: string) => void, columns: () => number, nowMs: () => number): Show {
  const began = new Map<string, number>()
  let drawnMs = Number.NEGATIVE_INFINITY
  let waiting: string | null = null
  let drawn = false
  const draw = (line: string): void => {
    write(`\r\u001b[K${line.slice(0, Math.max(20, columns() - 1))}`)
    drawn = true
  }
  return {
    progress(progress) {
      const { file, read, size, accepted } = progress
      const now = nowMs()
      const since = began.get(file) ?? now
      began.set(file, since)
      if (now - drawnMs < EVERY_MS) return
      drawnMs = now
      const share = size === 0 ? 1 : read / size
      const rate = now > since ? read / (now - since) : 0
      const left = rate > 0 ? `${Math.ceil((size - read) / rate / 1000)} s left` : ''
      const note = waiting === null ? left : `waiting: ${waiting}`
      draw(
        `${nameOf(file)} ${bar(share)} ${String(Math.floor(share * 100)).padStart(3)} %  ${count(accepted)} lines  ${note}`,
      )
    },
    wait(reason) {
      waiting = reason
      if (reason !== null) draw(`waiting: ${reason}`)
    },
    file(result) {
      if (drawn) write('\r\u001b[K')
      const { file, added, rejected, accepted, error } = result
      const before = accepted - added
      const parts = [`${count(added)} lines stored`]
      if (before > 0) parts.push(`${count(before)} were there`)
      if (rejected > 0) parts.push(`${count(rejected)} could not be read`)
      if (error !== null) parts.push(`stopped: ${error}`)
      write(`${nameOf(file)}: ${parts.join(', ')}\n`)
    },
  }
}

/** JSON lines: progress at most each second, and a result for each file. */
export function showJson(write: (text: string) => void, nowMs: () => number): Show {
  let writtenMs = Number.NEGATIVE_INFINITY
  return {
    progress(progress) {
      if (nowMs() - writtenMs < JSON_EVERY_MS) return
      writtenMs = nowMs()
      write(`${JSON.stringify({ progress })}\n`)
    },
    wait(reason) {
      if (reason !== null) write(`${JSON.stringify({ waiting: reason })}\n`)
    },
    file(result) {
      write(`${JSON.stringify({ file: result })}\n`)
    },
  }
}

function bar(share: number): string {
  const full = Math.round(Math.min(1, share) * BAR_CHARS)
  return '█'.repeat(full) + '░'.repeat(BAR_CHARS - full)
}

const nameOf = (file: string): string => file.slice(file.lastIndexOf('/') + 1)
const count = (n: number): string => n.toLocaleString('en-US')
