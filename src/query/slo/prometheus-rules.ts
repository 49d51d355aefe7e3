import { stringify } from 'yaml'
import { SidecastError } from '../../errors.ts'
import type { Filter } from '../filters.ts'
import { HOUR } from '../time.ts'
import { alertLabels, alertSummary, BURN_ALERT, slothId, slothLabels } from './alert-labels.ts'
import { compileIndicator } from './compile.ts'
import { NotInIstio, type Selection, selectionOf } from './istio-selectors.ts'
import { onceEach, SERVICE_LABELS } from './reporters.ts'
import type { Slo } from './slo.ts'
import { BURN_WINDOWS, burnThreshold, isReachable, type Tier, tiersOf, WINDOW_NS } from './windows.ts'

/**
 * Recording and alerting rules of objectives for a Prometheus that has Istio's metrics, from Sidecast or from Istio itself.
 * Names and labels are those of Sloth (sloth.dev), so that its dashboards show them:
 *
 *   slo:sli_error:ratio_rate5m … 3d   share of bad requests in each window, and in the period
 *   slo:objective:ratio …             what the objective is, and how much of its budget is left
 *   ErrorBudgetBurn                   a page, and a ticket: both windows of one of its tiers burn too fast
 */
interface Rule {
  readonly record?: string
  readonly alert?: string
  readonly expr: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}
interface Group {
  readonly name: string
  readonly rules: readonly Rule[]
}

export interface RulesOptions {
  /** Upper bounds in ms of the classic buckets of `istio_request_duration_milliseconds`. */
  readonly bucketsMs: readonly number[]
}

const REQUESTS = 'istio_requests_total'
const DURATION = 'istio_request_duration_milliseconds'

/** The rules as a YAML file. Throws SC1208 for an objective that Istio's metrics cannot tell, and says why. */
export function prometheusRules(slos: readonly Slo[], options: RulesOptions): string {
  const groups = slos.flatMap((slo) => groupsOf(slo, options))
  const header = '# Made by `sidecast slo rules` from OpenSLO files: change those, and make it again.\n'
  return header + stringify({ groups }, { lineWidth: 0 })
}

function groupsOf(slo: Slo, options: RulesOptions): Group[] {
  const id = slothId(slo)
  const labels = slothLabels(slo)
  const context: Context = { slo, labels, selector: `{sloth_id=${JSON.stringify(id)}}` }
  return [
    { name: `sloth-slo-sli-recordings-${id}`, rules: ratios(context, options) },
    { name: `sloth-slo-meta-recordings-${id}`, rules: meta(context) },
    { name: `sloth-slo-alerts-${id}`, rules: alerts(context) },
  ]
}

interface Context {
  readonly slo: Slo
  readonly labels: Readonly<Record<string, string>>
  readonly selector: string
}

// ---- ratios

function ratios({ slo, labels, selector }: Context, options: RulesOptions): Rule[] {
  const ratio = errorRatio(slo, options)
  const windows = BURN_WINDOWS.filter((window) => WINDOW_NS[window] < slo.period.ns)
  const period = slo.period.text
  const five = `slo:sli_error:ratio_rate5m${selector}[${period}]`
  return [
    ...windows.map((window) => ({
      record: `slo:sli_error:ratio_rate${window}`,
      expr: ratio(window),
      labels: { ...labels, sloth_window: window },
    })),
    {
      record: `slo:sli_error:ratio_rate${period}`,
      // Short periods are read as they are; long ones would be too much for one query.
      expr:
        slo.period.ns <= 24n * HOUR
          ? ratio(period)
          : `sum_over_time(${five}) / ignoring (sloth_window) count_over_time(${five})`,
      labels: { ...labels, sloth_window: period },
    },
  ]
}

/** Bad over all, by window; 0 where there are requests and none is bad. */
function errorRatio(slo: Slo, { bucketsMs }: RulesOptions): (window: string) => string {
  try {
    const { total, exclude, match, matches } = compileIndicator(slo.indicator)
    if (exclude.length > 0) throw new NotInIstio('exclude: write it as a condition of total')
    const [all, negated] = [selectionOf(total), negatedClass(match)]
    if (all.latency !== null) throw new NotInIstio('a duration in total')
    const wanted = selectionOf([...total, ...(negated ?? match)])
    const isBad = (matches === 'bad') !== (negated !== null)
    const { latency } = wanted
    const once = reporting(slo)
    if (latency !== null && !bucketsMs.includes(latency.ms)) {
      const near = bucketsMs.toSorted((a, b) => Math.abs(a - latency.ms) - Math.abs(b - latency.ms)).slice(0, 2)
      throw new NotInIstio(
        `${latency.ms} ms is no bucket of ${DURATION}; near are ${near.sort((a, b) => a - b).join(' and ')} ms`,
      )
    }
    const counter = latency === null ? REQUESTS : `${DURATION}_count`
    return (window) => {
      const sum = (metric: string, { alternatives }: Selection, more: readonly string[] = []) => {
        const selectors = (reporter: readonly string[]) =>
          alternatives.map((matchers) => [...reporter, ...matchers, ...more])
        return `(sum(${once((reporter) => rate(metric, selectors(reporter), window))}) or vector(0))`
      }
      const whole = sum(counter, all)
      // Prometheus 3 writes 250 as 250.0.
      const short = (ms: number) =>
        sum(`${DURATION}_bucket`, wanted, [`le=~"${String(ms).replace('.', '[.]')}([.]0)?"`])
      const matched =
        latency === null
          ? sum(counter, wanted)
          : latency.above
            ? `(${sum(counter, wanted)} - (${short(latency.ms)}))`
            : short(latency.ms)
      const bad = isBad ? `(${matched})` : `(${whole} - (${matched}))`
      return `${bad} / ((${whole}) > 0)`
    }
  } catch (cause) {
    if (!(cause instanceof NotInIstio)) throw cause
    throw new SidecastError('SC1208', `${slo.place}  ${slo.name} has no rules over Istio's metrics: ${cause.message}`, {
      help: 'GET /api/v1/slos counts it from rows all the same',
      cause,
    })
  }
}

/** The class that a lone `class!=…` leaves out: errors are counted by what they are. */
function negatedClass(match: readonly Filter[]): readonly Filter[] | null {
  const [filter] = match
  if (match.length !== 1 || filter!.column.name !== 'class' || filter!.operator !== '!=') return null
  return [{ ...filter!, operator: '=' }]
}

/** Per second by service, of any of the selections, which do not overlap. */
function rate(metric: string, selections: readonly (readonly string[])[], window: string): string {
  const rates = selections.map((matchers) => `rate(${metric}{${matchers.join(', ')}}[${window}])`)
  return `sum by (${SERVICE_LABELS.join(', ')}) (${rates.join(' or ')})`
}

/** Whose report of a request counts, as the view of the objective says. */
function reporting(slo: Slo): (expr: (reporter: readonly string[]) => string) => string {
  const { view, total } = slo.indicator
  if (view === 'server') return (expr) => expr(['reporter=~"destination|waypoint"'])
  if (view === 'client') return (expr) => expr(['reporter="source"'])
  if (view === 'all' || total.some((condition) => /^\s*reporter\b/.test(condition))) return (expr) => expr([])
  return (expr) => onceEach(REQUESTS, (reporter) => expr([reporter]))
}

// ---- what is known of the objective

function meta({ slo, labels, selector }: Context): Rule[] {
  const { target, period } = slo
  const budget = Number((1 - target).toPrecision(12))
  const days = Number((Number(period.ns) / Number(HOUR) / 24).toPrecision(6))
  const ratio = (window: string) => `slo:sli_error:ratio_rate${window}${selector}`
  const over = `/ on (sloth_id, sloth_slo, sloth_service) group_left () slo:error_budget:ratio${selector}`
  return [
    { record: 'slo:objective:ratio', expr: `vector(${target})`, labels },
    { record: 'slo:error_budget:ratio', expr: `vector(${budget})`, labels },
    { record: 'slo:time_period:days', expr: `vector(${days})`, labels },
    { record: 'slo:current_burn_rate:ratio', expr: `${ratio('5m')} ${over}`, labels },
    { record: 'slo:period_burn_rate:ratio', expr: `${ratio(period.text)} ${over}`, labels },
    { record: 'slo:period_error_budget_remaining:ratio', expr: `1 - slo:period_burn_rate:ratio${selector}`, labels },
    {
      record: 'sloth_slo_info',
      expr: 'vector(1)',
      labels: {
        ...labels,
        sloth_objective: String(Number((target * 100).toPrecision(12))),
        sloth_spec: 'openslo/v1',
        sloth_mode: 'sidecast',
      },
    },
  ]
}

function alerts({ slo, selector }: Context): Rule[] {
  const budget = Number((1 - slo.target).toPrecision(12))
  const exceeds = (window: string, threshold: number) =>
    `max(slo:sli_error:ratio_rate${window}${selector} > ${threshold} * ${budget}) without (sloth_window)`
  return (['page', 'ticket'] as const).flatMap((severity): Rule[] => {
    const tiers = tiersOf(slo.period.ns).filter(
      (tier) => tier.severity === severity && isReachable(burnThreshold(tier, slo.period.ns), slo.target),
    )
    if (tiers.length === 0) return []
    const both = (tier: Tier) => {
      const threshold = burnThreshold(tier, slo.period.ns)
      return `(${exceeds(tier.short, threshold)} and ${exceeds(tier.long, threshold)})`
    }
    return [
      {
        alert: BURN_ALERT,
        expr: tiers.map(both).join(' or '),
        labels: alertLabels(slo, severity),
        annotations: {
          summary: alertSummary(slo),
          description: `The share of bad requests is {{ $value | humanizePercentage }}; the objective of ${slo.target} over ${slo.period.text} allows ${budget}.`,
        },
      },
    ]
  })
}
