import { BackWriter } from '../lib/back-writer.ts'
import type { ExportRequest } from './row-requests.ts'

/**
 * Halves an export request of any signal, for a target that finds it too large. The three have the same shape: resources
 * (field 1) with scopes (field 2) with items (field 2). Null when it has one item alone.
 */
export function splitRequest({ bytes }: ExportRequest): readonly [ExportRequest, ExportRequest] | null {
  const items = itemsOf(bytes)
  if (items.length < 2) return null
  const middle = items.length >> 1
  return [join(items.slice(0, middle)), join(items.slice(middle))]
}

interface Item {
  readonly bytes: Buffer
  /** Spans and records are one each; a metric has its data points. */
  readonly count: number
  readonly resource: Part
  readonly scope: Part
}

/** Everything of a resource, or of a scope, but what is below it. */
interface Part {
  readonly rest: readonly Buffer[]
}

interface Field {
  readonly field: number
  readonly type: number
  /** With tag and length. */
  readonly whole: Buffer
  readonly content: Buffer
}

function itemsOf(bytes: Buffer): Item[] {
  const items: Item[] = []
  for (const group of fieldsOf(bytes)) {
    const parts = fieldsOf(group.content)
    const resource = { rest: parts.filter(({ field }) => field !== 2).map(({ whole }) => whole) }
    for (const scoped of parts.filter(({ field }) => field === 2)) {
      const inner = fieldsOf(scoped.content)
      const scope = { rest: inner.filter(({ field }) => field !== 2).map(({ whole }) => whole) }
      for (const item of inner.filter(({ field }) => field === 2)) {
        items.push({ bytes: item.whole, count: countOf(item.content), resource, scope })
      }
    }
  }
  return items
}

function join(items: readonly Item[]): ExportRequest {
  const writer = new BackWriter(items.reduce((sum, { bytes }) => sum + bytes.length + 64, 4096))
  let at = items.length - 1
  while (at >= 0) {
    const { resource } = items[at]!
    const group = writer.length
    while (at >= 0 && items[at]!.resource === resource) {
      const { scope } = items[at]!
      const from = writer.length
      for (; at >= 0 && items[at]!.scope === scope; at--) writer.raw(items[at]!.bytes)
      for (const part of scope.rest) writer.raw(part)
      writer.end(0x12, from)
    }
    for (const part of resource.rest) writer.raw(part)
    writer.end(0x0a, group)
  }
  return { bytes: writer.take(), items: items.reduce((sum, { count }) => sum + count, 0) }
}

/** Fields of `Metric` that hold data points: gauge, sum, histogram, exponential histogram, summary. */
const POINTS: ReadonlySet<number> = new Set([5, 7, 9, 10, 11])
const FIXED64 = 1
const DELIMITED = 2

/** A metric begins with its name (field 1, text) and holds data; a span's field 1 is 16 bytes, a record's is a time. */
function countOf(item: Buffer): number {
  const fields = fieldsOf(item)
  if (fields.some(({ field, type }) => field === 1 && type === FIXED64)) return 1
  const isSpan = fields.some(({ field, type }) => field === 7 && type === FIXED64)
  const data = fields.find(({ field, type }) => POINTS.has(field) && type === DELIMITED)
  if (isSpan || data === undefined) return 1
  return fieldsOf(data.content).filter(({ field }) => field === 1).length
}

/** Of a message that we wrote ourselves. */
function fieldsOf(bytes: Buffer): Field[] {
  const fields: Field[] = []
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]!
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const from = at
    const tag = varint()
    const type = tag % 8
    let start = at
    if (type === DELIMITED) {
      const length = varint()
      start = at
      at += length
    } else if (type === 0) varint()
    else at += type === FIXED64 ? 8 : 4
    const field = Math.floor(tag / 8)
    fields.push({ field, type, whole: bytes.subarray(from, at), content: bytes.subarray(start, at) })
  }
  return fields
}
