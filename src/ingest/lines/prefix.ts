import { crc32 } from 'node:zlib'

/**
 * The first bytes of a source, as far as they were read, by length and checksum: a position that also tells whether this
 * is still the same content, under whatever name, copied or compressed.
 *
 *   marks   CRC-32 of the first 64, 256, 1024 … bytes (64 · 4^k), as far as they were read: they tell contents apart
 *           when one of them is shorter
 *   tail    CRC-32 of the last bytes before the position, which is read again with what follows: a file that was
 *           emptied and written anew is found out even when it is as long as before
 */
export interface PrefixRecord {
  readonly bytes: number
  readonly crc: number
  readonly marks: readonly number[]
  readonly tail: readonly [bytes: number, crc: number]
}

export const MARK_FIRST = 64
const MARK_FACTOR = 4
const TAIL_BYTES = 1024

export const markAt = (k: number): number => MARK_FIRST * MARK_FACTOR ** k

export class Prefix {
  bytes = 0
  crc = 0
  marks: number[] = []
  tailBytes = 0
  tailCrc = 0

  static from({ bytes, crc, marks, tail }: PrefixRecord): Prefix {
    const prefix = new Prefix()
    prefix.bytes = bytes
    prefix.crc = crc
    prefix.marks = [...marks]
    prefix.tailBytes = tail[0]
    prefix.tailCrc = tail[1]
    return prefix
  }

  copy(): Prefix {
    return Prefix.from(this.record())
  }

  record(): PrefixRecord {
    return { bytes: this.bytes, crc: this.crc, marks: [...this.marks], tail: [this.tailBytes, this.tailCrc] }
  }

  /** The bytes that follow. */
  advance(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    let at = 0
    for (let mark = markAt(this.marks.length); mark <= this.bytes + chunk.length; mark = markAt(this.marks.length)) {
      const end = mark - this.bytes
      this.crc = crc32(chunk.subarray(at, end), this.crc)
      this.marks.push(this.crc)
      at = end
    }
    this.crc = crc32(at === 0 ? chunk : chunk.subarray(at), this.crc)
    this.bytes += chunk.length
    const tail = chunk.subarray(Math.max(0, chunk.length - TAIL_BYTES))
    this.tailBytes = tail.length
    this.tailCrc = crc32(tail)
  }

  /** Whether these are the bytes right before the position. */
  endsWith(tail: Uint8Array): boolean {
    return tail.length === this.tailBytes && crc32(tail) === this.tailCrc
  }

  /** Whether what both know of their beginnings is the same. Null when that is too little to say. */
  agrees(marks: readonly number[]): boolean | null {
    const common = Math.min(marks.length, this.marks.length)
    for (let k = 0; k < common; k++) if (marks[k] !== this.marks[k]) return false
    return common === 0 ? null : true
  }
}

export function readPrefixRecord(value: unknown): PrefixRecord | null {
  if (typeof value !== 'object' || value === null) return null
  const { bytes, crc, marks, tail } = value as Record<string, unknown>
  const sound =
    isCount(bytes) &&
    isCount(crc) &&
    Array.isArray(marks) &&
    marks.every(isCount) &&
    Array.isArray(tail) &&
    tail.every(isCount)
  return sound && tail.length === 2 ? { bytes, crc, marks, tail: [tail[0]!, tail[1]!] } : null
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
