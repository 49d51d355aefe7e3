/**
 * Buffers for messages that arrive in pieces. One is held only while its message is incomplete, so an idle stream
 * holds none; returned ones of a usual size are used again, since a message of 16 KiB would otherwise be an allocation
 * outside the heap each time.
 *
 * Bound: `bytesMax` over all buffers that are out, whatever the senders say about the length of their messages.
 */
export interface Scratch {
  /** Bytes of all buffers that are out. */
  readonly bytes: number
  /** A buffer of at least `bytes`; null when the bound is reached. */
  take(bytes: number): Buffer | null
  give(buffer: Buffer): void
}

const SMALLEST = 32 * 1024
/** 32, 64, 128, 256, 512 KiB and 1 MiB are kept, up to 8 of each: at most 16 MiB lie idle. */
const CLASSES = 6
const KEPT_MAX = 8

export function createScratch(bytesMax: number): Scratch {
  const free: Buffer[][] = Array.from({ length: CLASSES }, () => [])
  let out = 0
  return {
    get bytes() {
      return out
    },
    take(bytes) {
      let size = SMALLEST
      while (size < bytes) size *= 2
      if (out + size > bytesMax) return null
      out += size
      return free[sizeClass(size)]?.pop() ?? Buffer.allocUnsafeSlow(size)
    },
    give(buffer) {
      out -= buffer.length
      const kept = free[sizeClass(buffer.length)]
      if (kept !== undefined && kept.length < KEPT_MAX) kept.push(buffer)
    },
  }
}

function sizeClass(size: number): number {
  return Math.log2(size / SMALLEST)
}
