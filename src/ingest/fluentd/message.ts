import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { decode, ExtensionCodec } from '@msgpack/msgpack'
import { type ScanFault, type ScanLimits, ValueScanner } from './scan.ts'

/**
 * One message of the Fluentd forward protocol, version 1
 * (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1), in any of its modes:
 *
 *   Message         [tag, time, record, option?]
 *   Forward         [tag, [[time, record], …], option?]
 *   PackedForward   [tag, bytes of [time, record] one after the other, option?], gzipped when the option says so
 */
export interface ForwardMessage {
  readonly tag: string
  readonly events: readonly ForwardEvent[]
  /** Asked to be acknowledged by; '' when not. */
  readonly chunk: string
  /** Events that could not be read, by reason. */
  readonly rejected: readonly MessageFault[]
}

export interface ForwardEvent {
  /** Unix seconds and the nanoseconds within. */
  readonly seconds: number
  readonly nanos: number
  readonly record: Readonly<Record<string, unknown>>
}

export type MessageFault = ScanFault | 'bad_event' | 'bad_encoding'

const unzip = promisify(gunzip)
/** What an EventTime is decoded to. */
class EventTime {
  readonly seconds: number
  readonly nanos: number

  constructor(seconds: number, nanos: number) {
    this.seconds = seconds
    this.nanos = nanos
  }
}

const extensions = new ExtensionCodec()
extensions.register({
  type: 0,
  encode: () => null,
  decode: (data) => {
    if (data.length !== 8) return null
    const view = new DataView(data.buffer, data.byteOffset, 8)
    return new EventTime(view.getUint32(0), view.getUint32(4))
  },
})
const OPTIONS = { extensionCodec: extensions }

/**
 * Reads a whole value, whose shape has been checked by a `ValueScanner`. Null: nil, as some senders' heartbeat. A fault: none of
 * its events can be told.
 */
export async function readMessage(
  bytes: Uint8Array,
  limits: ScanLimits,
): Promise<ForwardMessage | MessageFault | null> {
  const value = decoded(bytes)
  if (value === null) return null
  if (!Array.isArray(value) || value.length < 2) return 'malformed'
  const [first, second] = value as unknown[]
  const tag = textOf(first)
  if (tag === null) return 'malformed'
  if (Array.isArray(second)) return withEvents(tag, second, value[2])
  const packed =
    second instanceof Uint8Array ? second : typeof second === 'string' ? Buffer.from(second, 'latin1') : null
  if (packed !== null) return readPacked(tag, packed, value[2], limits)
  return withEvents(tag, [[second, value[2]]], value[3])
}

async function readPacked(
  tag: string,
  packed: Uint8Array,
  option: unknown,
  limits: ScanLimits,
): Promise<ForwardMessage | MessageFault> {
  let bytes = packed
  if (optionOf(option, 'compressed') === 'gzip') {
    try {
      bytes = await unzip(packed, { maxOutputLength: limits.bytesMax })
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? 'too_large' : 'bad_encoding'
    }
  }
  const scanner = new ValueScanner(limits)
  const pairs: unknown[] = []
  const faults: MessageFault[] = []
  let values = 0
  for (let at = 0; at < bytes.length; ) {
    const rest = bytes.subarray(at)
    const length = scanner.scan(rest)
    if (typeof length === 'string' || length === 0) {
      // What follows cannot be told apart.
      faults.push(length === 0 ? 'malformed' : length)
      break
    }
    values += scanner.lastValues
    if (values > limits.valuesMax) {
      faults.push('too_many_values')
      break
    }
    pairs.push(decoded(rest.subarray(0, length)))
    at += length
  }
  return withEvents(tag, pairs, option, faults)
}

function withEvents(
  tag: string,
  pairs: readonly unknown[],
  option: unknown,
  faults: readonly MessageFault[] = [],
): ForwardMessage {
  const events: ForwardEvent[] = []
  const rejected = [...faults]
  for (const pair of pairs) {
    const event = eventOf(pair)
    if (event === null) rejected.push('bad_event')
    else events.push(event)
  }
  return { tag, events, chunk: optionOf(option, 'chunk'), rejected }
}

function eventOf(pair: unknown): ForwardEvent | null {
  if (!Array.isArray(pair) || pair.length < 2) return null
  // Fluent Bit 2 sends [[time, metadata], record].
  const [first, record] = pair as unknown[]
  const time = Array.isArray(first) ? first[0] : first
  if (typeof record !== 'object' || record === null || Array.isArray(record) || record instanceof Uint8Array)
    return null
  if (time instanceof EventTime) {
    if (time.nanos > 999_999_999) return null
    return { seconds: time.seconds, nanos: time.nanos, record: record as ForwardEvent['record'] }
  }
  if (typeof time !== 'number' || !(time >= 0 && time < 2 ** 33)) return null
  const seconds = Math.floor(time)
  return { seconds, nanos: Math.round((time - seconds) * 1e9) % 1e9, record: record as ForwardEvent['record'] }
}

function optionOf(option: unknown, key: string): string {
  if (typeof option !== 'object' || option === null) return ''
  return textOf((option as Record<string, unknown>)[key]) ?? ''
}

function textOf(value: unknown): string | null {
  if (typeof value === 'string') return value
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.length).toString() : null
}

/** A value, or undefined for one that the decoder does not take: a map whose keys are no texts. */
function decoded(bytes: Uint8Array): unknown {
  try {
    // Not as a Buffer: its parts would be Buffers, which JSON has a form of its own for.
    return decode(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length), OPTIONS)
  } catch {
    return undefined
  }
}

/** The record as a line of JSON. Bytes become texts: older senders have no other form for them. */
export function jsonOf(record: ForwardEvent['record']): string {
  return JSON.stringify(record, (_, value: unknown) => {
    if (value instanceof Uint8Array) return textOf(value)
    if (value instanceof EventTime) return value.seconds + value.nanos / 1e9
    return typeof value === 'bigint' ? String(value) : value
  })
}
