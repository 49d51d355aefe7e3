import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { gunzip, inflate } from 'node:zlib'

/** Reads and unpacks bodies of HTTP requests within bounds. */
export type BodyResult =
  | { readonly ok: true; readonly bytes: Buffer }
  | { readonly ok: false; readonly reason: BodyFault }

export type BodyFault =
  /** Longer than allowed, as it comes or unpacked. */
  | 'too_large'
  /** Not what its content-encoding says. */
  | 'bad_compression'
  /** The sender left in the middle. */
  | 'cut_off'
  /** All bodies together are more than may be held. */
  | 'busy'

export interface BodyLimits {
  readonly bodyBytesMax: number
  readonly decompressedBytesMax: number
  /** Bodies that are being received and unpacked, all together. */
  readonly heldBytesMax: number
}

export interface BodyReader {
  /** `encoding`: `''`, `gzip` or `deflate`. The bytes count as held until `release` is called with them. */
  read(request: IncomingMessage, encoding: string): Promise<BodyResult>
  release(bytes: Buffer): void
  /** Bytes held now. */
  readonly held: number
}

const unpackers = { gzip: promisify(gunzip), deflate: promisify(inflate) }
/** What a body that is unpacked may need on top of what came, at first; the exact number is known afterwards. */
const RATIO = 8

export function createBodyReader(limits: BodyLimits): BodyReader {
  let held = 0

  function receive(request: IncomingMessage): Promise<BodyResult> {
    const chunks: Buffer[] = []
    let length = 0
    return new Promise((resolve) => {
      const fail = (reason: BodyFault): void => {
        held -= length
        length = 0
        request.off('data', onData)
        resolve({ ok: false, reason })
      }
      const onData = (chunk: Buffer): void => {
        length += chunk.length
        held += chunk.length
        if (length > limits.bodyBytesMax) fail('too_large')
        else if (held > limits.heldBytesMax) fail('busy')
        else chunks.push(chunk)
      }
      request.on('data', onData)
      request.once('end', () => {
        if (length === chunks.reduce((sum, chunk) => sum + chunk.length, 0)) {
          resolve({ ok: true, bytes: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length) })
        }
      })
      request.once('error', () => fail('cut_off'))
      request.once('close', () => fail('cut_off'))
    })
  }

  return {
    get held() {
      return held
    },
    release(bytes) {
      held -= bytes.length
    },
    async read(request, encoding) {
      const declared = Number(request.headers['content-length'] ?? 0)
      if (declared > limits.bodyBytesMax) return { ok: false, reason: 'too_large' }
      if (held + declared > limits.heldBytesMax) return { ok: false, reason: 'busy' }
      const received = await receive(request)
      if (!received.ok || encoding === '') return received
      const packed = received.bytes
      const reserved = Math.min(limits.decompressedBytesMax, RATIO * packed.length)
      if (held + reserved > limits.heldBytesMax) {
        held -= packed.length
        return { ok: false, reason: 'busy' }
      }
      held += reserved
      let bytes: Buffer | null = null
      let reason: BodyFault = 'bad_compression'
      try {
        bytes = await unpackers[encoding as keyof typeof unpackers](packed, {
          maxOutputLength: limits.decompressedBytesMax,
        })
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (error instanceof RangeError || code === 'ERR_BUFFER_TOO_LARGE') reason = 'too_large'
      }
      held -= reserved + packed.length
      if (bytes === null) return { ok: false, reason }
      held += bytes.length
      return { ok: true, bytes }
    },
  }
}
