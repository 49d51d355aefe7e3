import { createGenerations } from '../../lib/generations.ts'
import type { AccessEntry } from '../entry/entry.ts'
import { type AnyValueReader, createAnyValueReader } from './any-value.ts'
import { type AttributeTarget, ENTRY_TYPE, EntryParts, finishParts, resolveAttribute } from './attribute-names.ts'
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
  /** One KeyValue, which is what `fields` stands at, the `place`-th of its record. False: it is not protobuf. */
  read(fields: Fields, place: number, entry: AccessEntry): boolean
  /** After the last attribute. */
  finish(entry: AccessEntry): void
  /** Attributes of this record that were something known and had a value; and those that only an access log has. */
  readonly known: number
  readonly evidence: number
  /** What its coarsest duration is exact to, ns; 0 when it had none. */
  readonly precisionNs: number
  /** Whether it said its access log type, or that it has none. */
  readonly typeSaid: boolean
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
  readonly key: DataView
  readonly name: string
  readonly target: AttributeTarget
  readonly tag: boolean
  /** Null until it had a text. */
  values: Remembered | null
  /** Found again less missed, within bounds. Below 0 too often: values are all different, and not remembered any more. */
  score: number
}

/** Texts that a key had lately, each at the place that a few of its bytes name. */
interface Remembered {
  /** `REMEMBERED_BYTES_MAX` for each place. */
  readonly bytes: DataView
  readonly lengths: Int32Array
  readonly texts: string[]
}

/** Half of the keys are forgotten when so many are known: a sender that makes up keys costs 8 MB and no more. */
const SLOTS_MAX = 4096
/** Places that are remembered, over all senders; a record with more attributes looks the rest up. */
const PLACES_MAX = 256
const REMEMBERED = 16
const REMEMBERED_BYTES_MAX = 112
const SCORE_MAX = 64
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
  typeSaid = false
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
    this.typeSaid = false
    if (this.#parts.used) this.#parts.reset()
  }

  finish(entry: AccessEntry): void {
    if (this.#parts.used) finishParts(entry, this.#parts)
  }

  read(outer: Fields, place: number, entry: AccessEntry): boolean {
    const { bytes, view, from: start, to: end } = outer
    // The usual form: `0a len key 12 len 0a len text`, all lengths below 128.
    const keyLength = bytes[start + 1]!
    const keyEnd = start + 2 + keyLength
    if (bytes[start] === 0x0a && keyLength < 128 && keyEnd + 2 <= end && bytes[keyEnd] === 0x12) {
      const valueLength = bytes[keyEnd + 1]!
      const valueStart = keyEnd + 2
      if (valueLength < 128 && valueStart + valueLength === end) {
        const slot = this.#slotOf(bytes, view, start + 2, keyEnd, place)
        if (valueLength >= 2 && bytes[valueStart] === 0x0a && bytes[valueStart + 1] === valueLength - 2) {
          this.#text(slot, bytes, view, valueStart + 2, end, entry)
          return true
        }
        return this.#value(slot, new Fields().enter(bytes, valueStart, end), valueStart, end, entry, 0)
      }
    }
    return this.#keyValue(this.#fields.into(outer), place, entry, '', 0)
  }

  /** A KeyValue in any form. */
  #keyValue(fields: Fields, place: number, entry: AccessEntry, prefix: string, depth: number): boolean {
    const { bytes, view } = fields
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
        ? this.#slotOf(bytes, view, keyFrom, keyTo, place)
        : this.#slotByName(`${prefix}.${lenientText(bytes, keyFrom, keyTo)}`.slice(0, KEY_BYTES_MAX))
    return this.#value(slot, new Fields().enter(bytes, from, to), from, to, entry, depth)
  }

  /** An AnyValue in any form. The members of a map are attributes of their own, named `<key>.<member>`. */
  #value(slot: Slot, fields: Fields, start: number, end: number, entry: AccessEntry, depth: number): boolean {
    while (fields.next()) {
      if (fields.number === MAP && fields.wireType === LEN && depth < DEPTH_MAX) {
        const members = new Fields().into(fields)
        while (members.next()) {
          if (members.number !== 1 || members.wireType !== LEN) continue
          if (!this.#keyValue(new Fields().into(members), -1, entry, slot.name, depth + 1)) return false
        }
        if (members.broken) return false
      } else if (fields.number === 1 && fields.wireType === LEN) {
        this.#text(slot, fields.bytes, fields.view, fields.from, fields.to, entry)
      } else {
        const value = this.#any.read(fields.bytes, start, end)
        if (typeof value === 'number') this.#number(slot, value, entry)
        else if (value !== null) this.#give(slot, itemOf(value), entry)
        return !fields.broken
      }
    }
    return !fields.broken
  }

  #text(slot: Slot, bytes: Uint8Array, view: DataView, start: number, end: number, entry: AccessEntry): void {
    const length = end - start
    if (length === 0) return
    // What Envoy writes for nothing. That the sender has such an attribute at all still says what it is.
    if (length === 1 && bytes[start] === DASH) {
      if (slot.target.evidence) this.evidence++
      if (slot.target === ENTRY_TYPE) this.typeSaid = true
      return
    }
    if (slot.target.number !== undefined) {
      const number = decimal(bytes, start, end)
      if (number >= 0) {
        this.#number(slot, number, entry)
        return
      }
    }
    if (length > REMEMBERED_BYTES_MAX || slot.score < -SCORE_MAX) {
      let to = end
      if (length > this.#valueBytesMax) {
        this.#cut++
        to = start + this.#valueBytesMax
      }
      this.#give(slot, lenientText(bytes, start, to), entry)
      return
    }
    slot.values ??= remember()
    const { lengths, texts, bytes: kept } = slot.values
    const index =
      (length + bytes[end - 1]! + 3 * bytes[start + (length >> 1)]! + 5 * bytes[start + (length >> 2)]!) % REMEMBERED
    const at = index * REMEMBERED_BYTES_MAX
    if (lengths[index] === length && same(kept, at, view, start, length)) {
      if (slot.score < SCORE_MAX) slot.score++
    } else {
      slot.score--
      lengths[index] = length
      for (let k = 0; k < length; k++) kept.setUint8(at + k, bytes[start + k]!)
      texts[index] = lenientText(bytes, start, end)
    }
    this.#give(slot, texts[index]!, entry)
  }

  #give(slot: Slot, text: string, entry: AccessEntry): void {
    const { target } = slot
    this.#note(slot)
    target.text(entry, this.#parts, text)
  }

  #number(slot: Slot, value: number, entry: AccessEntry): void {
    const { target } = slot
    this.#note(slot)
    if (target.number === undefined) target.text(entry, this.#parts, String(value))
    else if (value >= 0 && Number.isFinite(value)) target.number(entry, this.#parts, value)
  }

  #note(slot: Slot): void {
    const { target } = slot
    if (target === ENTRY_TYPE) this.typeSaid = true
    if (!slot.tag) this.known++
    if (target.evidence) this.evidence++
    const { precisionNs } = target
    if (precisionNs > this.precisionNs) this.precisionNs = precisionNs
  }

  #slotOf(bytes: Uint8Array, view: DataView, start: number, end: number, place: number): Slot {
    if (place < 0 || place >= PLACES_MAX) return this.#slotByName(lenientText(bytes, start, end))
    const last = this.#places[place]
    const length = end - start
    if (last?.key.byteLength === length && same(last.key, 0, view, start, length)) return last
    const slot = this.#slotByName(lenientText(bytes, start, end))
    this.#places[place] = slot
    return slot
  }

  #slotByName(name: string): Slot {
    const found = this.#slots.get(name)
    if (found !== undefined) return found
    const target = resolveAttribute(name, this.#options.extra)
    const key = Buffer.from(name, 'utf8')
    const slot: Slot = {
      key: new DataView(Uint8Array.from(key).buffer),
      name,
      target,
      tag: target.tag === name,
      values: null,
      score: 0,
    }
    this.#slots.set(name, slot)
    return slot
  }
}

/** An array with one text, as header values come in OpenTelemetry, is that text. */
function itemOf(value: string | boolean): string {
  if (typeof value !== 'string' || !value.startsWith('["') || !value.endsWith('"]')) return String(value)
  const items: unknown = JSON.parse(value)
  return Array.isArray(items) && items.every((item) => typeof item === 'string') ? items.join(',') : value
}

function remember(): Remembered {
  return {
    bytes: new DataView(new ArrayBuffer(REMEMBERED * REMEMBERED_BYTES_MAX)),
    lengths: new Int32Array(REMEMBERED).fill(-1),
    texts: new Array<string>(REMEMBERED).fill(''),
  }
}

/** Four bytes at a time; the last four may overlap the ones before. */
function same(known: DataView, at: number, view: DataView, start: number, length: number): boolean {
  if (length < 4) {
    for (let k = 0; k < length; k++) if (known.getUint8(at + k) !== view.getUint8(start + k)) return false
    return true
  }
  const last = length - 4
  if (known.getInt32(at + last) !== view.getInt32(start + last)) return false
  for (let k = 0; k < last; k += 4) if (known.getInt32(at + k) !== view.getInt32(start + k)) return false
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
