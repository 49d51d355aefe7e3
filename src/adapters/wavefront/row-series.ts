import { finish } from '../../lib/hash.ts'
import type { NativeBlockColumns } from '../../model/native-read.ts'
import { OVERFLOW } from '../../model/schema.ts'
import { rowColumn } from '../../pipeline/row-values.ts'

/**
 * Which series each row of a block belongs to, by the texts of some of its columns.
 *
 *   row ─► number of each column's text ─► tuple of numbers ─► series
 *                                            (hash table)       (described once, by its texts)
 *
 * Different tuples may be one series: texts are made fit for the target before series are told apart, since the target
 * would put them together, and points of one series and second overwrite each other there.
 *
 * Bounded: past `seriesMax`, and past the bounds on texts and tuples, rows go to the series described by `overflow` in
 * all columns but the first `kept`, so that totals stay exact by those.
 */
export interface RowSeries<S> {
  readonly list: readonly S[]
  /**
   * Series number of each row; −1 where `describe` says that the row has none, and for rows that `keep` leaves out (0), which
   * make no series. Valid until the next call.
   */
  resolve(block: NativeBlockColumns, keep?: Uint8Array | null): Int32Array
  /** Whether a series is one of those that take what the bounds do not let in. */
  isOverflow(series: number): boolean
  /** The one for these texts of the first `kept` columns. */
  overflow(kept: readonly string[]): number
}

export interface RowSeriesOptions<S> {
  /** Public columns of the row tables. */
  readonly columns: readonly string[]
  /** By the texts of the columns, '' where missing; `key` is the same for what is one series. Null: none. */
  readonly describe: (texts: readonly string[]) => { readonly key: string; readonly series: S } | null
  /** Columns, from the first on, that have few texts by their nature. */
  readonly kept: number
  /** Series that are not overflow. */
  readonly seriesMax: number
}

/** Texts of one column, by number and by size. */
const TEXTS_MAX = 1 << 17
const TEXT_BYTES_MAX = 4 * 1024 * 1024
/** In memory for each text beside its characters. */
const TEXT_BYTES = 64
/** Tuples that are told apart; further ones overflow. */
const TUPLES_MAX = 1 << 17
const NO_SERIES = -1

export function createRowSeries<S>(options: RowSeriesOptions<S>): RowSeries<S> {
  const { columns, describe, kept, seriesMax } = options
  const width = columns.length
  const texts = columns.map(() => new TextNumbers())
  const list: S[] = []
  const byKey = new Map<string, number>()
  let tuples = new Int32Array(width * 1024)
  let seriesOf = new Int32Array(1024)
  let slots = new Int32Array(4096)
  let count = 0
  /** By the texts of the kept columns. */
  const overflows = new Map<string, number>()
  const overflowing = new Set<number>()
  let resolved = new Int32Array(0)
  const tuple = new Int32Array(width)

  function overflow(texts: readonly string[]): number {
    const key = texts.slice(0, kept).join('\0')
    let series = overflows.get(key)
    if (series === undefined) {
      const described = describe(columns.map((_, k) => (k < kept ? texts[k]! : OVERFLOW)))
      series = described === null ? NO_SERIES : add(described)
      overflows.set(key, series)
      overflowing.add(series)
    }
    return series
  }

  function add({ key, series }: { readonly key: string; readonly series: S }): number {
    const known = byKey.get(key)
    if (known !== undefined) return known
    byKey.set(key, list.length)
    return list.push(series) - 1
  }

  const textOf = (k: number): string => (tuple[k] === TextNumbers.NONE ? OVERFLOW : texts[k]!.text(tuple[k]!))

  /** The series of a tuple seen for the first time. */
  function create(): number {
    if (count === TUPLES_MAX || tuple.includes(TextNumbers.NONE)) {
      return overflow(Array.from({ length: kept }, (_, k) => textOf(k)))
    }
    const named = columns.map((_, k) => textOf(k))
    const described = describe(named)
    if (described === null) return NO_SERIES
    if (!byKey.has(described.key) && list.length - overflowing.size >= seriesMax) return overflow(named)
    return add(described)
  }

  function hashOf(numbers: Int32Array, from: number): number {
    let hash = 0
    for (let k = 0; k < width; k++) hash = Math.imul(hash ^ numbers[from + k]!, 0x9e3779b1) + k
    return finish(hash)
  }

  function find(): number {
    const mask = slots.length - 1
    let at = hashOf(tuple, 0) & mask
    for (; slots[at] !== 0; at = (at + 1) & mask) {
      const from = (slots[at]! - 1) * width
      let same = true
      for (let k = 0; same && k < width; k++) same = tuples[from + k] === tuple[k]
      if (same) return seriesOf[slots[at]! - 1]!
    }
    const series = create()
    if (count === TUPLES_MAX) return series
    if (count === seriesOf.length) grow()
    tuples.set(tuple, count * width)
    seriesOf[count] = series
    count++
    // No more than half full.
    if (slots.length < 2 * count) rehash()
    else slots[at] = count
    return series
  }

  function grow(): void {
    const wider = new Int32Array(2 * tuples.length)
    wider.set(tuples)
    tuples = wider
    const longer = new Int32Array(2 * seriesOf.length)
    longer.set(seriesOf)
    seriesOf = longer
  }

  function rehash(): void {
    slots = new Int32Array(2 * slots.length)
    const mask = slots.length - 1
    for (let number = 0; number < count; number++) {
      let at = hashOf(tuples, number * width) & mask
      while (slots[at] !== 0) at = (at + 1) & mask
      slots[at] = number + 1
    }
  }

  return {
    list,
    overflow,
    isOverflow: (series) => overflowing.has(series),
    resolve(block, keep = null) {
      if (resolved.length < block.rows) resolved = new Int32Array(Math.max(block.rows, 2 * resolved.length))
      const varying: { readonly k: number; readonly numbers: Int32Array }[] = []
      columns.forEach((name, k) => {
        const numbers = numbersOf(block, name, texts[k]!)
        if (typeof numbers === 'number') tuple[k] = numbers
        else varying.push({ k, numbers })
      })
      for (let row = 0; row < block.rows; row++) {
        if (keep !== null && keep[row] === 0) {
          resolved[row] = NO_SERIES
          continue
        }
        for (const { k, numbers } of varying) tuple[k] = numbers[row]!
        resolved[row] = find()
      }
      return resolved.subarray(0, block.rows)
    },
  }
}

/** Texts of one column by number, in the order in which they came. */
class TextNumbers {
  /** What the bound does not let in. */
  static readonly NONE = -1
  readonly #numbers = new Map<string, number>()
  readonly #texts: string[] = []
  #bytes = 0

  numberOf(text: string): number {
    const known = this.#numbers.get(text)
    if (known !== undefined) return known
    const bytes = this.#bytes + 2 * text.length + TEXT_BYTES
    if (this.#texts.length === TEXTS_MAX || bytes > TEXT_BYTES_MAX) return TextNumbers.NONE
    this.#bytes = bytes
    this.#numbers.set(text, this.#texts.length)
    return this.#texts.push(text) - 1
  }

  text(number: number): string {
    return this.#texts[number]!
  }
}

/** Numbers of the texts of all rows; one number where all have the same. */
function numbersOf(block: NativeBlockColumns, name: string, texts: TextNumbers): Int32Array | number {
  const column = rowColumn(block, name)
  const numbers = new Int32Array(block.rows)
  if (column.dictionary !== null) {
    const { codes, texts: words } = column.dictionary
    if (words.length === 1) return texts.numberOf(words[0]!)
    const byCode = Int32Array.from(words, (word) => texts.numberOf(word))
    for (let row = 0; row < block.rows; row++) numbers[row] = byCode[codes[row]!]!
    return numbers
  }
  if (column.kind === 'number') {
    const byValue = new Map<number, number>()
    for (let row = 0; row < block.rows; row++) {
      const value = column.isNull(row) ? Number.NaN : column.number(row)
      let number = byValue.get(value)
      if (number === undefined) {
        number = texts.numberOf(column.text(row))
        byValue.set(value, number)
      }
      numbers[row] = number
    }
    return numbers
  }
  for (let row = 0; row < block.rows; row++) numbers[row] = texts.numberOf(column.text(row))
  return numbers
}
