import { BackWriter } from '../lib/back-writer.ts'
import type { Dictionary, NativeBlockColumns } from '../pipeline/segment-reader.ts'

/**
 * Attributes (`KeyValue` of opentelemetry.proto.common.v1) as bytes: the whole field, tag and length included, so that a
 * span gets one by a copy. Texts of a dictionary are encoded once per block and distinct value, not per row.
 */
export type AttributeValue = string | number | boolean | readonly string[]

/** Tags of the field `attributes`, field × 8 + 2. */
export const SPAN_ATTRIBUTE = 0x4a
export const EVENT_ATTRIBUTE = 0x1a
export const LOG_ATTRIBUTE = 0x32
export const RESOURCE_ATTRIBUTE = 0x0a
export const EXPONENTIAL_POINT_ATTRIBUTE = 0x0a
export const NUMBER_POINT_ATTRIBUTE = 0x3a

export const NONE = new Uint8Array(0)

const scratch = new BackWriter(4096)

/** One attribute; whole numbers become ints. */
export function attribute(tag: number, key: string, value: AttributeValue): Uint8Array {
  scratch.cut()
  writeAttribute(scratch, tag, key, value)
  return scratch.take()
}

/** Several, one after the other; those without a value (undefined, '') are left out. */
export function attributes(tag: number, pairs: Readonly<Record<string, AttributeValue | undefined>>): Uint8Array {
  scratch.cut()
  for (const [key, value] of Object.entries(pairs).reverse()) {
    if (value !== undefined && value !== '') writeAttribute(scratch, tag, key, value)
  }
  return scratch.take()
}

export function writeAttribute(writer: BackWriter, tag: number, key: string, value: AttributeValue): void {
  const from = writer.length
  writeValue(writer, value)
  writer.end(0x12, from)
  writer.text(0x0a, key)
  writer.end(tag, from)
}

/** An attribute whose key and value tags were encoded before: a whole number ≥ 0. */
export function writeCount(writer: BackWriter, tag: number, key: Uint8Array, value: number): void {
  const from = writer.length
  writer.varint(value)
  writer.byte(0x18)
  writer.end(0x12, from)
  writer.raw(key)
  writer.end(tag, from)
}

/** An attribute of a text that is different in every row. */
export function writeText(writer: BackWriter, tag: number, key: Uint8Array, value: string): void {
  const from = writer.length
  writer.text(0x0a, value)
  writer.end(0x12, from)
  writer.raw(key)
  writer.end(tag, from)
}

/** `KeyValue.key` as bytes, for the two above. */
export function keyOf(key: string): Uint8Array {
  scratch.cut()
  scratch.text(0x0a, key)
  return scratch.take()
}

function writeValue(writer: BackWriter, value: AttributeValue): void {
  if (typeof value === 'string') writer.text(0x0a, value)
  else if (typeof value === 'boolean') {
    writer.byte(value ? 1 : 0)
    writer.byte(0x10)
  } else if (typeof value !== 'number') writeTexts(writer, value)
  else if (Number.isSafeInteger(value) && value >= 0) {
    writer.varint(value)
    writer.byte(0x18)
  } else {
    writer.double(value)
    writer.byte(0x21)
  }
}

/** ArrayValue of texts. */
function writeTexts(writer: BackWriter, values: readonly string[]): void {
  const all = writer.length
  for (let k = values.length - 1; k >= 0; k--) {
    const from = writer.length
    writer.text(0x0a, values[k]!)
    writer.end(0x0a, from)
  }
  writer.end(0x2a, all)
}

/** Attributes that a dictionary column decides: by code, made when a row first has it. */
export class CodeAttributes {
  readonly #codes: Dictionary['codes']
  readonly #texts: readonly string[]
  readonly #make: (text: string) => Uint8Array
  readonly #made: (Uint8Array | undefined)[]

  constructor(block: NativeBlockColumns, column: string, make: (text: string) => Uint8Array) {
    const { codes, texts } = block.dictionary(column)
    this.#codes = codes
    this.#texts = texts
    this.#make = make
    this.#made = new Array<Uint8Array | undefined>(texts.length)
  }

  of(row: number): Uint8Array {
    const code = this.#codes[row]!
    let bytes = this.#made[code]
    if (bytes === undefined) {
      bytes = this.#make(this.#texts[code]!)
      this.#made[code] = bytes
    }
    return bytes
  }
}
