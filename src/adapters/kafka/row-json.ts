import type { NativeBlockColumns } from '../../model/native-read.ts'
import { PUBLIC_ROW_COLUMNS } from '../../model/schema.ts'
import { type RowColumn, rowColumn } from '../../pipeline/row-values.ts'

/**
 * Rows as JSON, by the names and in the forms of the API: times as RFC 3339 with nanoseconds, durations in ns, flags by their
 * short names. What is missing or empty is left out.
 */
export function rowJson(block: NativeBlockColumns, names: readonly string[]): (row: number) => string {
  const writers = names.map((name) => fieldWriter(rowColumn(block, name)))
  return (row) => {
    let text = ''
    for (const write of writers) text += write(row)
    return text === '' ? '{}' : `{${text.slice(1)}}`
  }
}

/** In the order of the schema. */
export const JSON_COLUMNS: readonly string[] = PUBLIC_ROW_COLUMNS.map(({ name }) => name)

/** `,"name":value`, or nothing. */
function fieldWriter(column: RowColumn): (row: number) => string {
  const before = `,${JSON.stringify(column.name)}:`
  switch (column.kind) {
    case 'number':
    case 'duration':
      return (row) => (column.isNull(row) ? '' : before + column.text(row))
    case 'bool':
      return (row) => before + (column.number(row) === 1 ? 'true' : 'false')
    case 'time': {
      let last = { second: -1n, text: '' }
      return (row) => {
        const ns = column.bigint(row)
        const second = ns / SECOND
        if (second !== last.second) last = { second, text: secondText(second) }
        return `${before}"${last.text}.${String(ns - second * SECOND).padStart(9, '0')}Z"`
      }
    }
    case 'map':
      return (row) => {
        const entries = column.entries(row)
        return entries.length === 0 ? '' : before + JSON.stringify(Object.fromEntries(entries))
      }
    default: {
      const field = (text: string) => (text === '' ? '' : before + JSON.stringify(text))
      if (column.dictionary === null) return (row) => field(column.text(row))
      const { codes, texts } = column.dictionary
      const made: (string | undefined)[] = new Array(texts.length)
      return (row) => {
        const code = codes[row]!
        made[code] ??= field(texts[code]!)
        return made[code]
      }
    }
  }
}

const SECOND = 1_000_000_000n

/** `2026-01-01T00:00:00`; times of rows are after 1970. */
const secondText = (second: bigint): string => new Date(Number(second) * 1000).toISOString().slice(0, 19)
