import type { Span, SpanStore } from '../../pipeline/spans.ts'
import { createAnyValueReader } from './any-value.ts'
import { count, type Decoded } from './counters.ts'
import { FIXED64, Fields, LEN, VARINT } from './fields.ts'
import { type Resource, type ResourceReader, readPair, type Sender } from './resource.ts'
import type { AttributeRedaction } from './span-redaction.ts'
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
  readonly store: SpanStore
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

const KINDS: readonly Span['kind'][] = ['', 'internal', 'server', 'client', 'producer', 'consumer']
const STATUSES: readonly Span['status'][] = ['', 'ok', 'error']
const NAME_BYTES_MAX = 1024
/** A span that ends later than this after it arrived has a clock that is wrong; so has one of before 2000. */
const FUTURE_NS = 86_400_000_000_000n
const OLDEST_NS = 946_684_800_000_000_000n

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
    const row: Mutable<Span> = {
      traceId: NO_ID,
      spanId: NO_ID,
      parentSpanId: NO_ID,
      name: '',
      kind: '',
      service: resource.attributes.get('service.name') ?? '',
      nodeId: resource.instance,
      scope,
      startNs: 0n,
      endNs: 0n,
      status: '',
      statusMessage: '',
      attributes,
      resource: resource.attributes,
      events: '',
    }
    const events: string[] = []
    while (span.next()) {
      const { number, wireType } = span
      if (wireType === LEN) {
        if (number === 1 && span.value === 16) row.traceId = bytes.subarray(span.from, span.to)
        else if (number === 2 && span.value === 8) row.spanId = bytes.subarray(span.from, span.to)
        else if (number === 4 && span.value === 8) row.parentSpanId = bytes.subarray(span.from, span.to)
        else if (number === 5) row.name = this.#options.redact('name', this.#name(span))
        else if (number === 9) this.#attribute(attributes)
        else if (number === 11 || number === 13) this.#event(events, number === 13)
        else if (number === 15) this.#status(row)
      } else if (wireType === FIXED64 && number === 7) row.startNs = span.view.getBigUint64(span.from, true)
      else if (wireType === FIXED64 && number === 8) row.endNs = span.view.getBigUint64(span.from, true)
      else if (wireType === VARINT && number === 6) row.kind = KINDS[span.value] ?? ''
    }
    if (span.broken) {
      this.#refuse('malformed', span.at)
      return
    }
    if (isZero(row.traceId) || isZero(row.spanId)) {
      this.#refuse('no_ids', this.#scoped.from)
      return
    }
    this.#correctTime(row, receivedMs)
    // Envoy's server spans say which node, its resource does not.
    row.nodeId = attributes.get('node_id') || row.nodeId
    if (events.length > 0) row.events = `[${events.join(',')}]`
    if (!this.#options.store.add(row)) this.#refuse('no_room', this.#scoped.from)
  }

  /** Rows lie in partitions by their end, so a span whose end is far away from now ends when it arrived. */
  #correctTime(row: Mutable<Span>, receivedMs: number): void {
    const receivedNs = BigInt(Math.trunc(receivedMs)) * 1_000_000n
    const tookNs = row.endNs > row.startNs && row.startNs > 0n ? row.endNs - row.startNs : 0n
    if (row.endNs < OLDEST_NS || row.endNs > receivedNs + FUTURE_NS) {
      this.counters.untimed++
      row.endNs = receivedNs
    }
    // A start that is missing, or far away: the difference would say nothing.
    row.startNs = row.endNs - (tookNs > MOST_NS ? 0n : tookNs)
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
  #status(row: Mutable<Span>): void {
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

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

const NO_ID = new Uint8Array(0)
/** A year. */
const MOST_NS = 366n * 86_400_000_000_000n

function isZero(id: Uint8Array): boolean {
  for (const byte of id) if (byte !== 0) return false
  return true
}
