import {
  type LatencyAnswer,
  PHASES,
  type PhaseSeries,
  type PhasesAnswer,
  type RequestRow,
  type RequestsAnswer,
  type ServiceRow,
  type ServicesAnswer,
} from './api.ts'
import { createLatencyChart, QUANTILES } from './chart.ts'
import { fill, h, setAttribute } from './dom.ts'
import { boundsText, count, doubtText, duration, MISSING, percent, rate, unitFor } from './format.ts'
import { PHASE_TEXT, phaseMeans, phasesOf } from './phases.ts'
import { enoughFor, headline, health } from './sentences.ts'
import { type PageState, withFilter } from './state.ts'
import { stripCell } from './strip.ts'
import { type Column, createTable } from './table.ts'
import { clock, windowText, type Zone } from './time.ts'

/** Everything one picture of the overview is made of, from answers to one window and one set of filters. */
export interface Figures {
  readonly services: ServicesAnswer
  /** Quantiles over time, and of the whole window. */
  readonly latency: LatencyAnswer
  readonly whole: LatencyAnswer
  /** Of all requests or the slowest, together and by service. */
  readonly phases: PhasesAnswer
  readonly phasesByService: PhasesAnswer
  readonly requests: RequestsAnswer
  readonly stepMs: number
}

export interface OverviewOptions {
  readonly onState: (state: PageState) => void
  /** Chooses a window by dragging. */
  readonly onWindow: (fromMs: number, toMs: number) => void
}

export interface Overview {
  readonly element: HTMLElement
  update(figures: Figures, state: PageState, zone: Zone): void
}

/** Share of the requests that "the slowest" means. */
export const SLOWEST = 0.01
const SERVICE = 'destination_service'

export function createOverview({ onState, onWindow }: OverviewOptions): Overview {
  let state: PageState | undefined
  const change = (next: (state: PageState) => PageState): void => {
    if (state !== undefined) onState(next(state))
  }
  const title = h('h1')
  const subtitle = h('p', { class: 'quiet' })
  const chart = createLatencyChart({ onWindow })
  const pointsTable = createTable<LatencyAnswer['series'][number]['points'][number]>({ caption: 'Latency over time' })
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
    fill(servicesNote, more > 0 ? `${count(more)} more services with fewer requests. Filter to see them.` : '')
    setAttribute(servicesNote, 'hidden', more <= 0)
  }
}

type PhaseRow = { readonly phase: (typeof PHASES)[number] | 'total' } & PhaseSeries['total']

function phaseColumns(unit: ReturnType<typeof unitFor>, precisionNs: number): Column<PhaseRow>[] {
  const quantile = (q: string): Column<PhaseRow> => ({
    id: q,
    head: `p${Number(q) * 100} ${unit}`,
    numeric: true,
    cell: (row) => duration(row.quantiles[q], { unit, bare: true, precisionNs }),
    cellTitle: (row) => titleOf(row.quantiles[q]),
  })
  return [
    {
      id: 'phase',
      head: 'phase',
      cell: ({ phase }) => ({
        key: phase,
        make: () =>
          h(
            'span',
            { class: 'phase-name' },
            h('span', { class: `swatch ${phase}`, 'aria-hidden': 'true' }),
            phase,
            phase === 'total' ? '' : h('span', { class: 'owner' }, PHASE_TEXT[phase].owner),
          ),
      }),
      cellTitle: ({ phase }) => (phase === 'total' ? undefined : PHASE_TEXT[phase].meaning),
    },
    {
      id: 'mean',
      head: `mean ${unit}`,
      numeric: true,
      cell: (row) => duration(row.mean, { unit, bare: true, precisionNs }),
    },
    { id: 'share', head: 'share', numeric: true, cell: (row) => percent(row.share, 1_000) },
    quantile('0.5'),
    quantile('0.99'),
  ]
}

function serviceColumns(options: {
  readonly unit: ReturnType<typeof unitFor>
  readonly precisionNs: number
  readonly strips: ReadonlyMap<string, ReturnType<typeof phaseMeans>>
  readonly set: PageState['set']
  readonly open: (service: string) => void
}): Column<ServiceRow>[] {
  const { unit, precisionNs, strips } = options
  const quantile = (id: 'p50' | 'p90' | 'p99', q: number): Column<ServiceRow> => ({
    id,
    head: `${id} ${unit}`,
    title: 'Nearest rank; the true value is within the bound that each cell names',
    numeric: true,
    // Below the limit there is no upper end: the value is shown, and marked.
    cell: (row) => `${duration(row[id], { unit, bare: true, precisionNs })}${enoughFor(q, row.n) ? '' : ' °'}`,
    cellTitle: (row) => `${titleOf(row[id])}${enoughFor(q, row.n) ? '' : `; n = ${count(row.n)}: too few for ${id}`}`,
    order: (row) => row[id].value,
  })
  return [
    {
      id: SERVICE,
      head: 'service',
      cell: (row) => ({
        key: serviceOf(row),
        make: () =>
          h('button', { type: 'button', class: 'link', click: () => options.open(serviceOf(row)) }, serviceOf(row)),
      }),
      cellTitle: (row) => `Only ${serviceOf(row)}`,
      order: serviceOf,
    },
    { id: 'state', head: 'state', cell: (row) => health(row).text },
    { id: 'n', head: 'requests', numeric: true, cell: (row) => count(row.n), order: (row) => row.n },
    { id: 'rate', head: 'per s', numeric: true, cell: (row) => rate(row.rate), order: (row) => row.rate },
    {
      id: 'error_ratio',
      head: 'errors',
      title: 'Share of class server_error: the service or a proxy failed, also after the headers',
      numeric: true,
      cell: (row) => percent(row.error_ratio, row.n),
      order: (row) => row.error_ratio,
    },
    {
      id: 'aborted_ratio',
      head: 'aborted',
      title: 'Share of class aborted: the client left before the answer was complete',
      numeric: true,
      cell: (row) => percent(row.aborted_ratio, row.n),
      order: (row) => row.aborted_ratio,
    },
    quantile('p50', 0.5),
    quantile('p90', 0.9),
    quantile('p99', 0.99),
    {
      id: 'phases',
      head: options.set === 'all' ? 'phases (mean)' : 'phases (slowest 1 %)',
      cell: (row) => stripCell(strips.get(serviceOf(row)) ?? null),
    },
  ]
}

function pointColumns(
  points: LatencyAnswer['series'][number]['points'],
  zone: Zone,
  precisionNs: number,
): Column<LatencyAnswer['series'][number]['points'][number]>[] {
  const unit = unitFor(points.map((point) => point.quantiles['0.99']?.value ?? null))
  return [
    { id: 'time', head: 'from', cell: (point) => clock(Date.parse(point.time), zone) },
    { id: 'n', head: 'requests', numeric: true, cell: (point) => count(point.n) },
    ...QUANTILES.map((q) => ({
      id: q,
      head: `p${Number(q) * 100} ${unit}`,
      numeric: true,
      cell: (point: (typeof points)[number]) => duration(point.quantiles[q], { unit, bare: true, precisionNs }),
      cellTitle: (point: (typeof points)[number]) => titleOf(point.quantiles[q]),
    })),
  ]
}

function requestColumns(rows: readonly RequestRow[], zone: Zone): Column<RequestRow>[] {
  const unit = unitFor(rows.map((row) => (row.duration_ns === undefined ? null : row.duration_ns / 1e6)))
  const text = (value: string | number | null | undefined) =>
    value === null || value === undefined || value === '' ? MISSING : String(value)
  return [
    {
      id: 'end_time',
      head: 'ended',
      cell: (row) => (row.end_time === undefined ? MISSING : clock(Date.parse(row.end_time), zone, { millis: true })),
      cellTitle: (row) => row.end_time,
    },
    {
      id: 'who',
      head: 'from → to',
      cell: (row) =>
        `${row.source_workload || (row.reporter === 'gateway' ? 'outside' : MISSING)} → ${text(row.destination_service)}`,
    },
    {
      id: 'what',
      head: 'request',
      cell: (row) =>
        row.kind === 'http' || row.kind === undefined ? `${text(row.method)} ${text(row.path)}` : text(row.kind),
      cellTitle: (row) => row.path,
    },
    {
      id: 'code',
      head: 'code',
      cell: (row) => `${text(row.response_code)}${row.response_flags ? ` ${row.response_flags}` : ''}`,
      cellTitle: (row) =>
        [row.class, row.response_code_details, row.outcome && `answered by ${row.outcome}`].filter(Boolean).join(', '),
    },
    {
      id: 'duration',
      head: `took ${unit}`,
      numeric: true,
      cell: (row) => duration(row.duration_ns === undefined ? null : row.duration_ns / 1e6, { unit, bare: true }),
      cellTitle: (row) => (row.duration_ns === undefined ? undefined : `${row.duration_ns} ns`),
    },
    { id: 'phases', head: 'phases', cell: (row) => stripCell(phasesOf(row)) },
    { id: 'details', head: 'details', cell: (row) => detailsOf(row) },
  ]
}

/** What is worth a word: who answered, why, and how many attempts it took. */
function detailsOf(row: RequestRow): string {
  const attempts = row.attempts ?? 0
  return [
    row.outcome === 'upstream' || row.outcome === undefined ? '' : `${row.outcome}:`,
    row.response_code_details === 'via_upstream' ? '' : (row.response_code_details ?? ''),
    attempts > 1 ? `${attempts} attempts` : '',
  ]
    .filter((part) => part !== '')
    .join(' ')
}

/** Of everything; null when the answer left services out, because a part is not the whole. */
function errorRatioOf({ services, rows_total }: ServicesAnswer): number | null {
  const n = services.reduce((sum, row) => sum + row.n, 0)
  if (n === 0 || services.length < rows_total) return null
  return services.reduce((sum, row) => sum + row.n * row.error_ratio, 0) / n
}

function serviceOf(row: ServiceRow): string {
  return row.labels[SERVICE] ?? ''
}

function titleOf(value: { value: number; low: number; high: number } | undefined): string | undefined {
  return value === undefined ? undefined : `${boundsText(value) || duration(value)}, ${doubtText(value)}`
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
