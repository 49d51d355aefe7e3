import type { LatencyPoint, PHASES, PhaseSeries, RequestRow, ServiceRow } from './api.ts'
import { QUANTILES } from './chart-grid.ts'
import { h } from './dom.ts'
import { boundsText, count, type DurationUnit, doubtText, duration, MISSING, percent, rate, unitFor } from './format.ts'
import { PHASE_TEXT, type PhaseTimes, phasesOf } from './phases.ts'
import { enoughFor, health } from './sentences.ts'
import { stripCell } from './strip.ts'
import type { Column } from './table.ts'
import { clock, type Zone } from './time.ts'

/** What the four tables of the overview show: units in the heads, values with no more digits than their bounds support. */
export const SERVICE = 'destination_service'

export type PhaseRow = { readonly phase: (typeof PHASES)[number] | 'total' } & PhaseSeries['total']

export function phaseColumns(unit: DurationUnit, precisionNs: number): Column<PhaseRow>[] {
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

export function serviceColumns(options: {
  readonly unit: DurationUnit
  readonly precisionNs: number
  readonly strips: ReadonlyMap<string, PhaseTimes | null>
  readonly set: 'all' | 'slowest'
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

export function pointColumns(points: readonly LatencyPoint[], zone: Zone, precisionNs: number): Column<LatencyPoint>[] {
  const unit = unitFor(points.map((point) => point.quantiles['0.99']?.value ?? null))
  return [
    { id: 'time', head: 'from', cell: (point) => clock(Date.parse(point.time), zone) },
    { id: 'n', head: 'requests', numeric: true, cell: (point) => count(point.n) },
    ...QUANTILES.map((q) => ({
      id: q,
      head: `p${Number(q) * 100} ${unit}`,
      numeric: true,
      cell: (point: LatencyPoint) => duration(point.quantiles[q], { unit, bare: true, precisionNs }),
      cellTitle: (point: LatencyPoint) => titleOf(point.quantiles[q]),
    })),
  ]
}

export function requestColumns(rows: readonly RequestRow[], zone: Zone): Column<RequestRow>[] {
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

export function serviceOf(row: ServiceRow): string {
  return row.labels[SERVICE] ?? ''
}

function titleOf(value: { value: number; low: number; high: number } | undefined): string | undefined {
  return value === undefined ? undefined : `${boundsText(value) || duration(value)}, ${doubtText(value)}`
}
