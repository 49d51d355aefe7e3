/**
 * One line of StatsD, DogStatsD or Graphite, taken apart where it lies. No string is made: what names the metric is copied into
 * `key`, by which everything known of it is found again.
 *
 *   StatsD      name:value|type[|@rate]
 *   DogStatsD   name:value[:value…]|type[|@rate][|#tag:value,tag…][|c:container][|T seconds][|e:external][|card:level]
 *   Graphite    name[;tag=value…]:value|type[|@rate]
 *
 * Names and tag values of Envoy may contain `|`, `;` and, in Graphite tags, `:` (`cluster.outbound|80||web;.…`), so a line is not
 * split at every bar: its name ends at the first colon, of Graphite at the last one.
 */
export type LineKind = 'metric' | 'event' | 'service_check'
export type LineProblem = 'no_value' | 'bad_value' | 'bad_type' | 'bad_rate' | 'bad_field' | 'oversized'

/** As on the wire; `t` stands for `ms`. */
export type TypeLetter = 'c' | 'g' | 't' | 'h' | 'd' | 's'

/** Longest name with its tags. DogStatsD clients send at most 8 KiB in all. */
export const KEY_BYTES_MAX = 8192
/** Values packed into one line. */
const VALUES_MAX = 4096

const COLON = 0x3a
const BAR = 0x7c
const HASH = 0x23
const AT = 0x40
const SEMICOLON = 0x3b
const EQUALS = 0x3d
const PLUS = 0x2b
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const SET = 0x73

/** A parser to be used again and again; its fields say what the last `parse` found. */
export class StatsdLine {
  kind: LineKind = 'metric'
  /** Why the line cannot be taken; null when it can. */
  problem: LineProblem | null = null
  type: TypeLetter = 'c'
  /** Packed values; of a set they are texts, and not here. */
  readonly values = new Float64Array(VALUES_MAX)
  count = 0
  /** Where the values stand, colons between them. */
  valuesFrom = 0
  valuesTo = 0
  /** Whether the first value had a sign: a gauge is changed by it. */
  signed = false
  /** 0 < rate ≤ 1. */
  rate = 1
  /** Milliseconds since the epoch; 0 when the line has none. */
  timeMs = 0
  /**
   * Type letter, name, `\0`, tags as they came, `\0`, container: equal for lines of the same metric. `nameEnd` and `tagsEnd` are ends in
   * it; the name begins at 1.
   */
  readonly key = Buffer.alloc(KEY_BYTES_MAX + 16)
  keyLength = 0
  nameEnd = 0
  tagsEnd = 0
  /** Tags are `;tag=value` instead of `tag:value,`. */
  graphite = false

  #containerFrom = 0
  #containerTo = 0

  /** Reads `bytes[start … end)`, without its line end. False when there is a problem. */
  parse(bytes: Uint8Array, start: number, end: number): boolean {
    this.kind = 'metric'
    this.problem = null
    this.rate = 1
    this.timeMs = 0
    this.#containerFrom = this.#containerTo = 0
    if (end - start > KEY_BYTES_MAX * 2) return this.#fail('oversized')
    if (bytes[start] === 0x5f && this.#isOther(bytes, start, end)) return true
    // The name, up to the first colon.
    let colon = start
    let semicolon = -1
    while (colon < end && bytes[colon] !== COLON) {
      if (semicolon < 0 && bytes[colon] === SEMICOLON) semicolon = colon
      colon++
    }
    if (colon === end || colon === start) return this.#fail('no_value')
    this.graphite = semicolon > start && isGraphite(bytes, semicolon, colon)
    if (this.graphite) {
      let last = end - 1
      while (last > colon && bytes[last] !== COLON) last--
      colon = last
    }
    let p = this.#readValues(bytes, colon + 1, end)
    if (p < 0) p = this.#readTexts(bytes, colon + 1, end)
    if (p < 0) return false
    this.valuesFrom = colon + 1
    this.valuesTo = p - 1
    return this.#readRest(bytes, start, this.graphite ? semicolon : colon, colon, p, end)
  }

  #fail(problem: LineProblem): false {
    this.problem = problem
    return false
  }

  /** `_e{…}:…` is an event, `_sc|…` a service check. */
  #isOther(bytes: Uint8Array, start: number, end: number): boolean {
    if (end - start > 3 && bytes[start + 1] === 0x65 && bytes[start + 2] === 0x7b) this.kind = 'event'
    else if (end - start > 4 && bytes[start + 1] === 0x73 && bytes[start + 2] === 0x63 && bytes[start + 3] === BAR)
      this.kind = 'service_check'
    return this.kind !== 'metric'
  }

  /** Values up to the bar; the position behind it, −1 when there is a problem. */
  #readValues(bytes: Uint8Array, from: number, end: number): number {
    let p = from
    this.count = 0
    this.signed = bytes[p] === PLUS || bytes[p] === MINUS
    for (;;) {
      const valueFrom = p
      while (p < end && bytes[p] !== BAR && bytes[p] !== COLON) p++
      const value = readNumber(bytes, valueFrom, p)
      if (Number.isNaN(value)) {
        this.problem = 'bad_value'
        return -1
      }
      if (this.count === VALUES_MAX) {
        this.problem = 'oversized'
        return -1
      }
      this.values[this.count++] = value
      if (p >= end) {
        this.problem = 'bad_type'
        return -1
      }
      if (bytes[p++] === BAR) return p
    }
  }

  /** What is no number may be a value of a set. The position behind the bar; −1 when it is none. */
  #readTexts(bytes: Uint8Array, from: number, end: number): number {
    if (this.problem !== 'bad_value') return -1
    let bar = from
    let count = 1
    let valueFrom = from
    while (bar < end && bytes[bar] !== BAR) {
      if (bytes[bar] === COLON) {
        if (bar === valueFrom) return -1
        valueFrom = bar + 1
        count++
      }
      bar++
    }
    const isSet = bytes[bar + 1] === SET && (bar + 2 === end || (bar + 2 < end && bytes[bar + 2] === BAR))
    if (bar + 1 >= end || bar === valueFrom || !isSet) return -1
    if (count > VALUES_MAX) {
      this.problem = 'oversized'
      return -1
    }
    this.problem = null
    this.count = count
    return bar + 1
  }

  #readRest(bytes: Uint8Array, nameFrom: number, nameTo: number, colon: number, at: number, end: number): boolean {
    let p = at
    while (p < end && bytes[p] !== BAR) p++
    if (!this.#readType(bytes, at, p)) return false
    let tagsFrom = 0
    let tagsTo = 0
    while (p < end) {
      const from = ++p
      if (bytes[from] === HASH && tagsFrom === 0) {
        tagsFrom = from + 1
        tagsTo = this.#fieldsBehindTags(bytes, tagsFrom, end)
        break
      }
      while (p < end && bytes[p] !== BAR) p++
      if (!this.#readField(bytes, from, p)) return this.#fail(bytes[from] === AT ? 'bad_rate' : 'bad_field')
    }
    if (this.graphite) {
      tagsFrom = nameTo + 1
      tagsTo = colon
    }
    return this.#makeKey(bytes, nameFrom, nameTo, tagsFrom, tagsTo)
  }

  #readType(bytes: Uint8Array, from: number, to: number): boolean {
    const letter = bytes[from]!
    if (to - from === 1) {
      if (letter === 0x63) this.type = 'c'
      else if (letter === 0x67) this.type = 'g'
      else if (letter === 0x68) this.type = 'h'
      else if (letter === 0x64) this.type = 'd'
      else if (letter === SET) this.type = 's'
      else return this.#fail('bad_type')
      return true
    }
    if (to - from !== 2 || letter !== 0x6d || bytes[from + 1] !== 0x73) return this.#fail('bad_type')
    this.type = 't'
    return true
  }

  /**
   * What stands behind the tags is told from a bar inside a tag's value by how it begins: fields are taken from the end as long
   * as they are ones. Returns where the tags end.
   */
  #fieldsBehindTags(bytes: Uint8Array, from: number, end: number): number {
    let to = end
    for (;;) {
      let bar = to - 1
      while (bar >= from && bytes[bar] !== BAR) bar--
      if (bar < from || !this.#readField(bytes, bar + 1, to)) return to
      to = bar
    }
  }

  /** `@rate`, `c:container`, `T seconds`, `e:external data`, `card:cardinality`. False when it is none. */
  #readField(bytes: Uint8Array, from: number, to: number): boolean {
    const first = bytes[from]
    if (to === from) return false
    if (first === AT) {
      const rate = readNumber(bytes, from + 1, to)
      if (!(rate > 0 && rate <= 1)) return false
      this.rate = rate
      return true
    }
    if (first === 0x54) {
      const seconds = readNumber(bytes, from + 1, to)
      if (!(seconds > 0 && seconds < 1e11)) return false
      this.timeMs = seconds * 1000
      return true
    }
    if (to - from > 1 && bytes[from + 1] === COLON && (first === 0x63 || first === 0x65)) {
      if (first === 0x63) {
        this.#containerFrom = from + 2
        this.#containerTo = to
      }
      return true
    }
    return (
      to - from > 5 &&
      first === 0x63 &&
      bytes[from + 1] === 0x61 &&
      bytes[from + 2] === 0x72 &&
      bytes[from + 3] === 0x64 &&
      bytes[from + 4] === COLON
    )
  }

  #makeKey(bytes: Uint8Array, nameFrom: number, nameTo: number, tagsFrom: number, tagsTo: number): boolean {
    const { key } = this
    const length = nameTo - nameFrom + tagsTo - tagsFrom + this.#containerTo - this.#containerFrom
    if (length > KEY_BYTES_MAX) return this.#fail('oversized')
    key[0] = this.type.charCodeAt(0)
    let at = 1
    for (let k = nameFrom; k < nameTo; k++) key[at++] = bytes[k]!
    this.nameEnd = at
    this.tagsEnd = at
    if (tagsTo > tagsFrom || this.#containerTo > 0) {
      key[at++] = this.graphite ? SEMICOLON : 0
      for (let k = tagsFrom; k < tagsTo; k++) key[at++] = bytes[k]!
      this.tagsEnd = at
      if (this.#containerTo > 0) {
        key[at++] = 0
        for (let k = this.#containerFrom; k < this.#containerTo; k++) key[at++] = bytes[k]!
      }
    }
    this.keyLength = at
    return true
  }
}

/** Whether all that follows the first semicolon is `tag=value`, as far as one can see before the first colon. */
function isGraphite(bytes: Uint8Array, semicolon: number, end: number): boolean {
  let at = semicolon
  while (at < end) {
    const from = ++at
    while (at < end && bytes[at] !== EQUALS && bytes[at] !== SEMICOLON) at++
    if (at === from || at >= end || bytes[at] !== EQUALS) return false
    while (at < end && bytes[at] !== SEMICOLON) at++
  }
  return true
}

/** A decimal number; NaN when it is none. `NaN`, `inf` and hexadecimal are none. */
export function readNumber(bytes: Uint8Array, from: number, to: number): number {
  let p = from
  const negative = bytes[p] === MINUS
  if (negative || bytes[p] === PLUS) p++
  const digitsFrom = p
  let value = 0
  while (p < to) {
    const digit = bytes[p]! - ZERO
    if (digit < 0 || digit > 9) break
    value = value * 10 + digit
    p++
  }
  const digits = p - digitsFrom
  if (p === to && digits > 0 && digits <= 15) return negative ? -value : value
  if (to - from > 64 || to === digitsFrom) return Number.NaN
  if (digits > 0 && digits <= 9 && bytes[p] === DOT && to - p - 1 <= 6) {
    let fraction = 0
    let q = p + 1
    while (q < to && bytes[q]! >= ZERO && bytes[q]! <= ZERO + 9) fraction = fraction * 10 + bytes[q++]! - ZERO
    // Below 2^53 both parts are exact, and one division rounds once.
    if (q === to && q > p + 1) {
      const scaled = (value * POWERS[to - p - 1]! + fraction) / POWERS[to - p - 1]!
      return negative ? -scaled : scaled
    }
  }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('latin1')
  if (!/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)) return Number.NaN
  const number = Number(text)
  return Number.isFinite(number) ? number : Number.NaN
}

const POWERS = [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
