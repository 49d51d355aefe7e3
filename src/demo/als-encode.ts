/**
 * Encodes `StreamAccessLogsMessage` of Envoy's access log service, as far as the demo's built-in client needs it.
 * Field numbers are those of envoy/service/accesslog/v3/als.proto and envoy/data/accesslog/v3/accesslog.proto.
 */
export interface LogEntry {
  /** Unix time in ms, with fractions. */
  readonly startMs: number
  /** Time points and the whole, in ms after the start; null when the thing never happened. */
  readonly rxEnd: number | null
  readonly upTxBegin: number | null
  readonly upTxEnd: number | null
  readonly upRxBegin: number | null
  readonly upRxEnd: number | null
  readonly downTxBegin: number | null
  readonly downTxEnd: number | null
  readonly duration: number
  /** Empty where no host was chosen. */
  readonly cluster: string
  readonly upstreamPort: number | null
  readonly route: string
  readonly method: 'GET' | 'POST'
  readonly authority: string
  readonly path: string
  readonly requestId: string
  readonly requestBytes: number
  readonly responseBytes: number
  /** Null when nothing was sent to the client. */
  readonly code: number | null
  readonly details: string
  readonly flag: keyof typeof FLAG_FIELDS | null
  readonly attempts: number
}

/** Fields of `ResponseFlags`. */
const FLAG_FIELDS = { UH: 2, UT: 3, UC: 7, DC: 15, URX: 16 } as const
const METHODS = { GET: 1, POST: 3 } as const
const HTTP11 = 2
const DOWNSTREAM_END = 6

/** What a proxy says of itself, once per stream. */
export interface Identifier {
  readonly logName: string
  readonly node: {
    readonly id: string
    readonly cluster: string
    readonly metadata: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  }
}

/** One message. `identifier` goes into the first one of a stream. */
export function encodeMessage(entries: readonly LogEntry[], identifier?: Identifier): Buffer {
  const logs = Buffer.concat(entries.map((entry) => message(1, encodeEntry(entry))))
  if (identifier === undefined) return message(2, logs)
  const node = Buffer.concat([
    text(1, identifier.node.id),
    text(2, identifier.node.cluster),
    message(3, struct(identifier.node.metadata)),
    text(6, 'envoy'),
  ])
  return Buffer.concat([message(1, Buffer.concat([message(1, node), text(2, identifier.logName)])), message(2, logs)])
}

function encodeEntry(entry: LogEntry): Buffer {
  const common = Buffer.concat([
    message(2, address(50_000)),
    message(3, address(8_000)),
    message(5, timestamp(entry.startMs)),
    point(6, entry.rxEnd),
    point(7, entry.upTxBegin),
    point(8, entry.upTxEnd),
    point(9, entry.upRxBegin),
    point(10, entry.upRxEnd),
    point(11, entry.downTxBegin),
    point(12, entry.downTxEnd),
    entry.upstreamPort === null ? NOTHING : message(13, address(entry.upstreamPort)),
    text(15, entry.cluster),
    entry.flag === null ? NOTHING : message(16, number(FLAG_FIELDS[entry.flag], 1)),
    text(19, entry.route),
    message(20, address(50_000)),
    point(23, entry.duration),
    number(24, entry.attempts),
    text(26, entry.requestId),
    number(29, entry.responseBytes + 150),
    number(30, entry.requestBytes + 200),
    number(33, DOWNSTREAM_END),
  ])
  const request = Buffer.concat([
    number(1, METHODS[entry.method]),
    text(2, 'http'),
    text(3, entry.authority),
    text(5, entry.path),
    text(6, 'sidecast-demo'),
    text(9, entry.requestId),
    number(11, 200),
    number(12, entry.requestBytes),
  ])
  const response = Buffer.concat([
    entry.code === null ? NOTHING : message(1, number(1, entry.code)),
    number(2, 150),
    number(3, entry.responseBytes),
    text(6, entry.details),
  ])
  return Buffer.concat([message(1, common), number(2, HTTP11), message(3, request), message(4, response)])
}

const NOTHING = Buffer.alloc(0)
const VARINT = 0
const LENGTH_DELIMITED = 2

/** Zero and empty values are left out, as proto3 does. */
function number(field: number, value: number): Buffer {
  return value === 0 ? NOTHING : Buffer.concat([varint(field * 8 + VARINT), varint(value)])
}

function text(field: number, value: string): Buffer {
  return value === '' ? NOTHING : message(field, Buffer.from(value))
}

function message(field: number, body: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + LENGTH_DELIMITED), varint(body.length), body])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128)
  bytes.push(rest)
  return Buffer.from(bytes)
}

function timestamp(ms: number): Buffer {
  const seconds = Math.floor(ms / 1000)
  return Buffer.concat([number(1, seconds), number(2, Math.round((ms - seconds * 1000) * 1e6))])
}

function point(field: number, ms: number | null): Buffer {
  return ms === null ? NOTHING : message(field, timestamp(ms))
}

/** `Address` with a `SocketAddress` on loopback. */
function address(port: number): Buffer {
  return message(1, Buffer.concat([text(2, '127.0.0.1'), number(3, port)]))
}

/** `google.protobuf.Struct` of strings and of one more level of the same. */
function struct(fields: Readonly<Record<string, string | Readonly<Record<string, string>>>>): Buffer {
  return Buffer.concat(
    Object.entries(fields).map(([key, value]) => {
      const encoded = typeof value === 'string' ? text(3, value) : message(5, struct(value))
      return message(1, Buffer.concat([text(1, key), message(2, encoded)]))
    }),
  )
}
