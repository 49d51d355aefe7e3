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
  /** Reads one chunk. A status that is not null is the end of the stream: nothing more is read. */
  push(chunk: Uint8Array): Status | null
  /** Whether a message has begun and is not complete. */
  readonly incomplete: boolean
  /** Gives back what is held. */
  close(): void
}

export interface MessageReaderOptions {
  readonly messageBytesMax: number
  readonly decompressedBytesMax: number
  /** Value of the header `grpc-encoding`. */
  readonly encoding: string
  readonly scratch: Scratch
  readonly onMessage: (bytes: Uint8Array, start: number, end: number) => Status | null
}

const PREFIX = 5

export function createMessageReader(options: MessageReaderOptions): MessageReader {
  const { scratch, onMessage, messageBytesMax } = options
  /** Holds the prefix as well; null when no message is cut. */
  let held: Buffer | null = null
  let have = 0
  /** Bytes of prefix and message; PREFIX while the prefix itself is cut. */
  let need = 0
  const prefix = Buffer.alloc(PREFIX)
  let prefixHave = 0

  const hand = (bytes: Uint8Array, at: number, length: number): Status | null => {
    const start = at + PREFIX
    if (bytes[at] === 0) return onMessage(bytes, start, start + length)
    return inflate(options, bytes, start, start + length)
  }

  const release = (): void => {
    if (held !== null) scratch.give(held)
    held = null
    have = 0
  }

  /** Begins a message that goes on in the next chunk, `length` bytes and the prefix; takes what `chunk` has of it. */
  const hold = (chunk: Uint8Array, at: number, length: number): Status | null => {
    need = PREFIX + length
    // The stated length is not believed: room grows with the bytes that really come.
    held = scratch.take(Math.min(need, Math.max(2 * (chunk.length - at), PREFIX + 16 * 1024)))
    if (held === null) return full()
    held.set(at === 0 ? chunk : chunk.subarray(at), 0)
    have = chunk.length - at
    return null
  }

  /** Copies from `chunk` what the held message lacks; returns the position behind it. */
  const fill = (chunk: Uint8Array, at: number): number => {
    const take = Math.min(need - have, chunk.length - at)
    if (held!.length < have + take) {
      const larger = scratch.take(Math.min(need, Math.max(2 * held!.length, have + take)))
      if (larger === null) return -1
      larger.set(held!.subarray(0, have), 0)
      scratch.give(held!)
      held = larger
    }
    held!.set(chunk.subarray(at, at + take), have)
    have += take
    return at + take
  }

  const finishHeld = (): Status | null => {
    const buffer = held!
    const length = need - PREFIX
    held = null
    have = 0
    const ended = hand(buffer, 0, length)
    scratch.give(buffer)
    return ended
  }

  return {
    get incomplete() {
      return held !== null || prefixHave > 0
    },
    push(chunk) {
      let at = 0
      if (held !== null) {
        at = fill(chunk, 0)
        if (at < 0) return full()
        if (have < need) return null
        const ended = finishHeld()
        if (ended !== null) return ended
      } else if (prefixHave > 0) {
        while (prefixHave < PREFIX && at < chunk.length) prefix[prefixHave++] = chunk[at++]!
        if (prefixHave < PREFIX) return null
        prefixHave = 0
        const length = prefix.readUInt32BE(1)
        if (length > messageBytesMax) return tooLarge(length, messageBytesMax)
        need = PREFIX + length
        held = scratch.take(Math.min(need, Math.max(2 * chunk.length, PREFIX + 16 * 1024)))
        if (held === null) return full()
        held.set(prefix, 0)
        have = PREFIX
        at = fill(chunk, at)
        if (at < 0) return full()
        if (have < need) return null
        const ended = finishHeld()
        if (ended !== null) return ended
      }
      while (at + PREFIX <= chunk.length) {
        const length = ((chunk[at + 1]! << 24) | (chunk[at + 2]! << 16) | (chunk[at + 3]! << 8) | chunk[at + 4]!) >>> 0
        if (length > messageBytesMax) return tooLarge(length, messageBytesMax)
        if (at + PREFIX + length > chunk.length) return hold(chunk, at, length)
        const ended = hand(chunk, at, length)
        if (ended !== null) return ended
        at += PREFIX + length
      }
      while (at < chunk.length) prefix[prefixHave++] = chunk[at++]!
      return null
    },
    close() {
      release()
      prefixHave = 0
    },
  }
}

function inflate(options: MessageReaderOptions, bytes: Uint8Array, start: number, end: number): Status | null {
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

function full(): Status {
  return status('resourceExhausted', 'too many incomplete messages are being received')
}
