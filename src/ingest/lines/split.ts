import { isAscii } from 'node:buffer'

/** Finds the entries in a chunk of bytes. Stateless but for what a JSON array needs. */
export interface Splitter {
  /**
   * Calls `each` for every complete entry in `bytes[from … to − 1]` with its text and the offset behind it, and returns
   * the offset behind the last one. What follows is given again, with more behind it.
   */
  split(bytes: Buffer, from: number, to: number, each: EachEntry): number
  /** Where an entry that is larger than allowed ends; −1: not in these bytes. Null: there is no telling. */
  readonly skip: ((bytes: Buffer) => number) | null
  /** The text of a last entry that nothing ended; null when there is none. */
  rest(bytes: Buffer, from: number, to: number): string | null
}

export type EachEntry = (text: string, end: number) => void

const NEWLINE = 10

export const lineSplitter: Splitter = {
  split(bytes, from, to, each) {
    const last = bytes.lastIndexOf(NEWLINE, to - 1)
    if (last < from) return from
    const whole = bytes.subarray(from, last + 1)
    let at = 0
    if (isAscii(whole)) {
      // One string for all lines: an index of it is an index of the bytes.
      const text = whole.toString('latin1', 0, whole.length)
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', at)) {
        each(text.slice(at, end), from + end + 1)
        at = end + 1
      }
      return last + 1
    }
    for (let end = whole.indexOf(NEWLINE); end >= 0; end = whole.indexOf(NEWLINE, at)) {
      each(whole.toString('utf8', at, end), from + end + 1)
      at = end + 1
    }
    return last + 1
  },
  skip(bytes) {
    const end = bytes.indexOf(NEWLINE)
    return end < 0 ? -1 : end + 1
  },
  rest: (bytes, from, to) => (to > from ? bytes.toString('utf8', from, to) : null),
}

const QUOTE = 0x22
const BACKSLASH = 0x5c

/**
 * The values of a JSON array, or JSON values one after another, whatever stands between them. A value that is a string is
 * a line of text; every other is given as its JSON.
 */
export function createJsonSplitter(): Splitter {
  let inArray = false
  const split: Splitter['split'] = (bytes, from, to, each) => {
    let at = from
    for (;;) {
      while (at < to && isBetween(bytes[at]!, inArray)) {
        if (bytes[at] === 0x5b) inArray = true
        at++
      }
      const end = endOfValue(bytes, at, to)
      if (end < 0) return at
      each(textOf(bytes, at, end), end)
      at = end
    }
  }
  return {
    split,
    skip: null,
    rest: (bytes, from, to) => {
      const text = bytes.toString('utf8', from, to).trim()
      return text === '' ? null : text
    },
  }
}

/** Blanks and commas, and the brackets of the array itself. */
function isBetween(byte: number, inArray: boolean): boolean {
  return byte <= 0x20 || byte === 0x2c || (byte === 0x5b && !inArray) || (byte === 0x5d && inArray)
}

/** The offset behind the value that begins at `at`; −1 when its end is not there. */
function endOfValue(bytes: Buffer, at: number, to: number): number {
  if (at >= to) return -1
  let depth = 0
  for (let k = at; k < to; k++) {
    const byte = bytes[k]!
    if (byte === QUOTE) {
      for (k++; k < to && bytes[k] !== QUOTE; k++) if (bytes[k] === BACKSLASH) k++
      if (k >= to) return -1
      if (depth === 0) return k + 1
    } else if (byte === 0x7b || byte === 0x5b) depth++
    else if (byte === 0x7d || byte === 0x5d) {
      // One bracket too many ends what stands before it.
      if (--depth < 0) return k === at ? k + 1 : k
      if (depth === 0) return k + 1
    } else if (depth === 0 && (byte === 0x2c || byte <= 0x20)) return k
  }
  return -1
}

function textOf(bytes: Buffer, from: number, to: number): string {
  const text = bytes.toString('utf8', from, to)
  if (bytes[from] !== QUOTE) return text
  try {
    return String(JSON.parse(text))
  } catch {
    return text
  }
}
