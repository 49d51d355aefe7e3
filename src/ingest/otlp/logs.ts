import type { EntryWriter } from '../entry/entry.ts'
import { settle } from '../lines/format/filling.ts'
import type { LineParser } from '../lines/parser.ts'
import { type AttributeReader, createAttributeReader } from './attribute-reader.ts'
import { count, type Decoded } from './counters.ts'
import { FIXED64, Fields, LEN } from './fields.ts'
import type { Resource, ResourceReader, Sender } from './resource.ts'
import { hexText, lenientText } from './text.ts'

/**
 * Access log records of an `ExportLogsServiceRequest`, from wire bytes straight into the entries of an EntryWriter.
 *
 * A record is an access log entry when it says something that only those say (a response code, flags, a duration, an
 * access log type), in its attributes, in a body that is a map, or in a body that is a line one of the parsers knows.
 * Other log records are rejected (`not_access_log`).
 */
export interface LogsDecoder {
  /** Decodes one request. Never throws for bad input. Entries are added to the writer, not committed. */
  decode(bytes: Uint8Array, start: number, end: number, sender: Sender): Decoded
  readonly counters: Readonly<LogsCounters>
}

export interface LogsCounters {
  /** Records rejected, by reason. */
  readonly rejected: Map<string, number>
  /** Records read from their attributes, and from their body as a line. */
  attributes: number
  lines: number
  /** Values cut because of limits. */
  cut: number
}

export interface LogsDecoderOptions {
  readonly writer: EntryWriter
  readonly resources: ResourceReader
  /** Makes what reads bodies that are lines: one for each sender, since a sender writes one form. */
  readonly createParser: () => LineParser
  /** Attribute → name of a column, before the names known by themselves. */
  readonly attributes?: Readonly<Record<string, string>>
  readonly recordAttributesMax?: number
}

/** How a sender tells its entries. */
interface Habit {
  readonly parser: LineParser
  /** The last record without telling attributes was a line. */
  lines: boolean
}

/** Precision of what Envoy writes unless asked otherwise: whole milliseconds. */
const MS = 1e6
const BODY_BYTES_MAX = 65_536
const RESOURCE = 1
const SCOPE_LOGS = 2
const LOG_RECORDS = 2
const TIME = 1
const BODY = 5
const ATTRIBUTES = 6
const TRACE_ID = 9
const SPAN_ID = 10
const OBSERVED_TIME = 11

export function createLogsDecoder(options: LogsDecoderOptions): LogsDecoder {
  return new Decoder(options)
}

class Decoder implements LogsDecoder {
  readonly counters: LogsCounters = { rejected: new Map(), attributes: 0, lines: 0, cut: 0 }
  readonly #options: LogsDecoderOptions
  readonly #attributesMax: number
  readonly #attributes: AttributeReader
  readonly #request = new Fields()
  readonly #group = new Fields()
  readonly #scope = new Fields()
  readonly #record = new Fields()
  readonly #body = new Fields()
  readonly #habits = new WeakMap<Resource, Habit>()
  /** Upper half of the last time, with what it stands for. */
  #high = 0
  #highSeconds = 0
  #highNanos = 0
  #start = 0
  #items = 0
  #rejected = 0
  #reason = ''
  #offset = 0

  constructor(options: LogsDecoderOptions) {
    this.#options = options
    this.#attributesMax = options.recordAttributesMax ?? 256
    this.#attributes = createAttributeReader({ extra: options.attributes ?? {} })
  }

  decode(bytes: Uint8Array, start: number, end: number, sender: Sender): Decoded {
    this.#start = start
    this.#items = 0
    this.#rejected = 0
    this.#reason = ''
    this.#offset = 0
    const request = this.#request.enter(bytes, start, end)
    let malformed = false
    while (request.next()) {
      if (request.number !== 1 || request.wireType !== LEN) continue
      malformed = !this.#resourceLogs(sender) || malformed
    }
    if (request.broken) malformed = this.#refuse('malformed', request.at)
    this.counters.cut = this.#attributes.cut
    return {
      items: this.#items,
      rejected: this.#rejected,
      reason: this.#reason,
      offset: this.#offset,
      malformed,
    }
  }

  /** False: it cannot be read from some place on. */
  #resourceLogs(sender: Sender): boolean {
    const request = this.#request
    const group = this.#group.into(request)
    let from = request.from
    let to = request.from
    // The resource may come after what belongs to it.
    while (group.next()) {
      if (group.number !== RESOURCE || group.wireType !== LEN) continue
      from = group.from
      to = group.to
    }
    const resource = this.#options.resources.read(request.bytes, from, to, sender)
    group.into(request)
    while (group.next()) {
      if (group.number !== SCOPE_LOGS || group.wireType !== LEN) continue
      const scope = this.#scope.into(group)
      while (scope.next()) {
        if (scope.number === LOG_RECORDS && scope.wireType === LEN) this.#logRecord(resource)
      }
      if (scope.broken) return !this.#refuse('malformed', scope.at)
    }
    return group.broken ? !this.#refuse('malformed', group.at) : true
  }

  #logRecord(resource: Resource): void {
    this.#items++
    const { writer } = this.#options
    const { entry } = writer
    // A sender whose last record was told by its body is asked for the body first.
    const habit = this.#habits.get(resource)
    let precisionNs = habit?.lines === true ? this.#line(resource) : 0
    if (!this.#fields(precisionNs === 0)) {
      entry.reset()
      this.#refuse('malformed', this.#record.at)
      return
    }
    const attributes = this.#attributes
    const recognised = attributes.evidence > 0 || (resource.envoy && attributes.known > 0)
    if (precisionNs === 0 && !recognised) {
      entry.reset()
      precisionNs = habit?.lines === true ? 0 : this.#line(resource)
      if (precisionNs > 0 || habit?.lines === true) this.#fields(precisionNs === 0)
    }
    if (precisionNs > 0) this.counters.lines++
    else if (recognised) this.counters.attributes++
    else {
      entry.reset()
      this.#refuse('not_access_log', this.#scope.from)
      return
    }
    attributes.finish(entry)
    // What a line says is settled by its parser.
    if (precisionNs === 0) settle(entry, attributes.typeSaid)
    const coarsest = Math.max(precisionNs, attributes.precisionNs)
    if (!writer.add(resource.origin(coarsest > 0 ? coarsest : MS))) this.#refuse('no_room', this.#scope.from)
  }

  /** Everything of the record but a body that is a line. False: not protobuf. */
  #fields(bodyMap: boolean): boolean {
    const record = this.#record.into(this.#scope)
    const { entry } = this.#options.writer
    const attributes = this.#attributes
    attributes.begin()
    let place = 0
    while (record.next()) {
      const { number, wireType } = record
      if (number === ATTRIBUTES && wireType === LEN) {
        if (place >= this.#attributesMax) {
          this.counters.cut++
          continue
        }
        if (!attributes.read(record, place++, entry)) return false
      } else if (number === TIME && wireType === FIXED64) {
        this.#time(record, true)
      } else if (number === TRACE_ID && wireType === LEN) {
        if (record.value === 16) entry.traceId = hex(record)
      } else if (number === SPAN_ID && wireType === LEN) {
        if (record.value === 8) entry.spanId = hex(record)
      } else if (number === OBSERVED_TIME && wireType === FIXED64) {
        this.#time(record, false)
      } else if (number === BODY && wireType === LEN && bodyMap) {
        if (!this.#bodyMap()) return false
      }
    }
    return !record.broken
  }

  /** `time_unix_nano` is when the request began; where it is missing, `observed_time_unix_nano` is about its end. */
  #time(record: Fields, start: boolean): void {
    const { entry } = this.#options.writer
    const high = record.view.getUint32(record.from + 4, true)
    const low = record.view.getUint32(record.from, true)
    if (high === 0 && low === 0) return
    // The upper half changes every four seconds: what it stands for is worked out once for each value.
    if (high !== this.#high) {
      const base = BigInt(high) << 32n
      this.#high = high
      this.#highSeconds = Number(base / 1_000_000_000n)
      this.#highNanos = Number(base % 1_000_000_000n)
    }
    const nanos = this.#highNanos + low
    const seconds = this.#highSeconds + Math.floor(nanos / 1e9)
    const within = nanos % 1e9
    if (start) {
      entry.startSeconds = seconds
      entry.startNanos = within
    } else if (entry.endSeconds === 0) {
      entry.endSeconds = seconds
      entry.endNanos = within
    }
  }

  /** A body that is a map is attributes. */
  #bodyMap(): boolean {
    const { entry } = this.#options.writer
    const body = this.#body.into(this.#record)
    while (body.next()) {
      if (body.number !== 6 || body.wireType !== LEN) continue
      const members = new Fields().into(body)
      let place = 0
      while (members.next() && place < this.#attributesMax) {
        if (members.number !== 1 || members.wireType !== LEN) continue
        place++
        if (!this.#attributes.read(members, -1, entry)) return false
      }
      if (members.broken) return false
    }
    return !body.broken
  }

  /** Reads the body as a line into the entry, which is empty. 0: it is none, and the entry is empty; else its precision. */
  #line(resource: Resource): number {
    const text = this.#bodyText()
    if (text === null || text === '') return 0
    let habit = this.#habits.get(resource)
    if (habit === undefined) {
      habit = { parser: this.#options.createParser(), lines: false }
      this.#habits.set(resource, habit)
    }
    const { entry } = this.#options.writer
    habit.lines = habit.parser.parse(text, entry) === null
    if (habit.lines) return habit.parser.precisionNs
    entry.reset()
    return 0
  }

  /** The body of the record, when it is a text; null otherwise. */
  #bodyText(): string | null {
    const record = this.#record.into(this.#scope)
    let text: string | null = null
    while (record.next()) {
      if (record.number !== BODY || record.wireType !== LEN) continue
      const body = this.#body.into(record)
      while (body.next()) {
        if (body.number !== 1 || body.wireType !== LEN || body.to - body.from > BODY_BYTES_MAX) continue
        text = lenientText(body.bytes, body.from, body.to).replace(/[\r\n]+$/, '')
      }
    }
    return text
  }

  #refuse(reason: string, at: number): true {
    this.#rejected++
    count(this.counters.rejected, reason)
    if (this.#reason === '') {
      this.#reason = reason
      this.#offset = at - this.#start
    }
    return true
  }
}

/** '' for an id of zeros, which is none. */
function hex(fields: Fields): string {
  const { bytes, view, from, to } = fields
  let any = 0
  for (let p = from; p < to; p += 4) any |= view.getUint32(p)
  return any === 0 ? '' : hexText(bytes, from, to)
}
