import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { encodeMessage, type Identifier, type LogEntry } from './als-encode.ts'

const METHOD = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'
const RECONNECT_MS = 1_000
/** Entries kept while there is no stream, or the receiver does not read. Beyond it they are dropped and counted. */
const QUEUE_MAX = 10_000

export interface AlsClient {
  readonly counts: { readonly sent: number; readonly dropped: number }
  /** Queues an entry for the next flush. */
  log(entry: LogEntry): void
  /** Sends what is queued as one message, if there is a stream that takes it. */
  flush(): void
  /** Flushes and ends the stream and the connection. */
  stop(): Promise<void>
}

/** One stream of Envoy's access log service, over real gRPC; opened again when the receiver ends it. */
export function createAlsClient({ address, identifier }: { address: string; identifier: Identifier }): AlsClient {
  const counts = { sent: 0, dropped: 0 }
  let queue: LogEntry[] = []
  let session: ClientHttp2Session | undefined
  let stream: ClientHttp2Stream | undefined
  let first = true
  let blocked = false
  let stopped = false
  let reconnect: NodeJS.Timeout | undefined

  const lost = (): void => {
    stream = undefined
    session?.destroy()
    session = undefined
    if (!stopped && reconnect === undefined) {
      reconnect = setTimeout(() => {
        reconnect = undefined
        open()
      }, RECONNECT_MS)
    }
  }
  const open = (): void => {
    session = connect(`http://${address}`)
    session.on('error', () => {})
    session.on('close', lost)
    const opened = session.request({
      ':method': 'POST',
      ':path': METHOD,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    opened.on('error', () => {})
    opened.on('close', lost)
    opened.on('drain', () => {
      blocked = false
    })
    opened.resume()
    stream = opened
    first = true
    blocked = false
  }
  const flush = (): void => {
    if (stream === undefined || stream.closed || stream.destroyed || blocked || queue.length === 0) return
    const body = encodeMessage(queue, first ? identifier : undefined)
    const frame = Buffer.alloc(5 + body.length)
    frame.writeUInt32BE(body.length, 1)
    body.copy(frame, 5)
    blocked = !stream.write(frame)
    counts.sent += queue.length
    queue = []
    first = false
  }
  open()
  return {
    counts,
    log(entry) {
      if (queue.length >= QUEUE_MAX) counts.dropped++
      else queue.push(entry)
    },
    flush,
    async stop() {
      if (stopped) return
      flush()
      stopped = true
      clearTimeout(reconnect)
      const open = stream
      if (open !== undefined && !open.closed) {
        await new Promise<void>((resolve) => {
          open.once('close', () => resolve())
          open.end()
          setTimeout(() => open.destroy(), 1_000)
        })
      }
      session?.destroy()
    },
  }
}
