import type { BackWriter } from '../lib/back-writer.ts'
import { FLAG_OM_BIT, PHASES, POINTS, phasesInto } from '../model/phases.ts'
import type { NativeBlockColumns } from '../pipeline/segment-reader.ts'
import { attribute, EVENT_ATTRIBUTE, keyOf, NONE, SPAN_ATTRIBUTE, writeCount } from './attributes.ts'
import { createRowAttributes, type RowAttributes, readFacts, rpcMethod } from './row-attributes.ts'
import { RowIds, wordsOf } from './row-ids.ts'
import { GRPC_SERVER_ERRORS, grpcStatusName } from './semantic.ts'

/**
 * Spans (opentelemetry.proto.trace.v1) of the requests in one block.
 *
 *   caller's span (the headers') ◄── server span: all that the proxy had to do with the request, phases as events
 *                                       └◄── client span: from the first byte to the upstream to its last, all attempts
 *
 * A request that never got to an upstream has a server span alone.
 */
export interface SpanEncoder {
  /** Appends the `Span` fields of a row, in front of what is there. Returns how many. `state` is for `trace_state`. */
  write(writer: BackWriter, row: number, state: Uint8Array): number
}

/** Tag of `ScopeSpans.spans`. */
const SPAN = 0x12
const KIND_SERVER = 2
const KIND_CLIENT = 3
const STATUS_ERROR = 2
/** Span flags beside those of W3C: whether the parent is in another process is known, and it is. */
const HAS_REMOTE = 0x100
const REMOTE = 0x200
const SAMPLED = 1

const PHASE_NAMES: readonly Uint8Array[] = PHASES.map((phase) => {
  const bytes = Buffer.from(`phase.${phase}`)
  return Buffer.concat([Buffer.from([0x12, bytes.length]), bytes])
})
const PHASE_DURATION = keyOf('sidecast.phase.duration_ns')

export function createSpanEncoder(block: NativeBlockColumns): SpanEncoder {
  return new Encoder(block)
}

/** What a span is called and how it ended. */
interface Ending {
  /** `error.type` as a field; empty where it was none. */
  readonly errorType: Uint8Array
  readonly failed: boolean
}

class Encoder implements SpanEncoder {
  readonly #ids: RowIds
  readonly #attributes: RowAttributes
  readonly #end: Uint32Array
  readonly #duration: ArrayLike<number>
  readonly #flags: ArrayLike<number>
  readonly #traceFlags: ArrayLike<number>
  readonly #points: readonly { readonly values: ArrayLike<number>; readonly nulls: Uint8Array }[]
  readonly #phases = new Float64Array(7)
  readonly #at = new Float64Array(7)
  readonly #errorTypes = new Map<string, Uint8Array>()
  readonly #codes = new Map<number, Uint8Array>()
  #startLow = 0
  #startHigh = 0

  constructor(block: NativeBlockColumns) {
    this.#ids = new RowIds(block)
    this.#attributes = createRowAttributes({ block, facts: readFacts(block), tag: SPAN_ATTRIBUTE })
    this.#end = wordsOf(block, 'end_time')
    this.#duration = block.numbers('duration_ns')
    this.#flags = block.numbers('response_flags')
    this.#traceFlags = block.numbers('trace_flags')
    this.#points = POINTS.map((name) => ({ values: block.numbers(name), nulls: block.nulls(name)! }))
  }

  write(writer: BackWriter, row: number, state: Uint8Array): number {
    this.#ids.read(row)
    this.#setStart(row)
    const known = this.#setPhases(row)
    if (!this.#attributes.facts.upstream(row)) {
      this.#writeServer(writer, row, state, known)
      return 1
    }
    this.#writeClient(writer, row, state, known)
    this.#writeServer(writer, row, state, known)
    return 2
  }

  #writeServer(writer: BackWriter, row: number, state: Uint8Array, known: boolean): void {
    const ids = this.#ids
    const from = writer.length
    const parent = (ids.parentHigh | ids.parentLow) !== 0
    writer.fixed32(this.#traceFlags[row]! | SAMPLED | (parent ? HAS_REMOTE | REMOTE : HAS_REMOTE))
    flagsTag(writer)
    const ending = this.#serverEnding(row)
    this.#writeStatus(writer, ending, row)
    if (known) this.#writePhases(writer)
    this.#attributes.writeServer(writer, row)
    this.#writeCode(writer, row)
    writer.raw(ending.errorType)
    this.#writeTimes(writer, 0, this.#duration[row]!)
    this.#writeHead(writer, row, KIND_SERVER)
    if (parent) writeId(writer, PARENT_ID, ids.parentHigh, ids.parentLow)
    writer.raw(state)
    writeId(writer, SPAN_ID, ids.serverHigh, ids.serverLow)
    this.#writeTrace(writer)
    writer.end(SPAN, from)
  }

  #writeClient(writer: BackWriter, row: number, state: Uint8Array, known: boolean): void {
    const ids = this.#ids
    const from = writer.length
    writer.fixed32(this.#traceFlags[row]! | SAMPLED | HAS_REMOTE)
    flagsTag(writer)
    const ending = this.#clientEnding(row)
    this.#writeStatus(writer, ending, row)
    this.#attributes.writeClient(writer, row)
    if (this.#attributes.facts.outcome(row) === 'upstream') this.#writeCode(writer, row)
    writer.raw(ending.errorType)
    this.#writeClientTimes(writer, row, known)
    this.#writeHead(writer, row, KIND_CLIENT)
    writeId(writer, PARENT_ID, ids.serverHigh, ids.serverLow)
    writer.raw(state)
    writeId(writer, SPAN_ID, ids.clientHigh, ids.clientLow)
    this.#writeTrace(writer)
    writer.end(SPAN, from)
  }

  /** Name and kind. */
  #writeHead(writer: BackWriter, row: number, kind: number): void {
    writer.varint(kind)
    writer.byte(0x30)
    writer.text(0x2a, this.#name(row, kind))
  }

  /** Never the path: a name stands for a kind of request. */
  #name(row: number, kind: number): string {
    const { facts } = this.#attributes
    if (!facts.http(row)) return 'connection'
    if (facts.grpc(row) >= 0) return rpcMethod(facts.path(row)) || 'grpc'
    const method = facts.method(row)
    const name = method === '_OTHER' ? 'HTTP' : method
    const route = kind === KIND_SERVER ? facts.route(row) : ''
    return route === '' ? name : `${name} ${route}`
  }

  #writeStatus(writer: BackWriter, ending: Ending, row: number): void {
    if (!ending.failed) return
    const from = writer.length
    writer.varint(STATUS_ERROR)
    writer.byte(0x18)
    const details = this.#attributes.facts.details(row)
    if (details !== '' && details !== 'via_upstream') writer.text(0x12, details)
    writer.end(0x7a, from)
  }

  /** 5xx, and what failed without one. A client that left, and what the client did wrong, are no errors of the server. */
  #serverEnding(row: number): Ending {
    const { facts } = this.#attributes
    const grpc = facts.grpc(row)
    if (grpc >= 0 && GRPC_SERVER_ERRORS.has(grpc)) return this.#failed(row)
    return facts.class(row) === 'server_error' ? this.#failed(row) : FINE
  }

  /** From 400 on, any status of gRPC but OK, and whatever kept the answer from coming whole. */
  #clientEnding(row: number): Ending {
    const { facts } = this.#attributes
    const kind = facts.class(row)
    const failed = kind === 'server_error' || kind === 'client_error' || kind === 'aborted'
    // The code of an answer that the proxy made says nothing of the upstream; its flags do.
    return failed || facts.grpc(row) > 0 ? this.#failed(row, facts.outcome(row) !== 'upstream') : FINE
  }

  #failed(row: number, flagFirst = false): Ending {
    const { facts } = this.#attributes
    const grpc = facts.grpc(row)
    const code = facts.code(row) >= 400 ? String(facts.code(row)) : ''
    const answer = grpc > 0 ? grpcStatusName(grpc) : code
    const flag = facts.flags(row).split(',')[0]!
    const type = (flagFirst ? flag || answer : answer || flag) || facts.class(row)
    let bytes = this.#errorTypes.get(type)
    if (bytes === undefined) {
      bytes = attribute(SPAN_ATTRIBUTE, 'error.type', type)
      this.#errorTypes.set(type, bytes)
    }
    return { errorType: bytes, failed: true }
  }

  #writeCode(writer: BackWriter, row: number): void {
    const code = this.#attributes.facts.code(row)
    if (code < 0 || !this.#attributes.facts.http(row)) return
    let bytes = this.#codes.get(code)
    if (bytes === undefined) {
      bytes = attribute(SPAN_ATTRIBUTE, 'http.response.status_code', code)
      this.#codes.set(code, bytes)
    }
    writer.raw(bytes)
  }

  /** An event where each phase begins that took time. */
  #writePhases(writer: BackWriter): void {
    const phases = this.#phases
    for (let k = 6; k >= 0; k--) {
      if (phases[k] === 0) continue
      const from = writer.length
      writeCount(writer, EVENT_ATTRIBUTE, PHASE_DURATION, phases[k]!)
      writer.raw(PHASE_NAMES[k]!)
      writer.sum64(this.#startLow, this.#startHigh, this.#at[k]!)
      writer.byte(0x09)
      writer.end(0x5a, from)
    }
  }

  /** From where `upstream_send` begins to where `upstream_receive` ends; the whole request where no phase is known. */
  #writeClientTimes(writer: BackWriter, row: number, known: boolean): void {
    const at = this.#at
    if (known) this.#writeTimes(writer, at[2]!, at[6]!)
    else this.#writeTimes(writer, 0, this.#duration[row]!)
  }

  #writeTimes(writer: BackWriter, from: number, to: number): void {
    writer.sum64(this.#startLow, this.#startHigh, to)
    writer.byte(0x41)
    writer.sum64(this.#startLow, this.#startHigh, from)
    writer.byte(0x39)
  }

  #writeTrace(writer: BackWriter): void {
    const { trace } = this.#ids
    for (let k = 3; k >= 0; k--) writer.big32(trace[k]!)
    writer.byte(16)
    writer.byte(0x0a)
  }

  /** end − duration, in words. */
  #setStart(row: number): void {
    const duration = this.#duration[row]!
    const low = this.#end[2 * row]! - (duration % 2 ** 32)
    this.#startLow = low < 0 ? low + 2 ** 32 : low
    this.#startHigh = this.#end[2 * row + 1]! - Math.floor(duration / 2 ** 32) - (low < 0 ? 1 : 0)
  }

  #setPhases(row: number): boolean {
    const point = (k: number): number => (this.#points[k]!.nulls[row] === 1 ? -1 : this.#points[k]!.values[row]!)
    const buffered = Math.floor(this.#flags[row]! / 2 ** FLAG_OM_BIT) % 2 === 1
    const phases = this.#phases
    const known = phasesInto(
      phases,
      0,
      point(0),
      point(1),
      point(2),
      point(3),
      point(4),
      point(5),
      point(6),
      this.#duration[row]!,
      buffered,
    )
    for (let k = 0, at = 0; k < 7; k++) {
      this.#at[k] = at
      at += phases[k]!
    }
    return known
  }
}

const FINE: Ending = { errorType: NONE, failed: false }
const SPAN_ID = 0x12
const PARENT_ID = 0x22

function writeId(writer: BackWriter, tag: number, high: number, low: number): void {
  writer.big32(low)
  writer.big32(high)
  writer.byte(8)
  writer.byte(tag)
}

/** Field 16, fixed32: a tag of two bytes. */
function flagsTag(writer: BackWriter): void {
  writer.byte(0x01)
  writer.byte(0x85)
}
