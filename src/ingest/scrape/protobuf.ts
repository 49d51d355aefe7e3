import { isUtf8 } from 'node:buffer'
import type { Label } from '../../metrics/store.ts'
import { hashOf } from './head-table.ts'
import { addLabel } from './head-text.ts'
import {
  type Family,
  type FamilyType,
  type Item,
  type NativeRun,
  PART,
  type Page,
  type PageResult,
  type Rejection,
} from './page.ts'
import { seriesTypeOf } from './role.ts'

/**
 * Reads a page of delimited `io.prometheus.client.MetricFamily` messages into `page`: length, message, length, message, …
 * (github.com/prometheus/client_model, `metrics.proto`). Classic and native histograms, the counts of both whole or float.
 *
 * A metric that cannot be read is rejected alone, as long as its lengths hold; a page whose lengths do not hold fails.
 */
export interface ProtobufOptions {
  readonly timestamps: boolean
}

export interface ProtobufParser {
  parse(page: Page, bytes: Buffer, start: number, end: number, options: ProtobufOptions): PageResult
}

export function createProtobufParser(): ProtobufParser {
  return new FamilyParser()
}

const TYPES: readonly FamilyType[] = ['counter', 'gauge', 'summary', 'untyped', 'histogram', 'gaugehistogram']
/** Schemas of native histograms in base 2. Others (−53, own bounds) have no form in protobuf yet. */
const SCHEMA_MIN = -4
const SCHEMA_MAX = 8
/** From the lowest to the highest bucket of one sign. At schema 8 this is 256 doublings, more than a double's fraction needs. */
const RUN_MAX = 65_536
const HEAD_MAX = 65_536
const EMPTY_RUN: NativeRun = { offset: 0, counts: new Float64Array(0) }

/** Thrown and caught in this file: a length does not hold, or a number does not end. */
const BROKEN = new Error('malformed protobuf')

class FamilyParser implements ProtobufParser {
  #page!: Page
  #bytes!: Buffer
  #view!: DataView
  #start = 0
  #timestamps = true
  // Cursor.
  #at = 0
  // Of the metric at hand.
  #head = Buffer.allocUnsafe(1024)
  readonly #spanOffsets: number[] = []
  readonly #spanLengths: number[] = []

  parse(page: Page, bytes: Buffer, start: number, end: number, options: ProtobufOptions): PageResult {
    this.#page = page
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#start = start
    this.#timestamps = options.timestamps
    this.#at = start
    page.begin()
    const { result } = page
    try {
      while (this.#at < end) {
        const length = this.#varint(end)
        if (length > end - this.#at) throw BROKEN
        const to = this.#at + length
        this.#family(this.#at, to)
        this.#at = to
        if (result.samples > page.limits.samplesMax) {
          result.failure = 'sample_limit'
          return result
        }
      }
    } catch (error) {
      if (error !== BROKEN) throw error
      page.reject('syntax', this.#at - start)
      result.failure = 'malformed'
      return result
    }
    if (result.samples === 0 && result.rejected > 0) result.failure = 'malformed'
    return result
  }

  // ---- MetricFamily: name 1, help 2, type 3, metric 4, unit 5

  #family(from: number, to: number): void {
    const page = this.#page
    let nameFrom = 0
    let nameTo = 0
    let helpFrom = 0
    let helpTo = 0
    let unitFrom = 0
    let unitTo = 0
    let type = 0
    let metrics = 0
    this.#at = from
    while (this.#at < to) {
      const tag = this.#varint(to)
      if (tag === 0x0a || tag === 0x12 || tag === 0x2a) {
        const length = this.#length(to)
        if (tag === 0x0a) {
          nameFrom = this.#at
          nameTo = this.#at + length
        } else if (tag === 0x12) {
          helpFrom = this.#at
          helpTo = this.#at + length
        } else {
          unitFrom = this.#at
          unitTo = this.#at + length
        }
        this.#at += length
      } else if (tag === 0x18) type = this.#varint(to)
      else {
        if (tag === 0x22) metrics++
        this.#skip(tag, to)
      }
    }
    const family = this.#familyOf(nameFrom, nameTo)
    if (family === null) {
      page.reject('name', from - this.#start, Math.max(1, metrics))
      return
    }
    // A type that is not known may come with a message that is not known.
    page.declare(family, TYPES[type] ?? 'untyped')
    if (family.help === '' && helpTo > helpFrom) {
      family.help = this.#bytes.toString('utf8', helpFrom, Math.min(helpTo, helpFrom + 512))
    }
    if (unitTo > unitFrom) family.unit = this.#bytes.toString('utf8', unitFrom, Math.min(unitTo, unitFrom + 64))
    this.#at = from
    while (this.#at < to) {
      const tag = this.#varint(to)
      if (tag !== 0x22) {
        this.#skip(tag, to)
        continue
      }
      const length = this.#length(to)
      const end = this.#at + length
      this.#metric(family, this.#at, end)
      this.#at = end
      if (page.result.samples > page.limits.samplesMax) return
    }
  }

  /** The family of the last message is likely the next one of the last page's; a text each is made all the same: families are few. */
  #familyOf(from: number, to: number): Family | null {
    if (to === from || to - from > this.#page.limits.labelValueBytesMax) return null
    if (!isUtf8(this.#bytes.subarray(from, to))) return null
    return this.#page.family(this.#bytes.toString('utf8', from, to))
  }

  // ---- Metric: label 1, gauge 2, counter 3, summary 4, untyped 5, timestamp_ms 6, histogram 7

  #metric(family: Family, from: number, to: number): void {
    const page = this.#page
    let labelsFrom = 0
    let labelsTo = 0
    let isScattered = false
    let bodyTag = 0
    let bodyFrom = 0
    let bodyTo = 0
    let time = Number.NaN
    this.#at = from
    while (this.#at < to) {
      const field = this.#at
      const tag = this.#varint(to)
      if (tag === 0x30) {
        const stamp = this.#signed(to)
        if (this.#timestamps) time = stamp
      } else if (tag === 0x0a) {
        this.#pass(to)
        if (labelsTo === 0) labelsFrom = field
        else if (labelsTo !== field) isScattered = true
        labelsTo = this.#at
      } else if ((tag & 7) === 2 && tag >= 0x12 && tag <= 0x3a) {
        const length = this.#length(to)
        bodyTag = tag
        bodyFrom = this.#at
        bodyTo = this.#at + length
        this.#at += length
      } else this.#skip(tag, to)
    }
    const offset = from - this.#start
    if (isScattered || labelsTo - labelsFrom > HEAD_MAX) {
      page.reject('syntax', offset)
      return
    }
    const number = this.#item(family, labelsFrom, labelsTo)
    if (number < 0) {
      page.reject(REASONS[-1 - number]!, offset)
      return
    }
    if (bodyTag !== BODY[family.type]) {
      page.reject('value', offset)
      return
    }
    if (page.seenIn[number] === page.scrape) {
      page.reject('duplicate', offset)
      return
    }
    const item = page.items[number]!
    let problem: Rejection | null
    if (item.type === 'histogram') problem = this.#histogram(item, bodyFrom, bodyTo, time)
    else if (item.type === 'summary') problem = this.#summary(item, bodyFrom, bodyTo, time)
    else problem = this.#value(item, bodyFrom, bodyTo, time)
    if (problem !== null) page.reject(problem, offset)
  }

  /** The item of these labels; below 0: −1 − number of the reason why there is none. */
  #item(family: Family, from: number, to: number): number {
    const page = this.#page
    const { heads } = page
    // The key is the family's number and the bytes of the labels.
    const length = 4 + to - from
    if (this.#head.length < length) this.#head = Buffer.allocUnsafe(2 * length)
    this.#head.writeUInt32LE(family.number, 0)
    this.#bytes.copy(this.#head, 4, from, to)
    const hash = hashOf(this.#head, 0, length, page.hashSeed)
    let head = heads.find(this.#head, 0, length, hash)
    if (head >= 0 && page.holds(head)) return page.headItem[head]!
    const labels = this.#labels(from, to)
    let number: number
    if (typeof labels === 'string') number = -1 - REASONS.indexOf(labels)
    else number = page.item(family.name, labels, seriesTypeOf(family.type), family)
    if (head < 0) head = heads.add(this.#head, 0, length, hash)
    page.assign(head, number, PART.value, family.number)
    return number
  }

  /** LabelPair: name 1, value 2. */
  #labels(from: number, to: number): Label[] | Rejection {
    const labels: Label[] = []
    this.#at = from
    while (this.#at < to) {
      this.#varint(to)
      const end = this.#length(to) + this.#at
      let name = ''
      let value = ''
      while (this.#at < end) {
        const tag = this.#varint(end)
        if (tag !== 0x0a && tag !== 0x12) {
          this.#skip(tag, end)
          continue
        }
        const length = this.#length(end)
        const part = this.#bytes.subarray(this.#at, this.#at + length)
        if (!isUtf8(part)) return 'utf8'
        if (tag === 0x0a) name = part.toString()
        else value = part.toString()
        this.#at += length
      }
      const problem = addLabel(labels, name, value, this.#page.limits)
      if (problem !== null) return problem
    }
    return labels
  }

  // ---- Counter: value 1, exemplar 2, start_timestamp 3; Gauge and Untyped: value 1

  #value(item: Item, from: number, to: number, time: number): Rejection | null {
    const page = this.#page
    let value = 0
    this.#at = from
    while (this.#at < to) {
      const tag = this.#varint(to)
      if (tag === 0x09) value = this.#double(to)
      else if (tag === 0x12 && item.type === 'counter') this.#exemplar(item, to)
      else if (tag === 0x1a && item.type === 'counter') page.starts[item.number] = this.#timestamp(to)
      else this.#skip(tag, to)
    }
    page.put(item.number, PART.value, value, time)
    page.result.samples++
    return null
  }

  // ---- Summary: sample_count 1, sample_sum 2, quantile 3 { quantile 1, value 2 }, start_timestamp 4

  #summary(item: Item, from: number, to: number, time: number): Rejection | null {
    const page = this.#page
    page.see(item.number, time)
    const parts = item.parts!
    parts.count = 0
    parts.sum = 0
    page.result.samples += 2
    this.#at = from
    while (this.#at < to) {
      const tag = this.#varint(to)
      if (tag === 0x08) parts.count = this.#varint(to)
      else if (tag === 0x11) parts.sum = this.#double(to)
      else if (tag === 0x22) page.starts[item.number] = this.#timestamp(to)
      else if (tag === 0x1a) {
        const end = this.#length(to) + this.#at
        let quantile = 0
        let value = 0
        while (this.#at < end) {
          const part = this.#varint(end)
          if (part === 0x09) quantile = this.#double(end)
          else if (part === 0x11) value = this.#double(end)
          else this.#skip(part, end)
        }
        const part = page.part(item, quantile)
        if (part < 0) page.reject('buckets_limit', from - this.#start)
        else {
          item.parts!.figures[part] = value
          page.result.samples++
        }
      } else this.#skip(tag, to)
    }
    return null
  }

  // ---- Histogram: sample_count 1, sample_sum 2, bucket 3, sample_count_float 4, schema 5, zero_threshold 6, zero_count 7,
  //      zero_count_float 8, negative span 9, delta 10, count 11, positive span 12, delta 13, count 14, start 15, exemplars 16

  #histogram(item: Item, from: number, to: number, time: number): Rejection | null {
    const page = this.#page
    let count = 0
    let countFloat = 0
    let sum = 0
    let schema = 0
    let zeroThreshold = 0
    let zeroCount = 0
    let zeroCountFloat = 0
    let spans = 0
    let start = Number.NaN
    this.#at = from
    while (this.#at < to) {
      const tag = this.#varint(to)
      if (tag === 0x08) count = this.#varint(to)
      else if (tag === 0x21) countFloat = this.#double(to)
      else if (tag === 0x11) sum = this.#double(to)
      else if (tag === 0x28) schema = this.#zigzag(to)
      else if (tag === 0x31) zeroThreshold = this.#double(to)
      else if (tag === 0x38) zeroCount = this.#varint(to)
      else if (tag === 0x41) zeroCountFloat = this.#double(to)
      else if (tag === 0x7a) start = this.#timestamp(to)
      else if (tag === 0x82) this.#exemplar(item, to)
      else {
        if (tag === 0x4a || tag === 0x62) spans++
        this.#skip(tag, to)
      }
    }
    const isFloat = countFloat > 0 || zeroCountFloat > 0
    // As Prometheus tells them: a native one has spans, be they empty, or a zero bucket.
    if (spans > 0 || zeroThreshold > 0 || zeroCount > 0 || zeroCountFloat > 0) {
      if (!(schema >= SCHEMA_MIN && schema <= SCHEMA_MAX)) return 'native'
      const negative = this.#run(from, to, 0x4a, 0x50, 0x59, isFloat)
      if (negative === null) return 'native'
      const positive = this.#run(from, to, 0x62, 0x68, 0x71, isFloat)
      if (positive === null) return 'native'
      page.see(item.number, time)
      const zeros = isFloat ? zeroCountFloat : zeroCount
      item.native = { scale: schema, zeroThreshold, zeroCount: zeros, positive, negative }
      page.result.samples++
    } else {
      page.see(item.number, time)
      const problem = this.#buckets(item, from, to)
      if (problem !== null) {
        // Not seen after all, since what came of it is not whole.
        page.seenCount--
        page.seenIn[item.number] = 0
        return problem
      }
      // Sum, count, and the bucket +Inf, which is optional here and not in text.
      page.result.samples += item.parts!.bounds.includes(Number.POSITIVE_INFINITY) ? 2 : 3
    }
    if (!Number.isNaN(start)) page.starts[item.number] = start
    const parts = item.parts!
    parts.count = countFloat > 0 ? countFloat : count
    parts.sum = sum
    return null
  }

  /** Bucket: cumulative_count 1, upper_bound 2, exemplar 3, cumulative_count_float 4. */
  #buckets(item: Item, from: number, to: number): Rejection | null {
    const page = this.#page
    this.#at = from
    while (this.#at < to) {
      const tag = this.#varint(to)
      if (tag !== 0x1a) {
        this.#skip(tag, to)
        continue
      }
      const end = this.#length(to) + this.#at
      let count = 0
      let bound = 0
      while (this.#at < end) {
        const part = this.#varint(end)
        if (part === 0x08 || part === 0x21) {
          const value = part === 0x08 ? this.#varint(end) : this.#double(end)
          if (value > 0) count = value
        } else if (part === 0x11) bound = this.#double(end)
        else if (part === 0x1a) this.#exemplar(item, end)
        else this.#skip(part, end)
      }
      if (Number.isNaN(bound)) return 'bucket'
      const part = page.part(item, bound)
      if (part < 0) return 'buckets_limit'
      item.parts!.figures[part] = count
      page.result.samples++
    }
    return null
  }

  /** Buckets of one sign, from spans { offset 1 sint32, length 2 } and deltas or, of floats, counts. Null: they do not fit. */
  #run(from: number, to: number, span: number, delta: number, float: number, isFloat: boolean): NativeRun | null {
    this.#spanOffsets.length = 0
    this.#spanLengths.length = 0
    let buckets = 0
    let width = 0
    const counts: number[] = []
    let last = 0
    this.#at = from
    while (this.#at < to) {
      const tag = this.#varint(to)
      if (tag === span) {
        const end = this.#length(to) + this.#at
        let offset = 0
        let length = 0
        while (this.#at < end) {
          const part = this.#varint(end)
          if (part === 0x08) offset = this.#zigzag(end)
          else if (part === 0x10) length = this.#varint(end)
          else this.#skip(part, end)
        }
        if (this.#spanOffsets.length > 0) {
          if (offset < 0) return null
          width += offset
        }
        this.#spanOffsets.push(offset)
        this.#spanLengths.push(length)
        buckets += length
        width += length
        if (width > RUN_MAX) return null
      } else if (tag === delta || tag === delta + 2) {
        // One number, or several packed.
        const end = tag === delta ? this.#at + 1 : this.#length(to) + this.#at
        do {
          if (this.#at >= end) break
          if (counts.length >= RUN_MAX) return null
          last += this.#zigzag(to)
          counts.push(last)
        } while (this.#at < end)
      } else if (tag === float || tag === float + 1) {
        const end = tag === float ? this.#at + 8 : this.#length(to) + this.#at
        while (this.#at < end) {
          if (counts.length >= RUN_MAX) return null
          const value = this.#double(to)
          if (isFloat) counts.push(value)
        }
      } else this.#skip(tag, to)
    }
    if (counts.length !== buckets) return null
    if (width === 0) return EMPTY_RUN
    const offset = this.#spanOffsets[0]!
    if (Math.abs(offset) > RUN_MAX * 8) return null
    const run = new Float64Array(width)
    let index = 0
    let next = 0
    for (let k = 0; k < this.#spanLengths.length; k++) {
      if (k > 0) index += this.#spanOffsets[k]!
      for (let n = this.#spanLengths[k]!; n > 0; n--) {
        const count = counts[next++]!
        if (!(count >= 0)) return null
        run[index++] = count
      }
    }
    return { offset, counts: run }
  }

  /** Exemplar: label 1, value 2, timestamp 3. */
  #exemplar(item: Item, limit: number): void {
    const page = this.#page
    const from = this.#at
    const end = this.#length(limit) + this.#at
    page.result.exemplars++
    if (page.onExemplar === null) {
      this.#at = end
      return
    }
    let labelsFrom = 0
    let labelsTo = 0
    let isScattered = false
    let value = 0
    let time = Number.NaN
    while (this.#at < end) {
      const field = this.#at
      const tag = this.#varint(end)
      if (tag === 0x0a) {
        this.#pass(end)
        if (labelsTo === 0) labelsFrom = field
        else if (labelsTo !== field) isScattered = true
        labelsTo = this.#at
      } else if (tag === 0x11) value = this.#double(end)
      else if (tag === 0x1a) time = this.#timestamp(end) / 1000
      else this.#skip(tag, end)
    }
    const labels = isScattered ? 'exemplar' : this.#labels(labelsFrom, labelsTo)
    this.#at = end
    if (typeof labels === 'string') page.reject('exemplar', from - this.#start)
    else page.onExemplar(item, { labels, value, time })
  }

  // ---- wire

  /** A `google.protobuf.Timestamp` { seconds 1, nanos 2 } in ms. */
  #timestamp(limit: number): number {
    const end = this.#length(limit) + this.#at
    let seconds = 0
    let nanos = 0
    while (this.#at < end) {
      const tag = this.#varint(end)
      if (tag === 0x08) seconds = this.#signed(end)
      else if (tag === 0x10) nanos = this.#signed(end)
      else this.#skip(tag, end)
    }
    return seconds * 1000 + nanos / 1e6
  }

  /** A length that lies within `limit`. */
  #length(limit: number): number {
    const length = this.#varint(limit)
    if (length > limit - this.#at) throw BROKEN
    return length
  }

  /** Over a length and what it is the length of. */
  #pass(limit: number): void {
    const length = this.#length(limit)
    this.#at += length
  }

  /** An unsigned number; exact up to 2^53. */
  #varint(limit: number): number {
    const bytes = this.#bytes
    let at = this.#at
    if (at >= limit) throw BROKEN
    let byte = bytes[at++]!
    if (byte < 0x80) {
      this.#at = at
      return byte
    }
    let value = byte & 0x7f
    let scale = 128
    for (let k = 1; k < 10; k++) {
      if (at >= limit) throw BROKEN
      byte = bytes[at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        this.#at = at
        return value
      }
      scale *= 128
    }
    throw BROKEN
  }

  /** An int64 or int32: two's complement in ten bytes when it is negative. */
  #signed(limit: number): number {
    const from = this.#at
    const value = this.#varint(limit)
    if (value < 2 ** 53) return value
    let whole = 0n
    for (let k = this.#at - 1; k >= from; k--) whole = (whole << 7n) | BigInt(this.#bytes[k]! & 0x7f)
    return Number(BigInt.asIntN(64, whole))
  }

  /** A sint32 or sint64. */
  #zigzag(limit: number): number {
    const value = this.#varint(limit)
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  #double(limit: number): number {
    if (limit - this.#at < 8) throw BROKEN
    const value = this.#view.getFloat64(this.#at, true)
    this.#at += 8
    return value
  }

  #skip(tag: number, limit: number): void {
    switch (tag % 8) {
      case 0:
        this.#varint(limit)
        return
      case 1:
      case 5: {
        const size = tag % 8 === 1 ? 8 : 4
        if (limit - this.#at < size) throw BROKEN
        this.#at += size
        return
      }
      case 2:
        this.#pass(limit)
        return
      default:
        throw BROKEN
    }
  }
}

/** Tag of the message that a metric of the type has. */
const BODY: Readonly<Record<FamilyType, number>> = {
  gauge: 0x12,
  counter: 0x1a,
  summary: 0x22,
  untyped: 0x2a,
  histogram: 0x3a,
  gaugehistogram: 0x3a,
  info: 0,
  stateset: 0,
}
const REASONS: readonly Rejection[] = ['name', 'label_length', 'duplicate_label', 'labels_limit', 'utf8']
