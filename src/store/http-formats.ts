import type { Transform } from 'node:stream'
import zlib from 'node:zlib'

/**
 * Formats that are one line or block after the other, so that an exception may follow what has been sent. Answers in
 * other formats wait for the end of the statement.
 */
export function isLineFormat(format: string): boolean {
  return /^(?:JSON(?:Compact)?(?:Strings)?EachRow|TabSeparated|TSV|CSV|CustomSeparated|RowBinary|Native$|Line|Values$|TSKV$)/.test(
    format,
  )
}

/** The media type that ClickHouse gives a format. */
export function contentTypeOf(format: string): string {
  if (/^JSON\w*EachRow/.test(format)) return 'application/x-ndjson; charset=UTF-8'
  if (format.startsWith('JSON')) return 'application/json; charset=UTF-8'
  if (/^(?:TabSeparated|TSV)/.test(format)) return 'text/tab-separated-values; charset=UTF-8'
  if (format.startsWith('CSV')) return 'text/csv; charset=UTF-8; header=absent'
  if (/^(?:Native|RowBinary|Arrow|Parquet|ORC|Avro|MsgPack|Npy|Protobuf|CapnProto|BSON)/.test(format)) {
    return 'application/octet-stream'
  }
  return 'text/plain; charset=UTF-8'
}

export type Encoding = 'gzip' | 'zstd' | 'br' | 'deflate'

/** The first encoding that the client takes, when it asked for compression at all. */
export function encodingFor(accept: string | undefined, asked: boolean): Encoding | undefined {
  if (!asked || accept === undefined) return undefined
  const taken = accept.split(',').map((entry) => entry.split(';')[0]!.trim().toLowerCase())
  return (['gzip', 'zstd', 'br', 'deflate'] as const).find((encoding) => taken.includes(encoding))
}

/** Fast levels: this is a loopback, compression is for clients that insist. */
export function encoderOf(encoding: Encoding): Transform {
  if (encoding === 'gzip') return zlib.createGzip({ level: 1 })
  if (encoding === 'deflate') return zlib.createDeflate({ level: 1 })
  if (encoding === 'zstd') return zlib.createZstdCompress()
  return zlib.createBrotliCompress({ params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } })
}

/** Undefined for a plain body, null for an encoding that we do not know. */
export function decoderOf(encoding: string | undefined): Transform | undefined | null {
  if (encoding === undefined || encoding === '' || encoding === 'identity') return undefined
  if (encoding === 'gzip' || encoding === 'x-gzip') return zlib.createGunzip()
  if (encoding === 'deflate') return zlib.createInflate()
  if (encoding === 'zstd') return zlib.createZstdDecompress()
  if (encoding === 'br') return zlib.createBrotliDecompress()
  return null
}
