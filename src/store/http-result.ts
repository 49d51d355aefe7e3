import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Writable } from 'node:stream'
import { constants } from 'node:zlib'
import { systemClock } from '../lib/clock.ts'
import type { Answer } from './engine.ts'
import { asEngineError, type EngineError, httpStatusOf } from './engine-error.ts'
import { contentTypeOf, type Encoding, encoderOf, isLineFormat } from './http-formats.ts'
import { follow, POLL_MS, sizeOf } from './spool.ts'

/** How an answer is to be written. */
export interface Delivery {
  readonly response: ServerResponse
  readonly format: string
  readonly encoding: Encoding | undefined
  /** The engine's version, which ends the text of every exception. */
  readonly version: string
}

/** So much of a result is held back, so that a statement that fails early still gets its status code. */
const HELD_BYTES = 64 * 1024

/** Sends a result that the engine is writing to `path`. Settles when both the statement and the sending are over. */
export async function sendFile(
  delivery: Delivery & { readonly path: string; readonly waitForEnd: boolean },
  statement: Promise<Answer>,
): Promise<void> {
  const { response, format, path } = delivery
  const over = new AbortController()
  const outcome: Promise<Answer | EngineError> = statement.catch(asEngineError)
  outcome.then(() => over.abort())
  const early = isLineFormat(format) && !delivery.waitForEnd
  await systemClock.sleep(POLL_MS, over.signal)
  while (!over.signal.aborted && !(early && (await sizeOf(path)) >= HELD_BYTES))
    await systemClock.sleep(POLL_MS, over.signal)
  if (over.signal.aborted) {
    const result = await outcome
    if (result instanceof Error) return sendError(delivery, result)
    response.setHeader('X-ClickHouse-Summary', summaryOf(result))
  }
  const tag = randomBytes(8).toString('hex')
  response.setHeader('X-ClickHouse-Exception-Tag', tag)
  try {
    const body = begin(delivery, 200)
    for await (const chunk of follow(path, over.signal)) await write(body, chunk)
    const result = await outcome
    if (result instanceof Error) await breakOff(delivery, body, tag, result)
    else body.end()
  } finally {
    await outcome
  }
}

/** Sends what is already here. */
export function sendAnswer(delivery: Delivery, answer: Answer): void {
  delivery.response.setHeader('X-ClickHouse-Summary', summaryOf(answer))
  begin(delivery, 200).end(answer.kind === 'result' ? answer.bytes : undefined)
}

/** `Code: N. DB::Exception: … (NAME) (version …)`, with the status that ClickHouse gives the code. Never compressed. */
export function sendError(delivery: Pick<Delivery, 'response' | 'version'>, error: EngineError): void {
  const { response, version } = delivery
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  // A body that is still coming is not read to its end, so the connection cannot be used again.
  if (!response.req.complete) response.setHeader('Connection', 'close')
  response.statusCode = httpStatusOf(error.code)
  response.setHeader('Content-Type', 'text/plain; charset=UTF-8')
  response.setHeader('X-ClickHouse-Exception-Code', String(error.code))
  if (response.statusCode === 503) response.setHeader('Retry-After', '1')
  response.end(`${textOf(error, version)}\n`)
}

/** What ClickHouse puts into `X-ClickHouse-Summary`: numbers as strings; only those that the embedded engine knows. */
function summaryOf(answer: Answer): string {
  const elapsed = { elapsed_ns: String(Math.round(answer.elapsedSeconds * 1e9)) }
  if (answer.kind === 'insert') {
    return JSON.stringify({
      written_rows: String(answer.writtenRows),
      written_bytes: String(answer.writtenBytes),
      ...elapsed,
    })
  }
  return JSON.stringify({
    result_rows: String(answer.resultRows),
    result_bytes: String(answer.resultBytes),
    ...elapsed,
  })
}

function begin({ response, format, encoding }: Delivery, status: number): Writable {
  response.statusCode = status
  response.setHeader('Content-Type', contentTypeOf(format))
  response.setHeader('X-ClickHouse-Format', format)
  if (encoding === undefined) return response
  response.setHeader('Content-Encoding', encoding)
  const encoder = encoderOf(encoding)
  encoder.pipe(response)
  response.once('close', () => encoder.destroy())
  return encoder
}

async function write(body: Writable, chunk: Buffer): Promise<void> {
  if (body.destroyed) throw new Error('the client left')
  if (body.write(chunk)) return
  const drained = new AbortController()
  await Promise.race([
    once(body, 'drain', { signal: drained.signal }),
    once(body, 'close', { signal: drained.signal }),
  ]).finally(() => drained.abort())
}

/**
 * An exception after the first bytes, as ClickHouse writes it since 25.11: the message between marks with a tag that
 * the header told, and then the connection breaks, so that a client that does not look for it never takes the rest for
 * the whole.
 */
async function breakOff(delivery: Delivery, body: Writable, tag: string, error: EngineError): Promise<void> {
  const { response, version } = delivery
  const message = `${textOf(error, version)}\n`
  const block = `\r\n__exception__\r\n${tag}\r\n${message}${Buffer.byteLength(message)} ${tag}\r\n__exception__\r\n`
  await new Promise<void>((resolve) => body.write(block, () => resolve()))
  if (body !== response && 'flush' in body && typeof body.flush === 'function') {
    await new Promise<void>((resolve) =>
      (body.flush as (kind: number, done: () => void) => void)(constants.Z_SYNC_FLUSH, resolve),
    )
  }
  response.socket?.destroySoon()
}

function textOf(error: EngineError, version: string): string {
  return /\(version [^)]*\)\s*$/.test(error.message) ? error.message : `${error.message} (version ${version})`
}
