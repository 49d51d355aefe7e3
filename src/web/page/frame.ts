import type { Envelope, StatusAnswer } from './api.ts'
import { fill, h, setAttribute } from './dom.ts'
import { bytes, count, span } from './format.ts'
import { lossSentence } from './sentences.ts'
import { opposite, type PageState, parseWhere, withFilter, withoutFilter } from './state.ts'
import { clock, windowText, type Zone, zoneName } from './time.ts'

/** The frame around every view: what is looked at (filters and window), and whether the page can be trusted. */
export interface FrameOptions {
  readonly onState: (state: PageState) => void
  readonly onZone: () => void
}

export interface FrameUpdate {
  readonly state: PageState
  readonly zone: Zone
  readonly nowMs: number
  readonly status: StatusAnswer | null
  /** Envelope of the figures on the page. */
  readonly figures: Envelope | null
  /** Since when the figures are old, because the last call failed. */
  readonly staleSinceMs: number | null
}

export interface Frame {
  readonly header: HTMLElement
  readonly statusBar: HTMLElement
  update(update: FrameUpdate): void
  focusFilter(): void
}

const WINDOWS = ['-5m', '-15m', '-1h', '-6h', '-24h', '-7d'] as const

export function createFrame({ onState, onZone }: FrameOptions): Frame {
  let state: PageState | undefined
  const error = h('p', { class: 'field-error', id: 'filter-error', role: 'alert' })
  const input = h('input', {
    id: 'filter',
    type: 'text',
    placeholder: 'filter: response_code>=500   ( / )',
    'aria-label': 'Add a filter, COLUMN OP VALUE',
    'aria-describedby': 'filter-error',
    autocomplete: 'off',
    spellcheck: 'false',
  })
  const form = h(
    'form',
    {
      class: 'filter',
      submit: (event) => {
        event.preventDefault()
        const text = input.value.trim()
        if (state === undefined || text === '') return
        if (parseWhere(text) === null) {
          fill(error, `“${text}” is no filter. Write COLUMN OP VALUE, for example response_code>=500 or method=GET.`)
          setAttribute(input, 'aria-invalid', 'true')
          return
        }
        fill(error, '')
        setAttribute(input, 'aria-invalid', undefined)
        input.value = ''
        onState(withFilter(state, text))
      },
    },
    input,
    h('button', { type: 'submit' }, 'Add'),
  )
  const windows = h('select', {
    'aria-label': 'Time window',
    change: () => {
      if (state !== undefined && windows.value !== '') onState({ ...state, from: windows.value, to: 'now' })
    },
  })
  const zoneButton = h('button', { type: 'button', title: 'Times in UTC or in your zone ( u )', click: () => onZone() })
  const chips = h('ul', { class: 'chips', 'aria-label': 'Filters in force' })
  const header = h(
    'header',
    {},
    h('div', { class: 'bar' }, h('a', { class: 'brand', href: '#/' }, 'Sidecast'), form, windows, zoneButton),
    error,
    chips,
  )
  const statusBar = h('p', { class: 'status', role: 'status' })

  return {
    header,
    statusBar,
    focusFilter: () => input.focus(),
    update(update) {
      const { zone, nowMs } = update
      if (
        state === undefined ||
        state.from !== update.state.from ||
        state.to !== update.state.to ||
        windows.childElementCount === 0
      ) {
        fillWindows(windows, update.state, nowMs, zone)
      }
      if (state?.where !== update.state.where) fillChips(chips, update.state, onState)
      state = update.state
      fill(zoneButton, zoneName(zone, nowMs))
      fill(statusBar, statusText(update))
      setAttribute(statusBar, 'class', `status${update.staleSinceMs === null ? '' : ' stale'}`)
    },
  }
}

function fillWindows(select: HTMLSelectElement, state: PageState, nowMs: number, zone: Zone): void {
  const known = state.to === 'now' && (WINDOWS as readonly string[]).includes(state.from)
  const option = (value: string, text: string) => h('option', { value }, text)
  fill(
    select,
    known ? null : option('', windowText(state.from, state.to, nowMs, zone)),
    ...WINDOWS.map((from) => option(from, windowText(from, 'now', nowMs, zone))),
  )
  select.value = known ? state.from : ''
}

function fillChips(list: HTMLElement, state: PageState, onState: (state: PageState) => void): void {
  fill(
    list,
    ...state.where.map((filter) =>
      h(
        'li',
        { class: 'chip' },
        h('code', {}, filter),
        h(
          'button',
          {
            type: 'button',
            title: 'Keep what this leaves out, and the other way round',
            'aria-label': `Invert filter ${filter}`,
            click: () =>
              onState({ ...state, where: state.where.map((each) => (each === filter ? opposite(each) : each)) }),
          },
          '≠',
        ),
        h(
          'button',
          {
            type: 'button',
            'aria-label': `Remove filter ${filter}`,
            click: () => onState(withoutFilter(state, filter)),
          },
          '×',
        ),
      ),
    ),
  )
  list.hidden = state.where.length === 0
}

/** The answer to "can I trust this page?". */
function statusText({ figures, status, zone, nowMs, staleSinceMs }: FrameUpdate): string {
  const parts: string[] = []
  const through = figures?.through ?? status?.through ?? null
  if (staleSinceMs !== null) parts.push(`as of ${clock(staleSinceMs, zone)}, ${span(nowMs - staleSinceMs)} old`)
  parts.push(through === null ? 'nothing complete yet' : `complete until ${clock(Date.parse(through), zone)}`)
  if (status !== null) {
    const { connected, seen } = status.nodes
    parts.push(
      `${count(connected)} ${connected === 1 ? 'proxy' : 'proxies'}${seen > connected ? ` of ${count(seen)}` : ''}`,
    )
  }
  if (figures !== null) parts.push(lossSentence(figures.coverage))
  if (status !== null) {
    const { store, disk } = status
    if (!store.ready) parts.push(`store does not answer, ${count(store.waiting_rows)} rows wait`)
    else if (disk.store_bytes !== null) parts.push(`store ${bytes(disk.store_bytes)}`)
    if (disk.full) parts.push('disk full: nothing more is stored')
    else if (disk.days_left !== null) parts.push(`${Math.floor(disk.days_left)} d left`)
    const { last_reload: reload } = status.config
    if (reload?.taken === false) parts.push(`the last reload was refused: ${reload.reasons[0] ?? 'see the log'}`)
    const rejected = status.receivers.reduce((sum, receiver) => sum + receiver.rejected, 0)
    if (rejected > 0) parts.push(`${count(rejected)} entries could not be read`)
  }
  return parts.join(' · ')
}
