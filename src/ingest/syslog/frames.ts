/**
 * Takes syslog messages out of a TCP stream (RFC 6587, RFC 5425), whichever of the two framings each of them has:
 *
 *   83 <34>1 2026-…          octet counting: the length in digits, a blank, so many bytes
 *   <34>Oct 11 22:14:15 …⏎   the message ends with a line end, or with NUL as some senders have it
 *
 * A digit first is only a length if a blank and `<` follow the digits: lines without `<pri>` may begin with a date.
 */
export type FrameFault = 'too_large' | 'cut_off'

export interface FramesOptions {
  readonly messageBytesMax: number
  readonly onMessage: (bytes: Buffer, start: number, end: number) => void
  readonly onFault: (fault: FrameFault) => void
}

const NEWLINE = 0x0a
const RETURN = 0x0d
const SPACE = 0x20
const LESS = 0x3c
const DIGITS_MAX = 9

export class SyslogFrames {
  readonly #options: FramesOptions
  #bytes: Buffer = NOTHING
  /** Of a message that is larger than allowed the rest is passed over: bytes to go, or up to the next line end (Infinity). */
  #skipping = 0
  /** Up to here there is no line end. */
  #searched = 0

  constructor(options: FramesOptions) {
    this.#options = options
  }

  /** A message has begun and not ended. */
  get holds(): boolean {
    return this.#bytes.length > 0 || this.#skipping > 0
  }

  push(chunk: Buffer): void {
    const { onMessage, onFault, messageBytesMax } = this.#options
    let bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    for (let at = 0; ; ) {
      if (this.#skipping > 0) at = this.#skip(bytes, at)
      if (at >= bytes.length) {
        bytes = NOTHING
        break
      }
      const counted = countedLength(bytes, at)
      if (counted.kind === 'short' && bytes.length - at <= DIGITS_MAX + 2) {
        bytes = bytes.subarray(at)
        break
      }
      if (counted.kind === 'length') {
        if (counted.length > messageBytesMax) {
          onFault('too_large')
          this.#skipping = counted.head + counted.length
          continue
        }
        const end = at + counted.head + counted.length
        if (end > bytes.length) {
          bytes = bytes.subarray(at)
          break
        }
        this.#give(onMessage, bytes, at + counted.head, end)
        at = end
        continue
      }
      const end = lineEnd(bytes, at + this.#searched)
      if (end < 0) {
        this.#searched = bytes.length - at
        bytes = bytes.subarray(at)
        if (bytes.length > messageBytesMax) {
          onFault('too_large')
          this.#skipping = Number.POSITIVE_INFINITY
          bytes = NOTHING
          this.#searched = 0
        }
        break
      }
      this.#searched = 0
      if (end - at > messageBytesMax) onFault('too_large')
      else this.#give(onMessage, bytes, at, end)
      at = end + 1
    }
    // A copy: what is left of a chunk must not keep all of it.
    this.#bytes = bytes.length === 0 ? NOTHING : Buffer.from(bytes)
  }

  /** The stream has ended: the last line needs no line end. */
  end(): void {
    const { onMessage, onFault } = this.#options
    if (this.#skipping > 0) return
    const bytes = this.#bytes
    this.#bytes = NOTHING
    if (bytes.length === 0) return
    if (countedLength(bytes, 0).kind === 'length') onFault('cut_off')
    else this.#give(onMessage, bytes, 0, bytes.length)
  }

  #give(onMessage: FramesOptions['onMessage'], bytes: Buffer, start: number, end: number): void {
    let to = end
    while (to > start && (bytes[to - 1] === NEWLINE || bytes[to - 1] === RETURN || bytes[to - 1] === 0)) to--
    if (to > start) onMessage(bytes, start, to)
  }

  #skip(bytes: Buffer, at: number): number {
    if (this.#skipping !== Number.POSITIVE_INFINITY) {
      const passed = Math.min(this.#skipping, bytes.length - at)
      this.#skipping -= passed
      return at + passed
    }
    const end = lineEnd(bytes, at)
    if (end < 0) return bytes.length
    this.#skipping = 0
    return end + 1
  }
}

const NOTHING: Buffer = Buffer.alloc(0)

type Counted =
  | { readonly kind: 'length'; readonly head: number; readonly length: number }
  | { readonly kind: 'short' | 'line' }
const SHORT: Counted = { kind: 'short' }
const LINE: Counted = { kind: 'line' }

/** `short`: it may become a length with more bytes. */
function countedLength(bytes: Buffer, at: number): Counted {
  let length = 0
  let k = at
  for (; k < bytes.length; k++) {
    const digit = bytes[k]! - 0x30
    if (digit < 0 || digit > 9) break
    if (k - at >= DIGITS_MAX || (k === at && digit === 0)) return LINE
    length = length * 10 + digit
  }
  if (k === bytes.length) return SHORT
  if (k === at || bytes[k] !== SPACE) return LINE
  if (k + 1 === bytes.length) return SHORT
  return bytes[k + 1] === LESS ? { kind: 'length', head: k + 1 - at, length } : LINE
}

function lineEnd(bytes: Buffer, from: number): number {
  const newline = bytes.indexOf(NEWLINE, from)
  const nul = bytes.indexOf(0, from)
  return nul >= 0 && (newline < 0 || nul < newline) ? nul : newline
}
