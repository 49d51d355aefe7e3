import snappy from 'snappyjs'

/**
 * Snappy's block format (github.com/google/snappy/blob/main/format_description.txt), the one of remote write: no frames,
 * no checksum.
 *
 * What we write is packed by `snappyjs`. What others send is unpacked here: with lengths above 2^31 that library steps
 * backwards and never ends, and it does not look whether the result is as long as was announced.
 */
export const snappyCompress = (bytes: Uint8Array): Uint8Array => snappy.compress(bytes)

export type SnappyFault = 'malformed' | 'too_large'

/** The unpacked bytes, in memory of their own. Work and memory are linear in `bytesMax` and the input, whatever it is. */
export function snappyUncompress(bytes: Uint8Array, bytesMax: number): Buffer | SnappyFault {
  let at = 0
  let length = 0
  for (let scale = 1; ; scale *= 128) {
    if (at >= bytes.length || at === 5) return 'malformed'
    const byte = bytes[at++]!
    length += (byte & 127) * scale
    if (byte < 128) break
  }
  if (length > bytesMax) return 'too_large'
  const out = Buffer.allocUnsafe(length)
  let end = 0
  while (at < bytes.length) {
    const tag = bytes[at++]!
    if ((tag & 3) === 0) {
      let literal = tag >>> 2
      if (literal >= 60) {
        const size = literal - 59
        if (at + size > bytes.length) return 'malformed'
        literal = 0
        for (let k = size - 1; k >= 0; k--) literal = literal * 256 + bytes[at + k]!
        at += size
      }
      literal++
      if (literal > bytes.length - at || literal > length - end) return 'malformed'
      out.set(bytes.subarray(at, at + literal), end)
      at += literal
      end += literal
      continue
    }
    const size = COPY_BYTES[tag & 3]!
    if (at + size > bytes.length) return 'malformed'
    const count = size === 1 ? ((tag >>> 2) & 7) + 4 : (tag >>> 2) + 1
    let offset = size === 1 ? (tag >>> 5) * 256 : 0
    for (let k = size - 1, low = 0; k >= 0; k--) {
      low = low * 256 + bytes[at + k]!
      if (k === 0) offset += low
    }
    at += size
    if (offset === 0 || offset > end || count > length - end) return 'malformed'
    // A copy may reach into what it writes: then it repeats.
    if (offset >= count) out.copyWithin(end, end - offset, end - offset + count)
    else for (let k = 0; k < count; k++) out[end + k] = out[end + k - offset]!
    end += count
  }
  return end === length ? out : 'malformed'
}

/** Bytes of the offset behind a tag, by its low bits. */
const COPY_BYTES = [0, 1, 2, 4] as const
