import { fill, h, setAttribute } from './dom.ts'

/**
 * A real table whose rows are kept by key: an update changes the texts that differ and moves rows, so that focus,
 * selection and what the pointer is on stay.
 */
export interface Column<Row> {
  readonly id: string
  /** Text of the head; may change from update to update, as units do. */
  readonly head: string
  /** Long form of the head, as a tooltip. */
  readonly title?: string
  readonly numeric?: boolean
  /** Text of a cell, or an element that is made anew when `key` of it changes. */
  readonly cell: (row: Row) => string | CellElement
  readonly cellTitle?: (row: Row) => string | undefined
  /** What the column is sorted by; without it the column has no button. Missing values go last. */
  readonly order?: (row: Row) => number | string | null
}

export interface CellElement {
  /** Equal keys mean equal content. */
  readonly key: string
  make(): HTMLElement
}

export interface TableOptions {
  readonly caption: string
  /** Called with the column whose head was pressed. */
  readonly onSort?: (column: string) => void
}

export interface TableUpdate<Row> {
  readonly columns: readonly Column<Row>[]
  readonly rows: readonly Row[]
  readonly key: (row: Row) => string
  readonly sort?: { readonly column: string; readonly descending: boolean }
  readonly rowClass?: (row: Row) => string
  /** True number of rows, where only some are shown. */
  readonly total?: number
}

export interface Table<Row> {
  readonly element: HTMLTableElement
  update(update: TableUpdate<Row>): void
}

export function createTable<Row>({ caption, onSort }: TableOptions): Table<Row> {
  const headRow = h('tr')
  const body = h('tbody')
  const element = h('table', {}, h('caption', {}, caption), h('thead', {}, headRow), body)
  const heads = new Map<string, { readonly cell: HTMLTableCellElement; readonly label: HTMLElement }>()
  const rows = new Map<string, { readonly element: HTMLTableRowElement; readonly cells: Map<string, Cell> }>()

  const updateHeads = ({ columns, sort }: TableUpdate<Row>): void => {
    for (const column of columns) {
      let head = heads.get(column.id)
      if (head === undefined) {
        const sortable = column.order !== undefined && onSort !== undefined
        const label = sortable
          ? h('button', { type: 'button', class: 'sort', click: () => onSort(column.id) })
          : h('span')
        head = { cell: h('th', { scope: 'col' }, label), label }
        heads.set(column.id, head)
        headRow.append(head.cell)
      }
      const sorted = sort?.column === column.id
      fill(head.label, `${column.head}${sorted ? (sort.descending ? ' ▾' : ' ▴') : ''}`)
      setAttribute(head.cell, 'class', column.numeric ? 'number' : undefined)
      setAttribute(head.cell, 'title', column.title)
      setAttribute(head.cell, 'aria-sort', sorted ? (sort.descending ? 'descending' : 'ascending') : undefined)
    }
  }

  return {
    element,
    update(update) {
      updateHeads(update)
      const sorted = sortRows(update)
      setAttribute(element, 'aria-rowcount', (update.total ?? sorted.length) + 1)
      const wanted = new Set(sorted.map(update.key))
      for (const [key, row] of rows) {
        if (!wanted.has(key)) {
          row.element.remove()
          rows.delete(key)
        }
      }
      sorted.forEach((data, index) => {
        const key = update.key(data)
        let row = rows.get(key)
        if (row === undefined) {
          row = { element: h('tr'), cells: new Map() }
          rows.set(key, row)
        }
        setAttribute(row.element, 'class', update.rowClass?.(data) || undefined)
        setAttribute(row.element, 'aria-rowindex', index + 2)
        for (const column of update.columns) {
          let cell = row.cells.get(column.id)
          if (cell === undefined) {
            cell = { element: h('td'), key: null }
            row.cells.set(column.id, cell)
            row.element.append(cell.element)
          }
          updateCell(cell, column, data)
        }
        if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] ?? null)
      })
    },
  }
}

interface Cell {
  readonly element: HTMLTableCellElement
  key: string | null
}

function updateCell<Row>(cell: Cell, column: Column<Row>, data: Row): void {
  const content = column.cell(data)
  setAttribute(cell.element, 'class', column.numeric ? 'number' : undefined)
  setAttribute(cell.element, 'title', column.cellTitle?.(data))
  if (typeof content === 'string') {
    fill(cell.element, content)
    cell.key = null
  } else if (cell.key !== content.key) {
    fill(cell.element, content.make())
    cell.key = content.key
  }
}

/** Rows in order. Equal ones by key, so that two refreshes never swap them. */
export function sortRows<Row>({ columns, rows, key, sort }: TableUpdate<Row>): Row[] {
  const order = columns.find((column) => column.id === sort?.column)?.order
  if (order === undefined) return [...rows]
  const direction = sort?.descending ? -1 : 1
  return [...rows].sort((a, b) => {
    const [x, y] = [order(a), order(b)]
    if (x === null || y === null) return x === y ? compare(key(a), key(b)) : x === null ? 1 : -1
    return compare(x, y) * direction || compare(key(a), key(b))
  })
}

function compare(a: number | string, b: number | string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
