import type { KnownColumn } from './columns.ts'
import { flagNames } from './columns.ts'

/** Types a page of rows can be sent as; the first is the default. */
export const ROW_TYPES = ['application/json', 'application/x-ndjson', 'text/csv'] as const
export type RowType = (typeof ROW_TYPES)[number]

/** The type that the client likes best; JSON when it names none that we have. */
export function negotiate(accept: string | undefined): RowType {
  let best: { type: RowType; weight: number } | undefined
  for (const item of (accept ?? '').toLowerCase().split(',').slice(0, 50)) {
    const [range, ...parameters] = item.split(';').map((part) => part.trim())
    const quality = parameters.find((parameter) => parameter.startsWith('q='))
    const weight = quality === undefined ? 1 : Number(quality.slice(2))
    const type = ROW_TYPES.find((candidate) => candidate === range || `${candidate.split('/')[0]}/*` === range)
    if (type === undefined || !(weight > 0)) continue
    if (best === undefined || weight > best.weight) best = { type, weight }
  }
  return best?.type ?? 'application/json'
}

export type CellValue = string | number | boolean | null | Readonly<Record<string, string>>

/** A value of the store as the API shows it: times as RFC 3339 with all their digits, flags by name. */
export function cellOf(column: KnownColumn, value: CellValue): CellValue {
  if (column.kind === 'time' && typeof value === 'string') return `${value.replace(' ', 'T')}Z`
  if (column.kind === 'flags') return flagNames(BigInt(value as number | string))
  return value
}

/** One row as a line of JSON, or of CSV without the line end. */
export function rowText(
  type: RowType,
  columns: readonly KnownColumn[],
  row: Readonly<Record<string, CellValue>>,
): string {
  if (type === 'text/csv') {
    return columns.map((column) => csvField(cellOf(column, row[column.name]!))).join(',')
  }
  return JSON.stringify(Object.fromEntries(columns.map((column) => [column.name, cellOf(column, row[column.name]!)])))
}

/** RFC 4180: quotes where a field has a comma, a quote or a line end; missing is empty, a map is JSON. */
export function csvField(value: CellValue): string {
  if (value === null) return ''
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value)
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
