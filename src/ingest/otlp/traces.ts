import { createAnyValueReader } from './any-value.ts'
import { count, type Decoded } from './counters.ts'
import { FIXED64, Fields, LEN, VARINT } from './fields.ts'
import { type Resource, type ResourceReader, readPair, type Sender } from './resource.ts'
import type { AttributeRedaction } from './span-redaction.ts'
import type { SpanRow, SpanRows } from './span-rows.ts'
import { lenientText } from './text.ts'

/** Spans of an `ExportTraceServiceRequest`, into rows. */
export interface TracesDecoder {
  /** Decodes one request. Never throws for bad input. */
  decode(bytes: Uint8Array, start: number, end: number, sender: Sender, receivedMs: number): Decoded
  readonly counters: Readonly<TracesCounters>
}

export interface TracesCounters {
  /** Spans rejected, by reason. */
  readonly rejected: Map<string, number>
  /** Spans without a usable end: they end when they arrived. */
  untimed: number
  /** Values cut, attributes and events left out because of limits. */
  cut: number
}

export interface TracesDecoderOptions {
  readonly rows: SpanRows
  readonly resources: ResourceReader
  readonly redact: AttributeRedaction
  readonly limits?: Partial<SpanLimits>
}

export interface SpanLimits {
  readonly attributesMax: number
  readonly valueBytesMax: number
  /** Events and links of one span. */
  readonly eventsMax: number
}

/** 128 attributes, 128 events and 128 links are the defaults of the SDKs. */
export const SPAN_LIMITS: SpanLimits = { attributesMax: 128, valueBytesMax: 8192, eventsMax: 256 }

const KINDS = ['', 'internal', 'server', 'client', 'producer', 'consumer']
const STATUSES = ['', 'ok', 'error']
const NAME_BYTES_MAX = 1024
/** A span that ends later than this after it arrived has a clock that is wrong; so has one of before 2000. */
const FUTURE_MS = 86_400_000
const OLDEST_MS = 946_684_800_000
const TWO_32 = 2 ** 32

export function createTracesDecoder(options: TracesDecoderOptions): TracesDecoder {
  return new Decoder(options)
}

class Decoder implements TracesDecoder {
  readonly counters: TracesCounters = { rejected: new Map(), untimed: 0, cut: 0 }
  readonly #options: TracesDecoderOptions
  readonly #limits: SpanLimits
  readonly #any
  readonly #request = new Fields()
  readonly #group = new Fields()
  readonly #scoped = new Fields()
  readonly #span = new Fields()
  readonly #inner = new Fields()
  readonly #pair = new Fields()
  #start = 0
  #items = 0
  #rejected = 0
  #reason = ''
  #offset = 0
  #malformed = false

  constructor(options: TracesDecoderOptions) {
    this.#options = options
    this.#limits = { ...SPAN_LIMITS, ...options.limits }
    this.#any = createAnyValueReader({ depthMax: 32, bytesMax: this.#limits.valueBytesMax })
  }

  decode(bytes: Uint8Array, start: number, end: number, sender: Sender, receivedMs: number): Decoded {
    this.#start = start
    this.#items = 0
    this.#rejected = 0
    this.#reason = ''
    this.#offset = 0
    this.#malformed = false
    const cutBefore = this.#any.cut
    const request = this.#request.enter(bytes, start, end)
    while (request.next()) {
      if (request.number === 1 && request.wireType === LEN) this.#resourceSpans(sender, receivedMs)
    }
    this.#check(request)
    this.counters.cut += this.#any.cut - cutBefore
    return {
      items: this.#items,
      rejected: this.#rejected,
      reason: this.#reason,
      offset: this.#offset,
      malformed: this.#malformed,
    }
  }

  #resourceSpans(sender: Sender, receivedMs: number): void {
    const request = this.#request
    const group = this.#group.into(request)
    let from = request.from
    let to = request.from
    while (group.next()) {
      if (group.number !== 1 || group.wireType !== LEN) continue
      from = group.from
      to = group.to
    }
    const resource = this.#options.resources.read(request.bytes, from, to, sender)
    group.into(request)
    while (group.next()) {
      if (group.number !== 2 || group.wireType !== LEN) continue
      const scope = this.#scopeName()
      const scoped = this.#scoped.into(group)
      while (scoped.next()) {
        if (scoped.number === 2 && scoped.wireType === LEN) this.#readSpan(resource, scope, receivedMs)
      }
      this.#check(scoped)
    }
    this.#check(group)
  }

  /** `name` #1 of `scope` #1. */
  #scopeName(): string {
    const scoped = this.#scoped.into(this.#group)
    let name = ''
    while (scoped.next()) {
      if (scoped.number !== 1 || scoped.wireType !== LEN) continue
      const scope = this.#inner.into(scoped)
      while (scope.next()) if (scope.number === 1 && scope.wireType === LEN) name = this.#name(scope)
    }
    return name
  }

  #readSpan(resource: Resource, scope: string, receivedMs: number): void {
    this.#items++
    const span = this.#span.into(this.#scoped)
    const { bytes } = span
    const attributes = new Map<string, string>()
    const row: SpanRow = {
      endLow: 0,
      endHigh: 0,
      durationNs: 0,
      receivedMs,
      view: span.view,
      traceAt: -1,
      spanAt: -1,
      parentAt: -1,
      name: '',
      kind: '',
      service: resource.attributes.get('service.name') ?? '',
      nodeId: resource.instance,
      scope,
      status: '',
      statusMessage: '',
      attributes,
      resource: resource.attributes,
      events: '',
    }
    const events: string[] = []
    let startLow = 0
    let startHigh = 0
    while (span.next()) {
      const { number, wireType } = span
      if (wireType === LEN) {
        if (number === 1 && span.value === 16) row.traceAt = span.from
        else if (number === 2 && span.value === 8) row.spanAt = span.from
        else if (number === 4 && span.value === 8) row.parentAt = span.from
        else if (number === 5) row.name = this.#options.redact('name', this.#name(span))
        else if (number === 9) this.#attribute(attributes)
        else if (number === 11 || number === 13) this.#event(events, number === 13)
        else if (number === 15) this.#status(row)
      } else if (wireType === FIXED64 && (number === 7 || number === 8)) {
        const low = span.view.getUint32(span.from, true)
        const high = span.view.getUint32(span.from + 4, true)
        if (number === 7) {
          startLow = low
          startHigh = high
        } else {
          row.endLow = low
          row.endHigh = high
        }
      } else if (wireType === VARINT && number === 6) row.kind = KINDS[span.value] ?? ''
    }
    if (span.broken) {
      this.#refuse('malformed', span.at)
      return
    }
    if (row.traceAt < 0 || row.spanAt < 0 || allZero(bytes, row.traceAt, 16) || allZero(bytes, row.spanAt, 8)) {
      this.#refuse('no_ids', this.#scoped.from)
      return
    }
    row.durationNs = Math.max(0, (row.endHigh - startHigh) * TWO_32 + (row.endLow - startLow))
    if (startHigh === 0 && startLow === 0) row.durationNs = 0
    this.#correctTime(row)
    if (events.length > 0) row.events = `[${events.join(',')}]`
    this.#options.rows.add(row)
  }

  /** Rows lie in partitions by their end, so one far away from now ends when it arrived. */
  #correctTime(row: SpanRow): void {
    const endMs = (row.endHigh * TWO_32 + row.endLow) / 1e6
    if (endMs >= OLDEST_MS && endMs <= row.receivedMs + FUTURE_MS) return
    this.counters.untimed++
    const nanos = BigInt(Math.trunc(row.receivedMs)) * 1_000_000n
    row.endLow = Number(nanos & 0xffff_ffffn)
    row.endHigh = Number(nanos >> 32n)
    // A start at the epoch, or an end before the start: the difference says nothing.
    if (row.durationNs > MOST_NS) row.durationNs = 0
  }

  #attribute(attributes: Map<string, string>): void {
    if (attributes.size >= this.#limits.attributesMax) {
      this.counters.cut++
      return
    }
    const [key, from, to] = readPair(this.#pair.into(this.#span))
    attributes.set(key, this.#options.redact(key, this.#any.text(this.#span.bytes, from, to)))
  }

  /** Status: `message` #2, `code` #3. */
  #status(row: SpanRow): void {
    const status = this.#inner.into(this.#span)
    while (status.next()) {
      if (status.number === 2 && status.wireType === LEN) {
        row.statusMessage = this.#options.redact('status', this.#name(status))
      } else if (status.number === 3 && status.wireType === VARINT) row.status = STATUSES[status.value] ?? ''
    }
  }

  /**
   * Event: `time_unix_nano` #1, `name` #2, `attributes` #3. Link: `trace_id` #1, `span_id` #2, `attributes` #4. Times are
   * texts of ns since the epoch, since JSON's numbers are not that exact.
   */
  #event(events: string[], link: boolean): void {
    if (events.length >= this.#limits.eventsMax) {
      this.counters.cut++
      return
    }
    const fields = this.#inner.into(this.#span)
    const { bytes, view } = fields
    const event: Record<string, unknown> = {}
    const attributes: Record<string, string> = Object.create(null) as Record<string, string>
    let any = false
    while (fields.next()) {
      const { number, wireType, from, to } = fields
      if (link && wireType === LEN && number === 1)
        event.trace_id = Buffer.from(bytes.subarray(from, to)).toString('hex')
      else if (link && wireType === LEN && number === 2)
        event.span_id = Buffer.from(bytes.subarray(from, to)).toString('hex')
      else if (!link && wireType === FIXED64 && number === 1) event.time_ns = String(view.getBigUint64(from, true))
      else if (!link && wireType === LEN && number === 2) event.name = this.#name(fields)
      else if (wireType === LEN && number === (link ? 4 : 3)) {
        const [key, valueFrom, valueTo] = readPair(this.#pair.into(fields))
        attributes[key] = this.#options.redact(key, this.#any.text(bytes, valueFrom, valueTo))
        any = true
      }
    }
    if (any) event.attributes = attributes
    events.push(JSON.stringify(event))
  }

  #name(fields: Fields): string {
    return lenientText(fields.bytes, fields.from, Math.min(fields.to, fields.from + NAME_BYTES_MAX))
  }

  #check(fields: Fields): void {
    if (!fields.broken) return
    this.#malformed = true
    this.#refuse('malformed', fields.at)
  }

  #refuse(reason: string, at: number): void {
    this.#rejected++
    count(this.counters.rejected, reason)
    if (this.#reason === '') {
      this.#reason = reason
      this.#offset = at - this.#start
    }
  }
}

/** A year. */
const MOST_NS = 366 * 86_400e9

function allZero(bytes: Uint8Array, from: number, length: number): boolean {
  for (let k = 0; k < length; k++) if (bytes[from + k] !== 0) return false
  return true
}
