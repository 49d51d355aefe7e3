import type { IncomingMessage } from 'node:http'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { engineError } from './engine-error.ts'
import { decoderOf } from './http-formats.ts'

/** Statements with their parameters, or an INSERT with its data in one text; longer data comes with the statement in the URL. */
const TEXT_BYTES_MAX = 64 * 1024 * 1024

/** The body of a request as it comes, decompressed, of at most `bytesMax` bytes; reading it throws `EngineError`s. */
export function bodyOf(request: IncomingMessage, bytesMax: number): readonly [Readable, ...Transform[]] {
  const decoder = decoderOf(request.headers['content-encoding'])
  if (decoder === null) {
    throw engineError('NOT_IMPLEMENTED', `Unknown Content-Encoding ${request.headers['content-encoding']}`)
  }
  const bounded = atMost(bytesMax)
  return decoder === undefined ? [request, bounded] : [request, decoder, bounded]
}

/** The whole body as bytes. */
export async function readText(request: IncomingMessage): Promise<Buffer> {
  if (request.method === 'GET') return Buffer.alloc(0)
  const chunks: Buffer[] = []
  await received(
    pipeline([
      ...bodyOf(request, TEXT_BYTES_MAX),
      async (source: AsyncIterable<Buffer>) => {
        for await (const chunk of source) chunks.push(chunk)
      },
    ]),
  )
  return Buffer.concat(chunks)
}

/** A form with the statement and its parameters: how clients send parameters that do not fit into a URL. */
export async function readForm(request: IncomingMessage, contentType: string): Promise<readonly [string, string][]> {
  const body = await readText(request)
  try {
    const form = await new Response(new Uint8Array(body), { headers: { 'content-type': contentType } }).formData()
    return [...form].map(([name, value]) => {
      if (typeof value !== 'string') throw engineError('NOT_IMPLEMENTED', 'External tables are not supported')
      return [name, value]
    })
  } catch (error) {
    if (error instanceof TypeError) throw engineError('BAD_ARGUMENTS', 'The multipart body is malformed', error)
    throw error
  }
}

/** A body that cannot be decompressed or that ends early is the client's fault, and said in the engine's words. */
export async function received(reading: Promise<void>): Promise<void> {
  try {
    await reading
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (/^(?:Z_|ERR_ZSTD|ZSTD_|ERR_BROTLI|ERR__ERROR|ERR_STREAM_PREMATURE|ERR_PADDING|ECONNRESET)/.test(code)) {
      throw engineError('CANNOT_READ_ALL_DATA', `The request body is cut short or not what its encoding says: ${code}`)
    }
    throw error
  }
}

function atMost(bytesMax: number): Transform {
  let bytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes > bytesMax) done(engineError('TOO_MANY_BYTES', `The request body is larger than ${bytesMax} bytes`))
      else done(null, chunk)
    },
  })
}
