/**
 * What the page shows, as its address: copy it, send it, press Back, and it is the same picture.
 *
 *   /#/?from=-15m&to=now&where=destination_service=checkout&sort=p99&set=slowest
 *
 * Values that are the default are left out; parameters this version does not know are kept.
 */
export interface PageState {
  /** As the API takes them: RFC 3339, relative (`-15m`) or `now`. */
  readonly from: string
  readonly to: string
  /** Filters, `COLUMN OP VALUE` each; all have to hold. */
  readonly where: readonly string[]
  /** Column of the services table and its direction. */
  readonly sort: string
  readonly descending: boolean
  /** Which requests the phases are of. */
  readonly set: 'all' | 'slowest'
  /** Order of the requests: newest or slowest first. */
  readonly order: 'time' | 'duration'
  /** Parameters of other versions. */
  readonly other: readonly (readonly [string, string])[]
}

export const DEFAULT_STATE: PageState = {
  from: '-15m',
  to: 'now',
  where: [],
  sort: 'n',
  descending: true,
  set: 'all',
  order: 'time',
  other: [],
}

/** Most filters that an address can have; more are ignored. */
const WHERE_MAX = 32

/** Reads `location.hash`. Never fails: what cannot be read is the default. */
export function parseState(hash: string): PageState {
  const query = hash.includes('?') ? hash.slice(hash.indexOf('?') + 1) : ''
  const parameters = new URLSearchParams(query)
  const other: (readonly [string, string])[] = []
  let state = DEFAULT_STATE
  for (const [name, value] of parameters) {
    if (name === 'from' || name === 'to') state = value === '' ? state : { ...state, [name]: value }
    else if (name === 'where') {
      if (parseWhere(value) !== null && state.where.length < WHERE_MAX && !state.where.includes(value)) {
        state = { ...state, where: [...state.where, value] }
      }
    } else if (name === 'sort') {
      const descending = !value.startsWith('+')
      state = { ...state, sort: value.replace(/^[+-]/, '') || DEFAULT_STATE.sort, descending }
    } else if (name === 'set') state = { ...state, set: value === 'slowest' ? 'slowest' : 'all' }
    else if (name === 'order') state = { ...state, order: value === 'duration' ? 'duration' : 'time' }
    else other.push([name, value])
  }
  return { ...state, other }
}

/** The hash of a state; `parseState` gives the same state back. */
export function printState(state: PageState): string {
  const parameters = new URLSearchParams()
  if (state.from !== DEFAULT_STATE.from) parameters.append('from', state.from)
  if (state.to !== DEFAULT_STATE.to) parameters.append('to', state.to)
  for (const filter of state.where) parameters.append('where', filter)
  if (state.sort !== DEFAULT_STATE.sort || !state.descending) {
    parameters.append('sort', `${state.descending ? '' : '+'}${state.sort}`)
  }
  if (state.set !== DEFAULT_STATE.set) parameters.append('set', state.set)
  if (state.order !== DEFAULT_STATE.order) parameters.append('order', state.order)
  for (const [name, value] of state.other) parameters.append(name, value)
  const query = parameters.toString()
  return query === '' ? '#/' : `#/?${query}`
}

/** Whether the window moves with the clock. */
export function isLive(state: PageState): boolean {
  return state.to === 'now'
}

export interface Filter {
  readonly column: string
  readonly operator: '=' | '!=' | '=~' | '!~' | '<' | '<=' | '>' | '>='
  readonly value: string
}

/** Reads `COLUMN OP VALUE`; null when it is none. */
export function parseWhere(text: string): Filter | null {
  const match = /^\s*([A-Za-z_]\w*)\s*(=~|!~|!=|<=|>=|=|<|>)\s*(.*?)\s*$/s.exec(text)
  if (match === null) return null
  const [, column = '', operator = '=', value = ''] = match
  return { column, operator: operator as Filter['operator'], value }
}

export function printWhere({ column, operator, value }: Filter): string {
  return `${column}${operator}${value}`
}

/** The state with a filter added; the same filter is not added twice. */
export function withFilter(state: PageState, filter: string): PageState {
  return state.where.includes(filter) ? state : { ...state, where: [...state.where, filter] }
}

export function withoutFilter(state: PageState, filter: string): PageState {
  return { ...state, where: state.where.filter((each) => each !== filter) }
}

/** The opposite of a filter: keeps what it left out. */
export function opposite(text: string): string {
  const filter = parseWhere(text)
  if (filter === null) return text
  const operators = {
    '=': '!=',
    '!=': '=',
    '=~': '!~',
    '!~': '=~',
    '<': '>=',
    '>=': '<',
    '>': '<=',
    '<=': '>',
  } as const
  return printWhere({ ...filter, operator: operators[filter.operator] })
}
