import { readVarint, skipField, type Wide } from '../als/wire.ts'

/**
 * Reads `envoy.service.metrics.v3.StreamMetricsMessage` in one pass, family by family, without making an object or a string of
 * any of them: a message of a large proxy has 300 000 families and tens of megabytes, and comes again every five seconds.
 *
 *   StreamMetricsMessage  identifier #1 · envoy_metrics #2 repeated MetricFamily
 *   MetricFamily          name #1 · help #2 · type #3 · metric #4 repeated · unit #5                (io.prometheus.client)
 *   Metric                label #1 repeated · gauge #2 · counter #3 · summary #4 · untyped #5 · timestamp_ms #6 · histogram #7
 */
export interface MetricVisitor {
  onIdentifier(bytes: Uint8Array, from: number, to: number): void
  /** One metric: see the fields of the reader, which are valid until it returns. */
  onMetric(metric: MetricReader): void
}

/** What a metric has; `type` is the family's. */
export const METRIC_TYPE = { counter: 0, gauge: 1, summary: 2, untyped: 3, histogram: 4, gaugeHistogram: 5 } as const

export interface MetricReader {
  readonly bytes: Uint8Array
  readonly type: number
  /**
   * Type, name, and labels as they came, in one run of bytes `key[0 … keyLength)`: equal for equal metrics of a sender. A
   * histogram and a summary of the same name have the same key.
   */
  readonly key: Uint8Array
  readonly keyLength: number
  readonly nameFrom: number
  readonly nameTo: number
  readonly labelCount: number
  /** Ranges in `bytes` of name and value of label k: 4k … 4k + 3. */
  readonly labels: Int32Array
  /** Milliseconds since the epoch, 0 when it has none. */
  readonly timestampMs: number
  /** Of a counter, gauge or untyped metric. */
  readonly value: number
  /** Of a histogram or summary. */
  readonly count: number
  readonly sum: number
  /** Upper bounds and cumulative counts, or quantiles and their values. */
  readonly points: number
  readonly at: Float64Array
  readonly of: Float64Array
}

export interface MessageResult {
  families: number
  metrics: number
  /** Families and metrics that could not be read, or that are over a limit. */
  rejected: number
  /** Why the first of them was. */
  reason: RejectedReason | null
  /** Where, from the start of the message. */
  offset: number
}

export type RejectedReason = 'malformed' | 'oversized' | 'no_value'

const EMPTY = new Uint8Array(0)
const EMPTY_VIEW = new DataView(new ArrayBuffer(0))
const KEY_BYTES_MAX = 16 * 1024
const LABELS_MAX = 128
/** Envoy has 19 buckets and 10 quantiles; whoever configures others stays far below. */
const POINTS_MAX = 4096

/** A reader to be used again and again; `read` fills `result` and never throws. */
export function createMessageReader(): {
  read(bytes: Uint8Array, start: number, end: number, visitor: MetricVisitor): MessageResult
} {
  return new Reader()
}

class Reader implements MetricReader {
  bytes: Uint8Array = new Uint8Array(0)
  type = 0
  key = Buffer.alloc(KEY_BYTES_MAX)
  keyLength = 0
  nameFrom = 0
  nameTo = 0
  labelCount = 0
  labels = new Int32Array(4 * LABELS_MAX)
  timestampMs = 0
  value = 0
  count = 0
  sum = 0
  points = 0
  at = new Float64Array(POINTS_MAX)
  of = new Float64Array(POINTS_MAX)

  readonly #wide: Wide = { value: 0, signed: 0, int: 0 }
  #view: DataView = EMPTY_VIEW
  /** Ranges of the metrics of a family. */
  #metrics = new Int32Array(16)
  #hasValue = false

  read(bytes: Uint8Array, start: number, end: number, visitor: MetricVisitor): MessageResult {
    const result: MessageResult = { families: 0, metrics: 0, rejected: 0, reason: null, offset: 0 }
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const wide = this.#wide
    let p = start
    while (p < end) {
      const from = p
      p = readVarint(bytes, p, wide)
      const tag = wide.value
      if (p >= 0 && (tag === 10 || tag === 18)) {
        p = readVarint(bytes, p, wide)
        const to = p + wide.int
        if (p < 0 || to > end) {
          reject(result, 'malformed', from - start)
          break
        }
        if (tag === 10) visitor.onIdentifier(bytes, p, to)
        else {
          const reason = this.#family(p, to, start, visitor, result)
          if (reason !== null) reject(result, reason, p - start)
        }
        p = to
        continue
      }
      if (p >= 0 && p <= end && tag < 2 ** 32) p = skipField(bytes, p, end, tag | 0, wide)
      else p = -1
      if (p < 0) {
        reject(result, 'malformed', from - start)
        break
      }
    }
    // Nothing may hold on to the memory of the connection.
    this.bytes = EMPTY
    this.#view = EMPTY_VIEW
    return result
  }

  #family(
    start: number,
    end: number,
    messageStart: number,
    visitor: MetricVisitor,
    result: MessageResult,
  ): RejectedReason | null {
    result.families++
    const { bytes } = this
    const wide = this.#wide
    this.type = 0
    this.nameFrom = this.nameTo = 0
    let metrics = 0
    let p = start
    while (p < end) {
      p = readVarint(bytes, p, wide)
      const tag = wide.value
      if (p < 0 || p > end || tag >= 2 ** 32) return 'malformed'
      if (tag === 10 || tag === 34) {
        p = readVarint(bytes, p, wide)
        const to = p + wide.int
        if (p < 0 || to > end) return 'malformed'
        if (tag === 10) {
          this.nameFrom = p
          this.nameTo = to
        } else {
          if (2 * metrics === this.#metrics.length) this.#growMetrics()
          this.#metrics[2 * metrics] = p
          this.#metrics[2 * metrics + 1] = to
          metrics++
        }
        p = to
      } else if (tag === 24) {
        p = readVarint(bytes, p, wide)
        if (p < 0 || p > end) return 'malformed'
        this.type = wide.int
      } else {
        p = skipField(bytes, p, end, tag | 0, wide)
        if (p < 0) return 'malformed'
      }
    }
    if (this.nameTo - this.nameFrom > KEY_BYTES_MAX / 2) return 'oversized'
    for (let k = 0; k < metrics; k++) {
      const reason = this.#metric(this.#metrics[2 * k]!, this.#metrics[2 * k + 1]!)
      if (reason !== null) reject(result, reason, this.#metrics[2 * k]! - messageStart)
      else {
        result.metrics++
        visitor.onMetric(this)
      }
    }
    return null
  }

  #metric(start: number, end: number): RejectedReason | null {
    const { bytes, key } = this
    const wide = this.#wide
    let length = 1
    key[0] = this.type === METRIC_TYPE.summary ? METRIC_TYPE.histogram : this.type
    for (let k = this.nameFrom; k < this.nameTo; k++) key[length++] = bytes[k]!
    this.labelCount = 0
    this.timestampMs = 0
    this.value = 0
    this.count = 0
    this.sum = 0
    this.points = 0
    this.#hasValue = false
    let p = start
    while (p < end) {
      const from = p
      p = readVarint(bytes, p, wide)
      const tag = wide.value
      if (p < 0 || p > end || tag >= 2 ** 32) return 'malformed'
      if ((tag & 7) === 2 && tag <= 58) {
        p = readVarint(bytes, p, wide)
        const to = p + wide.int
        if (p < 0 || to > end) return 'malformed'
        switch (tag) {
          case 10:
            if (this.labelCount === LABELS_MAX || length + to - from > KEY_BYTES_MAX) return 'oversized'
            if (!this.#label(p, to)) return 'malformed'
            for (let k = from; k < to; k++) key[length++] = bytes[k]!
            break
          case 18:
          case 26:
          case 42:
            if (!this.#scalar(p, to)) return 'malformed'
            break
          case 34:
          case 58: {
            const reason = this.#distribution(p, to, tag === 34)
            if (reason !== null) return reason
            break
          }
        }
        p = to
      } else if (tag === 48) {
        p = readVarint(bytes, p, wide)
        if (p < 0 || p > end) return 'malformed'
        this.timestampMs = wide.signed
      } else {
        p = skipField(bytes, p, end, tag | 0, wide)
        if (p < 0) return 'malformed'
      }
    }
    this.keyLength = length
    return this.#hasValue ? null : 'no_value'
  }

  #label(start: number, end: number): boolean {
    const { bytes, labels } = this
    const wide = this.#wide
    const at = 4 * this.labelCount
    labels[at] = labels[at + 1] = labels[at + 2] = labels[at + 3] = start
    let p = start
    while (p < end) {
      p = readVarint(bytes, p, wide)
      const tag = wide.value
      if (p < 0 || p > end || tag >= 2 ** 32) return false
      if (tag === 10 || tag === 18) {
        p = readVarint(bytes, p, wide)
        if (p < 0 || p + wide.int > end) return false
        const slot = tag === 10 ? at : at + 2
        labels[slot] = p
        p += wide.int
        labels[slot + 1] = p
      } else {
        p = skipField(bytes, p, end, tag | 0, wide)
        if (p < 0) return false
      }
    }
    this.labelCount++
    return true
  }

  /** Counter, Gauge, Untyped: `value` #1, a double. A missing one is 0. */
  #scalar(start: number, end: number): boolean {
    this.#hasValue = true
    this.value = 0
    let p = start
    while (p < end) {
      if (this.bytes[p] === 9 && p + 9 <= end) {
        this.value = this.#view.getFloat64(p + 1, true)
        p += 9
        continue
      }
      p = this.#skip(p, end)
      if (p < 0) return false
    }
    return true
  }

  /** Summary and Histogram: `sample_count` #1, `sample_sum` #2, `quantile` or `bucket` #3. */
  #distribution(start: number, end: number, summary: boolean): RejectedReason | null {
    const { bytes } = this
    const wide = this.#wide
    this.#hasValue = true
    this.points = 0
    this.count = 0
    this.sum = 0
    let p = start
    while (p < end) {
      const tag = bytes[p]!
      if (tag === 8) {
        p = readVarint(bytes, p + 1, wide)
        if (p < 0 || p > end) return 'malformed'
        this.count = wide.value
      } else if (tag === 17 && p + 9 <= end) {
        this.sum = this.#view.getFloat64(p + 1, true)
        p += 9
      } else if (tag === 26) {
        p = readVarint(bytes, p + 1, wide)
        const to = p + wide.int
        if (p < 0 || to > end) return 'malformed'
        if (this.points === POINTS_MAX) return 'oversized'
        if (!(summary ? this.#quantile(p, to) : this.#bucket(p, to))) return 'malformed'
        p = to
      } else {
        p = this.#skip(p, end)
        if (p < 0) return 'malformed'
      }
    }
    return null
  }

  /** Quantile: `quantile` #1, `value` #2, doubles. */
  #quantile(start: number, end: number): boolean {
    let quantile = 0
    let value = 0
    let p = start
    while (p < end) {
      const tag = this.bytes[p]!
      if ((tag === 9 || tag === 17) && p + 9 <= end) {
        const read = this.#view.getFloat64(p + 1, true)
        if (tag === 9) quantile = read
        else value = read
        p += 9
        continue
      }
      p = this.#skip(p, end)
      if (p < 0) return false
    }
    this.at[this.points] = quantile
    this.of[this.points++] = value
    return true
  }

  /** Bucket: `cumulative_count` #1, `upper_bound` #2. */
  #bucket(start: number, end: number): boolean {
    const wide = this.#wide
    let bound = 0
    let count = 0
    let p = start
    while (p < end) {
      const tag = this.bytes[p]!
      if (tag === 8) {
        p = readVarint(this.bytes, p + 1, wide)
        if (p < 0 || p > end) return false
        count = wide.value
      } else if (tag === 17 && p + 9 <= end) {
        bound = this.#view.getFloat64(p + 1, true)
        p += 9
      } else {
        p = this.#skip(p, end)
        if (p < 0) return false
      }
    }
    // The count of all says what is above the last bound.
    if (bound === Number.POSITIVE_INFINITY) return true
    this.at[this.points] = bound
    this.of[this.points++] = count
    return true
  }

  #skip(from: number, end: number): number {
    const p = readVarint(this.bytes, from, this.#wide)
    if (p < 0 || p > end || this.#wide.value >= 2 ** 32) return -1
    return skipField(this.bytes, p, end, this.#wide.value | 0, this.#wide)
  }

  #growMetrics(): void {
    const grown = new Int32Array(2 * this.#metrics.length)
    grown.set(this.#metrics)
    this.#metrics = grown
  }
}

function reject(result: MessageResult, reason: RejectedReason, offset: number): void {
  result.rejected++
  if (result.reason !== null) return
  result.reason = reason
  result.offset = offset
}
