import type { BackWriter } from '../lib/back-writer.ts'
import type { NativeBlockColumns } from '../pipeline/segment-reader.ts'
import { attribute, keyOf, LOG_ATTRIBUTE, writeCount } from './attributes.ts'
import { createRowAttributes, type RowAttributes, readFacts } from './row-attributes.ts'
import { RowIds, wordsOf } from './row-ids.ts'

/**
 * Log records (opentelemetry.proto.logs.v1) of the requests in one block: the access log, with the attributes of the
 * server span and its ids, so that a backend shows the two together.
 */
export interface LogEncoder {
  /** Appends the `LogRecord` field of a row, in front of what is there. */
  write(writer: BackWriter, row: number): void
}

/** Tag of `ScopeLogs.log_records`. */
const LOG_RECORD = 0x12
const EVENT_NAME = 'sidecast.request'

/** Severity by class: 9 INFO, 13 WARN, 17 ERROR. */
const SEVERITIES: Readonly<Record<string, readonly [number, string]>> = {
  server_error: [17, 'ERROR'],
  client_error: [13, 'WARN'],
  aborted: [13, 'WARN'],
}
const INFO: readonly [number, string] = [9, 'INFO']

export function createLogEncoder(block: NativeBlockColumns): LogEncoder {
  return new Encoder(block)
}

class Encoder implements LogEncoder {
  readonly #ids: RowIds
  readonly #attributes: RowAttributes
  readonly #end: Uint32Array
  readonly #received: ArrayLike<number>
  readonly #duration: ArrayLike<number>
  readonly #traceFlags: ArrayLike<number>
  readonly #codes = new Map<number, Uint8Array>()
  readonly #durationKey = keyOf('sidecast.duration_ns')

  constructor(block: NativeBlockColumns) {
    this.#ids = new RowIds(block)
    this.#attributes = createRowAttributes({ block, facts: readFacts(block), tag: LOG_ATTRIBUTE })
    this.#end = wordsOf(block, 'end_time')
    this.#received = block.numbers('received')
    this.#duration = block.numbers('duration_ns')
    this.#traceFlags = block.numbers('trace_flags')
  }

  write(writer: BackWriter, row: number): void {
    const ids = this.#ids
    const { facts } = this.#attributes
    ids.read(row)
    const from = writer.length
    writer.text(0x62, EVENT_NAME)
    // Milliseconds as nanoseconds go beyond 2^53: in two steps.
    this.#writeMs(writer, this.#received[row]!)
    writer.byte(0x59)
    writer.big32(ids.serverLow)
    writer.big32(ids.serverHigh)
    writer.byte(8)
    writer.byte(0x52)
    for (let k = 3; k >= 0; k--) writer.big32(ids.trace[k]!)
    writer.byte(16)
    writer.byte(0x4a)
    if (this.#traceFlags[row]! !== 0) {
      writer.fixed32(this.#traceFlags[row]!)
      writer.byte(0x45)
    }
    writeCount(writer, LOG_ATTRIBUTE, this.#durationKey, this.#duration[row]!)
    this.#attributes.writeServer(writer, row)
    this.#writeCode(writer, row)
    this.#writeBody(writer, row)
    const [number, text] = SEVERITIES[facts.class(row)] ?? INFO
    writer.text(0x1a, text)
    writer.varint(number)
    writer.byte(0x10)
    writer.fixed64(this.#end[2 * row]!, this.#end[2 * row + 1]!)
    writer.byte(0x09)
    writer.end(LOG_RECORD, from)
  }

  /** `GET /cart 503 UF`: method, path, code or gRPC status, flags. */
  #writeBody(writer: BackWriter, row: number): void {
    const { facts } = this.#attributes
    const code = facts.code(row)
    const parts = facts.http(row)
      ? [facts.method(row), facts.path(row), code < 0 ? '-' : String(code), facts.flags(row)]
      : ['connection', facts.flags(row)]
    const from = writer.length
    writer.text(0x0a, parts.filter((part) => part !== '').join(' '))
    writer.end(0x2a, from)
  }

  #writeCode(writer: BackWriter, row: number): void {
    const code = this.#attributes.facts.code(row)
    if (code < 0 || !this.#attributes.facts.http(row)) return
    let bytes = this.#codes.get(code)
    if (bytes === undefined) {
      bytes = attribute(LOG_ATTRIBUTE, 'http.response.status_code', code)
      this.#codes.set(code, bytes)
    }
    writer.raw(bytes)
  }

  #writeMs(writer: BackWriter, ms: number): void {
    const high = Math.floor(ms / 2 ** 16)
    const low = ms - high * 2 ** 16
    // (high · 2^16 + low) · 10^6; both products are exact.
    const top = high * 1e6
    const carried = (top % 2 ** 16) * 2 ** 16 + low * 1e6
    writer.fixed64(carried % 2 ** 32, Math.floor(top / 2 ** 16) + Math.floor(carried / 2 ** 32))
  }
}
