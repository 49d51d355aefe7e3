import { gunzipSync } from 'node:zlib'
import type { Scratch } from './scratch.ts'
import { type Status, status } from './status.ts'

/**
 * Cuts the bytes of a stream into gRPC messages: 1 byte flag (1 = compressed), 4 bytes length (big-endian), message.
 *
 * ```
 * chunk      ├────────── DATA ──────────┤├────────── DATA ──────────┤
 * messages   ├5├─────┤├5├────┤├5├──────────────────────┤├5├───┤├5├─…
 *              in place  in place   put together          in place
 * ```
 *
 * A message that lies whole in a chunk is handed on where it lies; only one that is cut is copied, once.
 */
export interface MessageReader {
  /**
   * Reads `chunk` from `at` on, and returns how far it came: less than the chunk's length when `onMessage` said `stop` or
   * `again`, or when the stream is over (`ended`). A message to be given again that was put together is kept here
   * (`waiting`) and is the first thing the next call gives.
   */
  push(chunk: Uint8Array, at: number): number
  readonly waiting: boolean
  /** Why nothing more can be read; null while all is well. */
  readonly ended: Status | null
  /** Whether a message has begun and is not complete. */
  readonly incomplete: boolean
  /** Gives back what is held. */
  close(): void
}

/** `stop`: the message is done, no more now. `again`: it is not done. */
export type ReadVerdict = Status | 'stop' | 'again' | null

export interface MessageReaderOptions {
  readonly messageBytesMax: number
  readonly decompressedBytesMax: number
  /** Value of the header `grpc-encoding`. */
  readonly encoding: string
  readonly scratch: Scratch
  readonly onMessage: (bytes: Uint8Array, start: number, end: number) => ReadVerdict
}

const PREFIX = 5
/** First room for a message that is cut; it grows with the bytes that really come, whatever the prefix says. */
const ROOM = 16 * 1024

export function createMessageReader(options: MessageReaderOptions): MessageReader {
  return new Reader(options)
}

class Reader implements MessageReader {
  readonly #options: MessageReaderOptions
  /** A cut message with its prefix; null when there is none. */
  #held: Buffer | null = null
  #have = 0
  #need = 0
  /** A cut prefix. */
  readonly #prefix = Buffer.alloc(PREFIX)
  #prefixHave = 0
  waiting = false
  ended: Status | null = null

  constructor(options: MessageReaderOptions) {
    this.#options = options
  }

  get incomplete(): boolean {
    return (this.#held !== null && !this.waiting) || this.#prefixHave > 0
  }

  push(chunk: Uint8Array, from: number): number {
    let at = from
    if (this.waiting && !this.#giveHeld()) return at
    if (this.#prefixHave > 0) {
      while (this.#prefixHave < PREFIX && at < chunk.length) this.#prefix[this.#prefixHave++] = chunk[at++]!
      if (this.#prefixHave < PREFIX) return at
      this.#prefixHave = 0
      if (!this.#hold(this.#prefix, 0, chunk.length - at)) return at
    }
    if (this.#held !== null) {
      at = this.#fill(chunk, at)
      if (this.ended !== null || this.#have < this.#need || !this.#giveHeld()) return at
    }
    while (at + PREFIX <= chunk.length) {
      const length = lengthAt(chunk, at)
      if (length > this.#options.messageBytesMax) return this.#end(at, tooLarge(length, this.#options.messageBytesMax))
      const next = at + PREFIX + length
      if (next > chunk.length) {
        if (!this.#hold(chunk, at, chunk.length - at)) return at
        return this.#fill(chunk, at + PREFIX)
      }
      const verdict = this.#give(chunk, at, length)
      if (verdict === null) at = next
      else if (verdict === 'stop') return next
      else return verdict === 'again' ? at : this.#end(at, verdict)
    }
    while (at < chunk.length) this.#prefix[this.#prefixHave++] = chunk[at++]!
    return at
  }

  close(): void {
    if (this.#held !== null) this.#options.scratch.give(this.#held)
    this.#held = null
    this.#prefixHave = 0
    this.waiting = false
  }

  #end(at: number, status: Status): number {
    this.ended = status
    this.close()
    return at
  }

  #give(bytes: Uint8Array, at: number, length: number): ReadVerdict {
    const start = at + PREFIX
    if (bytes[at] === 0) return this.#options.onMessage(bytes, start, start + length)
    return inflate(this.#options, bytes, start, start + length)
  }

  /** Begins a message that goes on beyond this chunk, with the prefix at `bytes[at …)`. False: it cannot be taken. */
  #hold(bytes: Uint8Array, at: number, available: number): boolean {
    const length = lengthAt(bytes, at)
    if (length > this.#options.messageBytesMax) {
      this.#end(at, tooLarge(length, this.#options.messageBytesMax))
      return false
    }
    this.#need = PREFIX + length
    this.#held = this.#options.scratch.take(Math.min(this.#need, PREFIX + Math.max(ROOM, 2 * available)))
    if (this.#held === null) {
      this.#end(at, FULL)
      return false
    }
    for (let k = 0; k < PREFIX; k++) this.#held[k] = bytes[at + k]!
    this.#have = PREFIX
    return true
  }

  /** Copies from `chunk` what the held message lacks; returns the position behind it. */
  #fill(chunk: Uint8Array, at: number): number {
    const take = Math.min(this.#need - this.#have, chunk.length - at)
    const have = this.#have + take
    if (this.#held!.length < have) {
      const larger = this.#options.scratch.take(Math.min(this.#need, Math.max(2 * this.#held!.length, have)))
      if (larger === null) return this.#end(at, FULL)
      larger.set(this.#held!.subarray(0, this.#have), 0)
      this.#options.scratch.give(this.#held!)
      this.#held = larger
    }
    this.#held!.set(chunk.subarray(at, at + take), this.#have)
    this.#have = have
    return at + take
  }

  /** Gives the held message, which is complete. False: reading stops here. */
  #giveHeld(): boolean {
    const verdict = this.#give(this.#held!, 0, this.#need - PREFIX)
    this.waiting = verdict === 'again'
    if (this.waiting) return false
    this.#options.scratch.give(this.#held!)
    this.#held = null
    if (verdict !== null && verdict !== 'stop') this.#end(0, verdict as Status)
    return verdict === null
  }
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at + 1]! << 24) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!) >>> 0
}

function inflate(options: MessageReaderOptions, bytes: Uint8Array, start: number, end: number): ReadVerdict {
  if (bytes[start - PREFIX] !== 1) return status('internal', 'the flag byte of a message is neither 0 nor 1')
  if (options.encoding !== 'gzip') {
    return options.encoding === '' || options.encoding === 'identity'
      ? status('internal', 'a message is marked as compressed, but grpc-encoding is missing')
      : status('unimplemented', `grpc-encoding ${options.encoding} is not supported, only gzip and identity`)
  }
  let plain: Buffer
  try {
    plain = gunzipSync(bytes.subarray(start, end), { maxOutputLength: options.decompressedBytesMax })
  } catch (error) {
    const over = error instanceof RangeError || (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
    return over
      ? status('resourceExhausted', `a message is larger than ${options.decompressedBytesMax} bytes when decompressed`)
      : status('internal', 'a compressed message is not valid gzip')
  }
  return options.onMessage(plain, 0, plain.length)
}

function tooLarge(length: number, max: number): Status {
  return status('resourceExhausted', `a message has ${length} bytes, at most ${max} are allowed`)
}

const FULL = status('resourceExhausted', 'too many incomplete messages are being received')
