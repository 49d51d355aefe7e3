import {
  type LatencyPoint,
  PHASES,
  type PhaseSeries,
  type RequestRow,
  type ServiceRow,
  type ServicesAnswer,
} from './api.ts'
import { createLatencyChart } from './chart.ts'
import {
  type PhaseRow,
  phaseColumns,
  pointColumns,
  requestColumns,
  SERVICE,
  serviceColumns,
  serviceOf,
} from './columns.ts'
import { fill, h, setAttribute } from './dom.ts'
import type { Figures } from './figures.ts'
import { count, duration, unitFor } from './format.ts'
import { phaseMeans } from './phases.ts'
import { headline, health } from './sentences.ts'
import { type PageState, withFilter } from './state.ts'
import { stripCell } from './strip.ts'
import { createTable } from './table.ts'
import { windowText, type Zone } from './time.ts'

export interface OverviewOptions {
  readonly onState: (state: PageState) => void
  /** Chooses a window by dragging. */
  readonly onWindow: (fromMs: number, toMs: number) => void
}

export interface Overview {
  readonly element: HTMLElement
  update(figures: Figures, state: PageState, zone: Zone): void
}

export function createOverview({ onState, onWindow }: OverviewOptions): Overview {
  let state: PageState | undefined
  const change = (next: (state: PageState) => PageState): void => {
    if (state !== undefined) onState(next(state))
  }
  const title = h('h1')
  const subtitle = h('p', { class: 'quiet' })
  const chart = createLatencyChart({ onWindow })
  const pointsTable = createTable<LatencyPoint>({ caption: 'Latency over time' })
  const phasesTable = createTable<PhaseRow>({ caption: 'Where the time goes, by phase' })
  const phasesNote = h('p', { class: 'quiet' })
  const phasesStrip = h('div', { class: 'wide-strip' })
  const setChoice = choice('set', 'Mean of', [
    ['all', 'all requests'],
    ['slowest', 'the slowest 1 %'],
  ])
  const services = createTable<ServiceRow>({
    caption: 'Services',
    onSort: (column) =>
      change((now) => ({
        ...now,
        sort: column,
        descending: now.sort === column ? !now.descending : column !== SERVICE,
      })),
  })
  const servicesNote = h('p', { class: 'quiet' })
  const requests = createTable<RequestRow>({ caption: 'Requests' })
  const orderChoice = choice('order', 'Order', [
    ['time', 'newest'],
    ['duration', 'slowest'],
  ])

  function choice(name: 'set' | 'order', label: string, values: readonly (readonly [string, string])[]) {
    const inputs = values.map(([value, text]) => {
      const input = h('input', {
        type: 'radio',
        name,
        value,
        change: () => change((now) => ({ ...now, [name]: value })),
      })
      return { value, input, label: h('label', {}, input, text) }
    })
    return {
      element: h('fieldset', { class: 'choice' }, h('legend', {}, label), ...inputs.map((each) => each.label)),
      set(value: string) {
        for (const each of inputs) each.input.checked = each.value === value
      },
    }
  }

  const scroll = (label: string, table: HTMLElement) =>
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label }, table)
  const element = h(
    'div',
    { class: 'overview' },
    title,
    subtitle,
    h(
      'div',
      { class: 'pair' },
      h(
        'section',
        { 'aria-labelledby': 'h-latency' },
        h('h2', { id: 'h-latency' }, 'Latency over time'),
        chart.element,
        h(
          'details',
          { id: 'points' },
          h('summary', {}, 'As a table'),
          scroll('Latency over time', pointsTable.element),
        ),
      ),
      h(
        'section',
        { 'aria-labelledby': 'h-phases' },
        h('h2', { id: 'h-phases' }, 'Where the time goes'),
        setChoice.element,
        phasesStrip,
        scroll('Phases', phasesTable.element),
        phasesNote,
      ),
    ),
    h(
      'section',
      { 'aria-labelledby': 'h-services' },
      h('h2', { id: 'h-services' }, 'Services'),
      scroll('Services', services.element),
      servicesNote,
    ),
    h(
      'section',
      { 'aria-labelledby': 'h-requests' },
      h('h2', { id: 'h-requests' }, 'Requests'),
      orderChoice.element,
      scroll('Requests', requests.element),
    ),
  )

  return {
    element,
    update(figures, nowState, zone) {
      state = nowState
      const precisionNs = figures.whole.precision_ns ?? 1
      const whole = figures.whole.series[0]?.points[0]
      const phases = figures.phases.series[0]
      const points = figures.latency.series[0]?.points ?? []
      const means = phases === undefined ? null : phaseMeans(phases)

      fill(
        title,
        headline({
          subject: subjectOf(nowState),
          p99: whole?.quantiles['0.99'] ?? null,
          n: whole?.n ?? 0,
          phases: means,
          set: nowState.set,
          errorRatio: errorRatioOf(figures.services),
        }),
      )
      fill(subtitle, methodText(figures, zone))
      chart.update({
        points,
        fromMs: Date.parse(figures.latency.from),
        toMs: Date.parse(figures.latency.to),
        stepMs: figures.stepMs,
        throughMs: figures.latency.through === null ? null : Date.parse(figures.latency.through),
        zone,
        precisionNs,
      })
      pointsTable.update({
        columns: pointColumns(points, zone, precisionNs),
        rows: [...points].reverse(),
        key: (point) => point.time,
      })
      setChoice.set(nowState.set)
      updatePhases(phases, precisionNs, nowState.set)
      updateServices(figures, nowState, precisionNs)
      orderChoice.set(nowState.order)
      requests.update({
        columns: requestColumns(figures.requests.rows, zone),
        rows: figures.requests.rows,
        key: (row) => `${row.stream_id} ${row.end_time} ${row.duration_ns}`,
        rowClass: (row) => row.class ?? '',
      })
    },
  }

  function updatePhases(series: PhaseSeries | undefined, precisionNs: number, set: PageState['set']): void {
    const means = series === undefined ? null : phaseMeans(series)
    const cell = stripCell(means)
    if (phasesStrip.dataset.key !== cell.key) {
      phasesStrip.dataset.key = cell.key
      fill(phasesStrip, cell.make())
    }
    const rows: PhaseRow[] =
      series === undefined || series.n === 0
        ? []
        : [...PHASES, 'total' as const].map((phase) => ({ phase, ...series[phase] }))
    const unit = unitFor([series?.total.mean])
    phasesTable.update({
      columns: phaseColumns(unit, precisionNs),
      rows,
      key: (row) => row.phase,
      rowClass: (row) => (row.phase === 'total' ? 'total' : ''),
    })
    const without = series?.without_phases ?? 0
    fill(
      phasesNote,
      [
        `Means of ${set === 'all' ? 'all' : 'the slowest 1 %:'} ${count(series?.n ?? 0)} requests; they add up to the total. Percentiles of phases do not.`,
        without > 0 ? `${count(without)} more come from sources without time points.` : '',
        precisionNs > 1_000 ? `Rounded to ${duration(precisionNs / 1e6)}: that is what the source knows.` : '',
      ]
        .filter((part) => part !== '')
        .join(' '),
    )
  }

  function updateServices({ services: answer, phasesByService }: Figures, now: PageState, precisionNs: number): void {
    const strips = new Map(phasesByService.series.map((series) => [series.labels[SERVICE] ?? '', phaseMeans(series)]))
    const unit = unitFor(answer.services.map((row) => row.p99.value))
    services.update({
      columns: serviceColumns({
        unit,
        precisionNs,
        strips,
        set: now.set,
        open: (service) => change((from) => withFilter(from, `${SERVICE}=${service}`)),
      }),
      rows: answer.services,
      key: serviceOf,
      sort: { column: now.sort, descending: now.descending },
      rowClass: (row) => health(row).state,
      total: answer.rows_total,
    })
    const more = answer.rows_total - answer.services.length
    fill(servicesNote, more > 0 ? `${count(more)} more services come after these. Filter to see them.` : '')
    setAttribute(servicesNote, 'hidden', more <= 0)
  }
}

/** Of everything; null when the answer left services out, because a part is not the whole. */
function errorRatioOf({ services, rows_total }: ServicesAnswer): number | null {
  const n = services.reduce((sum, row) => sum + row.n, 0)
  if (n === 0 || services.length < rows_total) return null
  return services.reduce((sum, row) => sum + row.n * row.error_ratio, 0) / n
}

function subjectOf(state: PageState): string {
  const service = state.where.find((filter) => filter.startsWith(`${SERVICE}=`))
  const others = state.where.length - (service === undefined ? 0 : 1)
  const name = service === undefined ? 'All services' : service.slice(SERVICE.length + 1)
  return others > 0 ? `${name}, ${others} ${others === 1 ? 'filter' : 'filters'}` : name
}

function methodText({ whole, latency }: Figures, zone: Zone): string {
  const how =
    whole.method === 'exact'
      ? 'every percentile exact, from the requests themselves'
      : 'percentiles within 0.55 %, from histograms'
  return `${windowText(latency.from, latency.to, 0, zone)}, ${how}; view ${whole.view}.`
}
