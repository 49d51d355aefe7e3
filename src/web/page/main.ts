import { ApiError, call, type StatusAnswer } from './api.ts'
import { fill, h } from './dom.ts'
import { type Figures, fetchFigures, windowOf } from './figures.ts'
import { count, span } from './format.ts'
import { createFrame } from './frame.ts'
import { createOverview } from './overview.ts'
import { createStart } from './start.ts'
import { DEFAULT_STATE, isLive, type PageState, parseState, printState } from './state.ts'
import { iso, moveWindow, type Zone, zoomWindow } from './time.ts'

/**
 * The page. Its state is the address; every change of it loads anew, and while the window ends now it loads again every
 * few seconds. A load that is overtaken is cancelled. Old figures stay while new ones are on their way, or fail to come.
 */
const REFRESH_MS = 3_000
const STATUS_MS = 10_000
/** While nothing has arrived the checklist has to feel alive. */
const START_STATUS_MS = 1_000
const DIM_AFTER_MS = 300

let state = parseState(location.hash)
let arrivedAt = location.hash
let zone: Zone = remembered('zone') === 'local' ? 'local' : 'utc'
let status: StatusAnswer | null = null
let figures: Figures | null = null
let figuresMs = 0
let failure: ApiError | null = null
let loading: AbortController | undefined
let refreshTimer: ReturnType<typeof setTimeout> | undefined
let statusTimer: ReturnType<typeof setTimeout> | undefined

const frame = createFrame({ onState: go, onZone: toggleZone })
const start = createStart()
const overview = createOverview({
  onState: go,
  onWindow: (fromMs, toMs) => go({ ...state, from: iso(fromMs), to: iso(toMs) }),
})
const notice = h('div', { class: 'notice', role: 'alert', hidden: true })
const empty = h('div', { class: 'empty', hidden: true })
const content = h('main', { id: 'content', tabindex: -1 }, notice, h('p', { class: 'quiet' }, 'Asking Sidecast …'))
document.querySelector('#app')?.append(frame.header, frame.statusBar, content)

/** Goes to another state: a new entry of the history for what is looked at, the same one for how it is sorted. */
function go(next: PageState): void {
  const looked = (each: PageState) => printState({ ...each, sort: DEFAULT_STATE.sort, descending: true })
  const hash = printState(next)
  if (looked(next) === looked(state)) history.replaceState(null, '', hash)
  else history.pushState(null, '', hash)
  arrive()
}

/** Called once by `go`, and by Back, Forward and edits of the address, which can be told twice. */
function arrive(): void {
  if (location.hash === arrivedAt) return
  arrivedAt = location.hash
  const before = state
  state = parseState(location.hash)
  render()
  const sortOnly = printState({ ...before, sort: state.sort, descending: state.descending }) === printState(state)
  const partial = figures !== null && figures.services.services.length < figures.services.rows_total
  if (!sortOnly || partial || figures === null) void load()
}

async function load(): Promise<void> {
  clearTimeout(refreshTimer)
  loading?.abort()
  const controller = new AbortController()
  loading = controller
  const dim = setTimeout(() => content.classList.add('loading'), DIM_AFTER_MS)
  try {
    const answer = await fetchFigures(state, controller.signal)
    if (controller.signal.aborted) return
    figures = answer
    figuresMs = Date.now()
    failure = null
  } catch (error) {
    if (controller.signal.aborted) return
    if (!(error instanceof ApiError)) throw error
    failure = error
  } finally {
    clearTimeout(dim)
    if (loading === controller) {
      content.classList.remove('loading')
      loading = undefined
      schedule()
    }
  }
  render()
}

async function loadStatus(): Promise<void> {
  clearTimeout(statusTimer)
  try {
    status = await call<StatusAnswer>('status', {}, AbortSignal.timeout(STATUS_MS))
  } catch {
    // The figures' own calls say what is wrong; the bar then says how old it is.
  }
  const first = status !== null && !hasRows(status)
  clearTimeout(statusTimer)
  if (!document.hidden) statusTimer = setTimeout(loadStatus, first ? START_STATUS_MS : STATUS_MS)
  render()
}

function schedule(): void {
  clearTimeout(refreshTimer)
  if (document.hidden || (!isLive(state) && failure === null)) return
  refreshTimer = setTimeout(load, REFRESH_MS)
}

function hasRows({ first_run }: StatusAnswer): boolean {
  return first_run.some((step) => step.step === 'first_row' && step.done)
}

function render(): void {
  const nowMs = Date.now()
  frame.update({
    state,
    zone,
    nowMs,
    status,
    figures: figures?.whole ?? null,
    staleSinceMs: failure !== null && figures !== null ? figuresMs : null,
  })
  showNotice()
  const n = figures?.whole.series[0]?.points[0]?.n ?? 0
  if (status !== null && !hasRows(status) && n === 0) {
    start.update(status, nowMs)
    show(start.element)
  } else if (figures !== null && n === 0) {
    showEmpty(nowMs)
    show(empty)
  } else if (figures !== null) {
    // In the document first: the chart takes its colours and its width from there.
    show(overview.element)
    overview.update(figures, state, zone)
    document.title = `${overview.element.querySelector('h1')?.textContent ?? ''} – Sidecast`
  }
}

function show(view: HTMLElement): void {
  view.hidden = false
  if (content.lastElementChild !== view) content.replaceChildren(notice, view)
}

/** A refusal, in words: what, which parameter, how to fix it. The figures before it stay. */
function showNotice(): void {
  notice.hidden = failure === null
  if (failure === null) return
  const { title, detail, code, parameter, help } = failure.problem
  const text = [title, detail, parameter === undefined ? '' : `Parameter: ${parameter}.`, help]
    .filter((part) => part !== undefined && part !== '')
    .join(' ')
  const words = `${text}${code === undefined ? '' : ` (${code})`}`
  if (notice.dataset.words === words) return
  notice.dataset.words = words
  fill(notice, h('p', {}, words), h('button', { type: 'button', click: () => void load() }, 'Retry'))
}

/** Which filter or window left nothing, and a way out of it. */
function showEmpty(nowMs: number): void {
  const rows = status?.receivers.filter(({ kind }) => kind === 'requests') ?? []
  const last = rows.flatMap(({ last_row }) => (last_row === null ? [] : [Date.parse(last_row)]))
  const newest = last.length > 0 ? Math.max(...last) : null
  const filters = state.where.length
  fill(
    empty,
    h('h1', {}, 'No requests match'),
    h(
      'p',
      {},
      filters > 0
        ? `Nothing in this window passes ${filters === 1 ? 'the filter' : `all ${count(filters)} filters`}.`
        : 'Nothing ended in this window.',
      newest === null ? '' : ` The last request of any kind arrived ${span(nowMs - newest)} ago.`,
    ),
    filters > 0 && h('button', { type: 'button', click: () => go({ ...state, where: [] }) }, 'Remove all filters'),
    h('button', { type: 'button', click: () => go(wider(nowMs)) }, 'Look at a window twice as wide'),
  )
}

function wider(nowMs: number): PageState {
  const [fromMs, toMs] = windowOf(state, nowMs)
  return isLive(state)
    ? { ...state, from: iso(toMs - 2 * (toMs - fromMs)) }
    : { ...state, ...zoomWindow(fromMs, toMs, 2) }
}

/** What only this browser remembers. Without storage, as some settings have it, nothing is. */
function remembered(name: string): string | null {
  try {
    return localStorage.getItem(name)
  } catch {
    return null
  }
}

function remember(name: string, value: string): void {
  try {
    localStorage.setItem(name, value)
  } catch {
    // The choice holds until the page is left.
  }
}

function toggleZone(): void {
  zone = zone === 'utc' ? 'local' : 'utc'
  remember('zone', zone)
  render()
}

const KEYS: Readonly<Record<string, () => void>> = {
  '/': () => frame.focusFilter(),
  u: toggleZone,
  '[': () => go({ ...state, ...moveWindow(...windowOf(state, Date.now()), -1) }),
  ']': () => go({ ...state, ...moveWindow(...windowOf(state, Date.now()), 1) }),
  '-': () => go({ ...state, ...zoomWindow(...windowOf(state, Date.now()), 2) }),
  T: () => {
    const details = document.querySelector<HTMLDetailsElement>('#points')
    if (details !== null) details.open = !details.open
  },
}

document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLElement && event.target.matches('input, select, textarea')
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return
  const action = KEYS[event.key]
  if (action === undefined) return
  event.preventDefault()
  action()
})
addEventListener('popstate', arrive)
addEventListener('hashchange', arrive)
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(refreshTimer)
    clearTimeout(statusTimer)
  } else {
    void loadStatus()
    if (isLive(state)) void load()
  }
})

render()
void loadStatus()
void load()
