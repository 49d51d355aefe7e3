import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import {
  createMessageReader,
  type MessageReader,
  type MessageReaderOptions,
  type ReadVerdict,
} from '../../../src/ingest/grpc/message-reader.ts'
import { createScratch, type Scratch } from '../../../src/ingest/grpc/scratch.ts'
import { STATUS, status } from '../../../src/ingest/grpc/status.ts'
import { frame } from '../../support/grpc-client.ts'

interface Setup {
  readonly reader: MessageReader
  readonly read: string[]
  readonly scratch: Scratch
  /** What the consumer says to each message; null when there is nothing left here. */
  readonly verdicts: ReadVerdict[]
  /** Whether each message lay in the chunk that was pushed last. */
  readonly inPlace: boolean[]
  push(chunk: Uint8Array, at?: number): number
}

function setup(options: Partial<MessageReaderOptions> = {}): Setup {
  const read: string[] = []
  const inPlace: boolean[] = []
  const verdicts: ReadVerdict[] = []
  const scratch = options.scratch ?? createScratch(1 << 20)
  let pushed: Uint8Array = Buffer.alloc(0)
  const reader = createMessageReader({
    messageBytesMax: 1 << 20,
    decompressedBytesMax: 1 << 20,
    encoding: '',
    scratch,
    onMessage(bytes, start, end) {
      read.push(Buffer.from(bytes.subarray(start, end)).toString('latin1'))
      inPlace.push(bytes === pushed)
      return verdicts.shift() ?? null
    },
    ...options,
  })
  const push = (chunk: Uint8Array, at = 0): number => {
    pushed = chunk
    return reader.push(chunk, at)
  }
  return { reader, read, scratch, verdicts, inPlace, push }
}

const MESSAGES = ['', 'a', 'bc', 'x'.repeat(300), '', 'last']
const WIRE = Buffer.concat(MESSAGES.map((text) => frame(Buffer.from(text))))

describe('a reader of gRPC messages', () => {
  test('hands on many messages of one chunk without copying them', () => {
    const { read, inPlace, push, scratch } = setup()
    expect(push(WIRE)).toBe(WIRE.length)
    expect(read).toEqual(MESSAGES)
    expect(inPlace.every(Boolean)).toBe(true)
    expect(scratch.bytes).toBe(0)
  })

  test('puts messages together wherever a chunk is cut', () => {
    for (let cut = 0; cut <= WIRE.length; cut++) {
      const { read, reader, push, scratch } = setup()
      push(WIRE.subarray(0, cut))
      push(WIRE.subarray(cut))
      expect(read, `cut at ${cut}`).toEqual(MESSAGES)
      expect(reader.incomplete).toBe(false)
      expect(scratch.bytes).toBe(0)
    }
  })

  test('puts messages together from single bytes and from chunks of any size', () => {
    for (let size = 1; size < 50; size++) {
      const { read, push } = setup()
      for (let at = 0; at < WIRE.length; at += size) push(WIRE.subarray(at, at + size))
      expect(read, `chunks of ${size}`).toEqual(MESSAGES)
    }
  })

  test('says that a message is incomplete, from its first byte to the one before its last', () => {
    const { reader, push } = setup()
    const wire = frame(Buffer.from('hello'))
    for (let at = 0; at < wire.length; at++) {
      push(wire.subarray(at, at + 1))
      expect(reader.incomplete).toBe(at < wire.length - 1)
    }
  })

  test('reads on at the same place after it was stopped', () => {
    for (let stopAt = 0; stopAt < MESSAGES.length; stopAt++) {
      const { read, verdicts, push } = setup()
      verdicts.push(...Array<null>(stopAt).fill(null), 'stop')
      const at = push(WIRE)
      expect(read).toEqual(MESSAGES.slice(0, stopAt + 1))
      expect(push(WIRE, at)).toBe(WIRE.length)
      expect(read).toEqual(MESSAGES)
    }
  })

  test('gives a message again that was not done, in place or put together, wherever it is cut', () => {
    for (let cut = 0; cut <= WIRE.length; cut++) {
      const { read, verdicts, push, reader } = setup()
      // Every message is refused once.
      for (const _ of MESSAGES) verdicts.push('again', null)
      const chunks = [WIRE.subarray(0, cut), WIRE.subarray(cut)]
      for (const chunk of chunks) {
        let at = push(chunk)
        for (let rounds = 0; (at < chunk.length || reader.waiting) && rounds < 20; rounds++) at = push(chunk, at)
        expect(at).toBe(chunk.length)
      }
      expect(read, `cut at ${cut}`).toEqual(MESSAGES.flatMap((text) => [text, text]))
    }
  })

  test('does not call a message that waits to be given again incomplete', () => {
    const { verdicts, push, reader } = setup()
    verdicts.push('again')
    const wire = frame(Buffer.from('hello'))
    push(wire.subarray(0, 7))
    push(wire.subarray(7))
    expect(reader.waiting).toBe(true)
    expect(reader.incomplete).toBe(false)
    push(Buffer.alloc(0))
    expect(reader.waiting).toBe(false)
  })

  test('ends with the status that the consumer gives', () => {
    const { reader, verdicts, push, read } = setup()
    verdicts.push(null, status('unavailable', 'enough'))
    push(WIRE)
    expect(reader.ended).toEqual({ code: STATUS.unavailable, message: 'enough' })
    expect(read).toEqual(MESSAGES.slice(0, 2))
  })

  test('refuses a message over the limit before any of it is held', () => {
    for (const cut of [5, 3]) {
      const { reader, push, scratch } = setup({ messageBytesMax: 100 })
      const wire = frame(Buffer.alloc(101))
      push(wire.subarray(0, cut))
      push(wire.subarray(cut, cut + 10))
      expect(reader.ended?.code).toBe(STATUS.resourceExhausted)
      expect(scratch.bytes).toBe(0)
    }
    const { reader, push, read } = setup({ messageBytesMax: 100 })
    push(frame(Buffer.alloc(100)))
    expect(reader.ended).toBeNull()
    expect(read).toHaveLength(1)
  })

  test('holds as much as has come, not as much as the prefix promises', () => {
    const { push, scratch } = setup({ messageBytesMax: 1 << 30, scratch: createScratch(1 << 20) })
    const prefix = frame(Buffer.alloc(0))
    prefix.writeUInt32BE(1 << 29, 1)
    push(prefix)
    push(Buffer.alloc(100))
    expect(scratch.bytes).toBeLessThanOrEqual(32 * 1024)
  })

  test('ends when all incomplete messages together are over their bound, and gives its room back', () => {
    const scratch = createScratch(64 * 1024)
    const first = setup({ scratch })
    const second = setup({ scratch })
    const wire = frame(Buffer.alloc(60 * 1024))
    first.push(wire.subarray(0, 40 * 1024))
    second.push(wire.subarray(0, 1024))
    expect(second.reader.ended?.code).toBe(STATUS.resourceExhausted)
    first.push(wire.subarray(40 * 1024))
    expect(first.read).toHaveLength(1)
    expect(scratch.bytes).toBe(0)
  })

  test('gives its room back when it is closed inside a message', () => {
    const { reader, push, scratch } = setup()
    push(frame(Buffer.alloc(1000)).subarray(0, 500))
    expect(scratch.bytes).toBeGreaterThan(0)
    reader.close()
    expect(scratch.bytes).toBe(0)
  })
})

describe('a compressed message', () => {
  const text = 'compressible '.repeat(1000)
  const packed = frame(gzipSync(text), 1)

  test('is inflated when the stream says gzip, cut or whole', () => {
    for (const cut of [0, 3, 20]) {
      const { read, push } = setup({ encoding: 'gzip' })
      push(packed.subarray(0, cut))
      push(packed.subarray(cut))
      expect(read).toEqual([text])
    }
  })

  test.each([
    ['', STATUS.internal],
    ['identity', STATUS.internal],
    ['snappy', STATUS.unimplemented],
  ])('is refused with grpc-encoding "%s"', (encoding, code) => {
    const { reader, push } = setup({ encoding })
    push(packed)
    expect(reader.ended?.code).toBe(code)
  })

  test('is refused when it grows over the limit, and when it is no gzip', () => {
    const large = setup({ encoding: 'gzip', decompressedBytesMax: 1000 })
    large.push(packed)
    expect(large.reader.ended?.code).toBe(STATUS.resourceExhausted)
    const broken = setup({ encoding: 'gzip' })
    broken.push(frame(Buffer.from('no gzip'), 1))
    expect(broken.reader.ended?.code).toBe(STATUS.internal)
  })

  test('is refused when the flag is neither 0 nor 1', () => {
    const { reader, push } = setup({ encoding: 'gzip' })
    push(frame(Buffer.from('x'), 2))
    expect(reader.ended?.code).toBe(STATUS.internal)
  })
})
