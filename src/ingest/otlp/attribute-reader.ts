import { createGenerations } from '../../lib/generations.ts'
import type { AccessEntry } from '../entry/entry.ts'
import { type AnyValueReader, createAnyValueReader } from './any-value.ts'
import { type AttributeTarget, EntryParts, finishParts, resolveAttribute } from './attribute-names.ts'
import { Fields, LEN } from './fields.ts'
import { lenientText } from './text.ts'

/**
 * Reads attributes of log records into an access log entry. A sender writes the same attributes in the same order for
 * every record, so the key at a place is first compared with the one that stood there last, and values that come again
 * are not decoded again: for most attributes a record costs two comparisons of bytes.
 */
export interface AttributeReader {
  /** A new record: forgets what the last one gave. */
  begin(): void
  /** One KeyValue, `bytes[start … end)`, the `place`-th of its record. False: it is not protobuf. */
  read(bytes: Uint8Array, start: number, end: number, place: number, entry: AccessEntry): boolean
  /** After the last attribute. */
  finish(entry: AccessEntry): void
  /** Attributes of this record that were something known and had a value; and those that only an access log has. */
  readonly known: number
  readonly evidence: number
  /** The finest duration of this record; 0 when it had none. */
  readonly precisionNs: number
  /** Values cut because of limits, since ever. */
  readonly cut: number
}

export interface AttributeReaderOptions {
  /** Attribute → name of a target, from the configuration. */
  readonly extra: Readonly<Record<string, string>>
  /** Longer texts are cut. The decoder of entries has a lower bound of its own for what is kept. */
  readonly valueBytesMax?: number
}

/** A known key with the texts it had lately. */
interface Slot {
  readonly key: Uint8Array
  readonly target: AttributeTarget
  readonly tag: boolean
  /** By the last bytes and the length of the value: the bytes, and the text of them. */
  readonly values: (Remembered | undefined)[]
}

interface Remembered {
  readonly bytes: Uint8Array
  readonly text: string
  /** NaN: no number. */
  readonly number: number
}

/** Of 20 000 keys half are forgotten when it is full: a sender that makes up keys costs no more than this. */
const SLOTS_MAX = 20_000
/** Places that are remembered, over all senders; a record with more attributes looks the rest up. */
const PLACES_MAX = 256
const REMEMBERED = 16
/** Longer values (paths, ids, user agents) rarely come again in a row. */
const REMEMBERED_BYTES_MAX = 32
const KEY_BYTES_MAX = 256
const MAP = 6
const DEPTH_MAX = 8
const DASH = 0x2d

export function createAttributeReader(options: AttributeReaderOptions): AttributeReader {
  return new Reader(options)
}

class Reader implements AttributeReader {
  known = 0
  evidence = 0
  precisionNs = 0
  readonly #options: AttributeReaderOptions
  readonly #valueBytesMax: number
  readonly #slots = createGenerations<string, Slot>(SLOTS_MAX)
  readonly #places: (Slot | undefined)[] = new Array<Slot | undefined>(PLACES_MAX).fill(undefined)
  readonly #parts = new EntryParts()
  readonly #any: AnyValueReader
  readonly #fields = new Fields()
  #cut = 0

  constructor(options: AttributeReaderOptions) {
    this.#options = options
    this.#valueBytesMax = options.valueBytesMax ?? 16_384
    this.#any = createAnyValueReader({ depthMax: 32, bytesMax: this.#valueBytesMax })
  }

  get cut(): number {
    return this.#cut + this.#any.cut
  }

  begin(): void {
    this.known = 0
    this.evidence = 0
    this.precisionNs = 0
    if (this.#parts.used) this.#parts.reset()
  }

  finish(entry: AccessEntry): void {
    if (this.#parts.used) finishParts(entry, this.#parts)
  }

  read(bytes: Uint8Array, start: number, end: number, place: number, entry: AccessEntry): boolean {
    // The usual form: `0a len key 12 len 0a len text`, all lengths below 128.
    const keyLength = bytes[start + 1]!
    const keyEnd = start + 2 + keyLength
    if (bytes[start] === 0x0a && keyLength < 128 && keyEnd + 2 <= end && bytes[keyEnd] === 0x12) {
      const valueLength = bytes[keyEnd + 1]!
      const valueStart = keyEnd + 2
      if (valueLength < 128 && valueStart + valueLength === end) {
        const slot = this.#slotOf(bytes, start + 2, keyEnd, place)
        if (valueLength >= 2 && bytes[valueStart] === 0x0a && bytes[valueStart + 1] === valueLength - 2) {
          this.#text(slot, bytes, valueStart + 2, end, entry)
          return true
        }
        return this.#value(slot, bytes, valueStart, end, entry, 0)
      }
    }
    return this.#keyValue(bytes, start, end, place, entry, '', 0)
  }

  /** A KeyValue in any form. */
  #keyValue(
    bytes: Uint8Array,
    start: number,
    end: number,
    place: number,
    entry: AccessEntry,
    prefix: string,
    depth: number,
  ): boolean {
    const fields = depth === 0 ? this.#fields : new Fields()
    fields.enter(bytes, start, end)
    let keyFrom = 0
    let keyTo = 0
    let from = 0
    let to = 0
    while (fields.next()) {
      if (fields.wireType !== LEN) continue
      if (fields.number === 1) {
        keyFrom = fields.from
        keyTo = fields.to
      } else if (fields.number === 2) {
        from = fields.from
        to = fields.to
      }
    }
    if (fields.broken) return false
    if (keyTo - keyFrom > KEY_BYTES_MAX) {
      this.#cut++
      keyTo = keyFrom + KEY_BYTES_MAX
    }
    const slot =
      prefix === ''
        ? this.#slotOf(bytes, keyFrom, keyTo, place)
        : this.#slotByName(`${prefix}.${lenientText(bytes, keyFrom, keyTo)}`)
    return this.#value(slot, bytes, from, to, entry, depth)
  }

  /** An AnyValue in any form. The members of a map are attributes of their own, named `<key>.<member>`. */
  #value(slot: Slot, bytes: Uint8Array, start: number, end: number, entry: AccessEntry, depth: number): boolean {
    const fields = new Fields().enter(bytes, start, end)
    while (fields.next()) {
      if (fields.number === MAP && fields.wireType === LEN && depth < DEPTH_MAX) {
        const members = new Fields().into(fields)
        const prefix = lenientText(slot.key, 0, slot.key.length)
        while (members.next()) {
          if (members.number !== 1 || members.wireType !== LEN) continue
          if (!this.#keyValue(bytes, members.from, members.to, -1, entry, prefix, depth + 1)) return false
        }
        if (members.broken) return false
      } else if (fields.number === 1 && fields.wireType === LEN) {
        this.#text(slot, bytes, fields.from, fields.to, entry)
      } else {
        const value = this.#any.read(bytes, start, end)
        if (typeof value === 'number') this.#number(slot, value, entry)
        else if (value !== null) this.#give(slot, itemOf(value), entry)
        return !fields.broken
      }
    }
    return !fields.broken
  }

  #text(slot: Slot, bytes: Uint8Array, start: number, end: number, entry: AccessEntry): void {
    const length = end - start
    if (length === 0) return
    // What Envoy writes for nothing. That the sender has such an attribute at all still says what it is.
    if (length === 1 && bytes[start] === DASH) {
      if (slot.target.evidence) this.evidence++
      return
    }
    if (length > REMEMBERED_BYTES_MAX) {
      let to = end
      if (length > this.#valueBytesMax) {
        this.#cut++
        to = start + this.#valueBytesMax
      }
      this.#give(slot, lenientText(bytes, start, to), entry)
      return
    }
    const index = (length ^ bytes[end - 1]! ^ (bytes[start]! << 1)) & (REMEMBERED - 1)
    let remembered = slot.values[index]
    if (remembered === undefined || !equal(remembered.bytes, bytes, start, end)) {
      const text = lenientText(bytes, start, end)
      const number = slot.target.number === undefined ? Number.NaN : decimal(bytes, start, end)
      remembered = { bytes: Uint8Array.prototype.slice.call(bytes, start, end), text, number }
      slot.values[index] = remembered
    }
    if (remembered.number >= 0) this.#number(slot, remembered.number, entry)
    else this.#give(slot, remembered.text, entry)
  }

  #give(slot: Slot, text: string, entry: AccessEntry): void {
    const { target } = slot
    this.#note(slot)
    target.text(entry, this.#parts, text)
  }

  #number(slot: Slot, value: number, entry: AccessEntry): void {
    const { target } = slot
    this.#note(slot)
    if (target.number !== undefined) target.number(entry, this.#parts, value)
    else target.text(entry, this.#parts, String(value))
  }

  #note(slot: Slot): void {
    const { target } = slot
    if (!slot.tag) this.known++
    if (target.evidence) this.evidence++
    const { precisionNs } = target
    if (precisionNs > 0 && (this.precisionNs === 0 || precisionNs < this.precisionNs)) this.precisionNs = precisionNs
  }

  #slotOf(bytes: Uint8Array, start: number, end: number, place: number): Slot {
    if (place >= 0 && place < PLACES_MAX) {
      const last = this.#places[place]
      if (last !== undefined && equal(last.key, bytes, start, end)) return last
      const slot = this.#slotByName(lenientText(bytes, start, end))
      this.#places[place] = slot
      return slot
    }
    return this.#slotByName(lenientText(bytes, start, end))
  }

  #slotByName(name: string): Slot {
    const found = this.#slots.get(name)
    if (found !== undefined) return found
    const target = resolveAttribute(name, this.#options.extra)
    const slot: Slot = {
      key: Buffer.from(name.slice(0, KEY_BYTES_MAX), 'utf8'),
      target,
      tag: isTag(target, name),
      values: new Array<Remembered | undefined>(REMEMBERED).fill(undefined),
    }
    this.#slots.set(name, slot)
    return slot
  }
}

/** Whether it is nothing known: then it says nothing about what the record is. */
function isTag(target: AttributeTarget, name: string): boolean {
  return target.tag === name
}

/** An array with one text, as header values come in OpenTelemetry, is that text. */
function itemOf(value: string | boolean): string {
  if (typeof value !== 'string' || !value.startsWith('["') || !value.endsWith('"]')) return String(value)
  const items: unknown = JSON.parse(value)
  return Array.isArray(items) && items.every((item) => typeof item === 'string') ? items.join(',') : value
}

function equal(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start
  if (known.length !== length) return false
  for (let k = 0; k < length; k++) if (known[k] !== bytes[start + k]) return false
  return true
}

/** A decimal without sign, as most numbers are; −1 for what is anything else. */
function decimal(bytes: Uint8Array, start: number, end: number): number {
  if (end - start > 15) return -1
  let value = 0
  for (let p = start; p < end; p++) {
    const digit = bytes[p]! - 48
    if (digit < 0 || digit > 9) return -1
    value = 10 * value + digit
  }
  return value
}
