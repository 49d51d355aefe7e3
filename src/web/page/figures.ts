import {
  call,
  type LatencyAnswer,
  type Parameters,
  type PhasesAnswer,
  REQUEST_COLUMNS,
  type RequestsAnswer,
  type ServicesAnswer,
} from './api.ts'
import { QUANTILES } from './chart-grid.ts'
import { SERVICE } from './columns.ts'
import type { PageState } from './state.ts'
import { parseTime, stepFor } from './time.ts'

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

/** Share of the requests that "the slowest" means. */
const SLOWEST = 0.01
const POINTS_MAX = 100
/** With what else is on the page this keeps it below 3 000 elements. The server sorts, so the worst are among them. */
const SERVICES_MAX = 80
const REQUESTS_SHOWN = 25

/** The six calls that one picture takes. */
export async function fetchFigures(at: PageState, signal: AbortSignal): Promise<Figures> {
  const nowMs = Date.now()
  const [fromMs, toMs] = windowOf(at, nowMs)
  const step = stepFor(toMs - fromMs, POINTS_MAX)
  const common: Parameters = { from: at.from, to: at.to, where: at.where }
  const set: Parameters = at.set === 'slowest' ? { slowest: String(SLOWEST) } : {}
  const q = QUANTILES.join()
  const [services, latency, whole, phases, phasesByService, requests] = await Promise.all([
    call<ServicesAnswer>('services', { ...common, sort: sortFor(at), limit: String(SERVICES_MAX) }, signal),
    call<LatencyAnswer>('latency', { ...common, q, step: step.text }, signal),
    call<LatencyAnswer>('latency', { ...common, q }, signal),
    call<PhasesAnswer>('phases', { ...common, ...set, q: '0.5,0.99' }, signal),
    call<PhasesAnswer>('phases', { ...common, ...set, q: '0.5', by: SERVICE }, signal),
    call<RequestsAnswer>(
      'requests',
      { ...common, order: at.order, limit: String(REQUESTS_SHOWN), columns: REQUEST_COLUMNS.join() },
      signal,
    ),
  ])
  return { services, latency, whole, phases, phasesByService, requests, stepMs: step.ms }
}

/** The window in Unix ms; it is never empty. */
export function windowOf(at: PageState, nowMs: number): [number, number] {
  const toMs = parseTime(at.to, nowMs) ?? nowMs
  const fromMs = parseTime(at.from, nowMs) ?? toMs - 900_000
  return [Math.min(fromMs, toMs - 1_000), toMs]
}

/** The server's name of the order: it decides which services come, the table then sorts those. */
function sortFor({ sort }: PageState): string {
  if (sort === SERVICE) return 'name'
  return ['n', 'rate', 'error_ratio', 'aborted_ratio', 'p50', 'p90', 'p99'].includes(sort) ? sort : 'n'
}
