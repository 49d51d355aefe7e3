import Type, { type Static, type TSchema } from 'typebox'
import { envelope } from '../schemas.ts'
import { formatTime } from '../time.ts'
import { errorRatio, judge, type Verdict } from './budget.ts'
import type { SloCounts, WindowCounts } from './counts.ts'
import { SLO_ORIGINS, type Slo, type SloOrigin } from './slo.ts'
import { BURN_WINDOWS, type BurnWindow } from './windows.ts'

/** Shapes of what is said of objectives, and how counts become it. */
const object = Type.Object
const closed = { additionalProperties: false }
const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const text = (description: string) => Type.String({ description })
const count = (description: string) => Type.Integer({ minimum: 0, description })
const figure = (description: string) => Type.Number({ description })
const state = Type.Unsafe<'no_data' | 'ok' | 'ticket' | 'page'>({
  type: 'string',
  enum: ['no_data', 'ok', 'ticket', 'page'],
  description: 'The worst alert that fires; no_data when there was no request in the whole window',
})

const counted = {
  from: Type.String({ format: 'date-time', description: 'Effective start' }),
  to: Type.String({ format: 'date-time', description: 'Effective end' }),
  total: count('good + bad'),
  good: count('Requests that were good'),
  bad: count('Requests that were not'),
  excluded: count('Requests left out by the objective itself'),
  bad_low: count('bad is not below; equal to bad where it is exact'),
  bad_high: count('bad is not above'),
  exact: Type.Boolean({ description: 'false: the threshold falls inside of a bucket, and rows have expired' }),
  complete: Type.Boolean({ description: 'false: only rows can answer, and those before `from` have expired' }),
  error_ratio: nullable(figure('bad / total; null without requests')),
  source: text('Tables read, with commas'),
}
const windowAnswer = object({ ...counted, burn: nullable(figure('error_ratio / (1 − objective)')) }, closed)
const perWindow = <T extends TSchema>(schema: T, description: string) =>
  object(Object.fromEntries(BURN_WINDOWS.map((window) => [window, schema])) as Record<BurnWindow, T>, {
    ...closed,
    description,
  })
const conditions = (description: string) => Type.Array(Type.String(), { description })

export const sloRow = object(
  {
    name: text('Name of the objective'),
    display_name: text('Name for people; may be empty'),
    description: text('What the file says of it'),
    service: text('What the file says that it is about'),
    labels: Type.Record(Type.String(), Type.String(), { description: 'Labels of the file' }),
    document: text('metadata.name of the document that says it'),
    origin: Type.Unsafe<SloOrigin>({
      type: 'string',
      enum: SLO_ORIGINS,
      description: 'file: slo.files names it; api: it was put here over HTTP, and can be deleted so',
    }),
    place: text('file:line'),
    objective: figure('Share of requests that must be good'),
    indicator: object(
      {
        total: conditions('Requests that count: all hold'),
        exclude: conditions('Requests that are left out: one holds'),
        good: nullable(conditions('Those that are good: all hold; null when it is said which are bad')),
        bad: nullable(conditions('Those that are bad: all hold; null when it is said which are good')),
        view: text('Whose report of a request counts'),
      },
      closed,
    ),
    window: object({ duration: text('Time that the budget is for'), rolling: Type.Literal(true) }, closed),
    ...counted,
    budget: object(
      {
        allowed: figure('Requests that may be bad: (1 − objective) · total'),
        left: nullable(figure('Share that is left; negative when overspent; null without requests')),
        left_low: nullable(figure('left is not below')),
        left_high: nullable(figure('left is not above')),
        lasts_s: nullable(figure('Seconds until it is gone at the burn of the last hour; null when it does not burn')),
      },
      closed,
    ),
    budget_left: nullable(figure('budget.left')),
    burn: perWindow(nullable(figure('Burn')), 'How many times too fast, by window; null without requests'),
    windows: perWindow(windowAnswer, 'What was counted, by window'),
    alerts: Type.Array(
      object(
        {
          severity: Type.Unsafe<'page' | 'ticket'>({ type: 'string', enum: ['page', 'ticket'] }),
          long: text('Long window'),
          short: text('Short window'),
          threshold: figure('Burn that both must exceed'),
          firing: Type.Boolean(),
          reachable: Type.Boolean({ description: 'false: not even if all requests fail' }),
        },
        closed,
      ),
      { description: 'Ways to notice that the budget burns too fast, most urgent first' },
    ),
    state,
  },
  closed,
)
export type SloRow = Static<typeof sloRow>

const asked = { at: Type.String({ format: 'date-time', description: 'End of all windows' }) }
export const slosAnswer = object({ ...envelope.properties, ...asked, slos: Type.Array(sloRow) }, closed)
export const sloAnswer = object({ ...envelope.properties, ...asked, ...sloRow.properties }, closed)

export function rowOf(slo: Slo, counts: SloCounts): SloRow {
  const { whole, windows, view } = counts
  const verdict = judge({ target: slo.target, period: slo.period.ns, whole, windows })
  const { total, exclude, match, matches } = slo.indicator
  return {
    name: slo.name,
    display_name: slo.displayName,
    description: slo.description,
    service: slo.service,
    labels: { ...slo.labels },
    document: slo.document,
    origin: slo.origin,
    place: slo.place,
    objective: slo.target,
    indicator: {
      total: [...total],
      exclude: [...exclude],
      good: matches === 'good' ? [...match] : null,
      bad: matches === 'bad' ? [...match] : null,
      view,
    },
    window: { duration: slo.period.text, rolling: true },
    ...countedOf(whole),
    budget: {
      allowed: verdict.budget.allowed,
      left: verdict.budget.left,
      left_low: verdict.budget.leftLow,
      left_high: verdict.budget.leftHigh,
      lasts_s: verdict.budget.lastsSeconds,
    },
    budget_left: verdict.budget.left,
    burn: { ...verdict.burn },
    windows: windowsOf(windows, verdict),
    alerts: verdict.alerts.map(({ tier, threshold, firing, reachable }) => ({
      severity: tier.severity,
      long: tier.long,
      short: tier.short,
      threshold,
      firing,
      reachable,
    })),
    state: verdict.state,
  }
}

function windowsOf(windows: SloCounts['windows'], verdict: Verdict): SloRow['windows'] {
  return Object.fromEntries(
    BURN_WINDOWS.map((window) => [window, { ...countedOf(windows[window]), burn: verdict.burn[window] }]),
  ) as SloRow['windows']
}

function countedOf(counts: WindowCounts) {
  const { interval, total, good, bad, excluded, badLow, badHigh, exact, complete, source } = counts
  return {
    from: formatTime(interval.from),
    to: formatTime(interval.to),
    total,
    good,
    bad,
    excluded,
    bad_low: badLow,
    bad_high: badHigh,
    exact,
    complete,
    error_ratio: errorRatio(counts),
    source,
  }
}
