import type { FastifyInstance } from 'fastify'
import Type, { type Static, type TSchema } from 'typebox'
import { envelopeOf, type QueryContext } from '../context.ts'
import type { AlertOfSource, AlertsSource, RuleOfSource } from '../ports.ts'
import { envelope, noQuery } from '../schemas.ts'
import { BURN_ALERT } from '../slo/alert-labels.ts'
import { formatMs, HOUR, MS } from '../time.ts'
import { documented } from './documented.ts'

const object = <P extends Parameters<typeof Type.Object>[0]>(properties: P) =>
  Type.Object(properties, { additionalProperties: false })
const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const text = (description: string) => Type.String({ description })
const time = (description: string) => Type.String({ format: 'date-time', description })
const texts = (description: string) => Type.Record(Type.String(), Type.String(), { description })
const oneOf = <Value extends string>(values: readonly Value[], description: string) =>
  Type.Unsafe<Value>({ type: 'string', enum: [...values], description })

const evaluation = object({
  at: nullable(time('End of the windows that were looked at last; null before the first time, and while not known')),
  known: Type.Boolean({ description: 'false: alerts are as they were, none begins or ends' }),
  reason: nullable(text('Why it is not known')),
  last: nullable(time('When it was tried last')),
  took_ms: nullable(Type.Number({ description: 'How long that took' })),
})
const alertRow = object({
  name: text('alertname'),
  slo: text('Name of the objective'),
  severity: oneOf(['page', 'ticket'], 'What to do'),
  state: oneOf(['pending', 'firing', 'resolved'], 'pending: not for long enough; resolved: within the last 15 minutes'),
  active_at: time('Since when the condition held'),
  fired_at: nullable(time('Since when it fires; null while it is pending')),
  resolved_at: nullable(time('When it ended')),
  labels: texts('As Alertmanager gets them'),
  annotations: texts('As Alertmanager gets them'),
  generator_url: text('Where to look'),
})
const windowBurn = object({
  window: text('Width'),
  total: Type.Integer({ minimum: 0, description: 'Requests that count' }),
  bad: Type.Integer({ minimum: 0, description: 'Those that were bad' }),
  burn: nullable(Type.Number({ description: 'How many times too fast; null without requests' })),
})
const ruleRow = object({
  name: text('alertname'),
  slo: text('Name of the objective'),
  severity: oneOf(['page', 'ticket'], 'What to do'),
  state: oneOf(['inactive', 'pending', 'firing'], 'Of its alert'),
  health: oneOf(['ok', 'unknown'], 'unknown: what was found last does not tell'),
  reason: nullable(text('Why it is unknown')),
  for_s: Type.Number({ description: 'How long both windows have to burn before it fires' }),
  evaluated: nullable(time('End of the windows that were looked at last; null before')),
  tiers: Type.Array(
    object({
      threshold: Type.Number({ description: 'Burn that both windows must exceed' }),
      reachable: Type.Boolean({ description: 'false: not even if all requests fail' }),
      exceeds: nullable(Type.Boolean({ description: 'Whether both do; null: not known' })),
      long: windowBurn,
      short: windowBurn,
    }),
    { description: 'Ways to fire, most urgent first' },
  ),
})
const alertmanager = object({
  url: text('Where alerts are sent'),
  sent: Type.Integer({ description: 'Alerts that were taken' }),
  rejected: Type.Integer({ description: 'Alerts that it will not have' }),
  failed: Type.Integer({ description: 'Requests that failed, and were tried again' }),
  last_sent: nullable(time('When alerts were taken last')),
  error: nullable(text('What it said last, when that was no success')),
})

const alertsAnswer = object({
  ...envelope.properties,
  evaluation,
  alerts: Type.Array(alertRow, { description: 'Firing ones first, the newest first' }),
  alertmanagers: Type.Array(alertmanager),
})
const rulesAnswer = object({ ...envelope.properties, evaluation, rules: Type.Array(ruleRow) })

/** Alerts of objectives, and the rules that they come of. `coverage` is of the hour that was looked at last. */
export function alertsRoutes(app: FastifyInstance, context: QueryContext, source: AlertsSource): void {
  const common = () => {
    const at = source.last?.atMs ?? null
    const interval = at === null ? null : { from: BigInt(at) * MS - HOUR, to: BigInt(at) * MS }
    return {
      ...envelopeOf(context, interval === null ? null : { interval, stored: null, precisionNs: null }),
      evaluation: {
        at: at === null ? null : formatMs(at),
        known: source.last !== null && source.last.reason === null,
        reason: source.last?.reason ?? null,
        last: source.last === null ? null : formatMs(source.last.startedMs),
        took_ms: source.last?.tookMs ?? null,
      },
    }
  }
  app.get(
    '/api/v1/alerts',
    documented('alerts', 'Alerts of objectives, and who was told', noQuery, alertsAnswer),
    async (): Promise<Static<typeof alertsAnswer>> => ({
      ...common(),
      alerts: [...source.alerts()].sort(byUrgency).map((alert) => alertOf(alert, source)),
      alertmanagers: source.alertmanagers().map(({ url, counters, lastError, lastSentMs }) => ({
        url,
        sent: counters.sent,
        rejected: counters.rejected,
        failed: counters.failed,
        last_sent: lastSentMs === 0 ? null : formatMs(lastSentMs),
        error: lastError,
      })),
    }),
  )
  app.get(
    '/api/v1/rules',
    documented('rules', 'Rules of alerts, with what was found last', noQuery, rulesAnswer),
    async (): Promise<Static<typeof rulesAnswer>> => ({
      ...common(),
      rules: source.rules().map((rule) => ruleOf(rule, source.forMs)),
    }),
  )
}

const ORDER = ['firing', 'pending', 'resolved']

function byUrgency(a: AlertOfSource, b: AlertOfSource): number {
  return ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || b.activeMs - a.activeMs || (a.id < b.id ? -1 : 1)
}

function alertOf(alert: AlertOfSource, source: AlertsSource): Static<typeof alertRow> {
  const { labels, annotations, state, slo, activeMs, firedMs, resolvedMs } = alert
  return {
    name: labels.alertname ?? '',
    slo,
    severity: labels.severity === 'ticket' ? 'ticket' : 'page',
    state,
    active_at: formatMs(activeMs),
    fired_at: firedMs === null ? null : formatMs(firedMs),
    resolved_at: resolvedMs === null ? null : formatMs(resolvedMs),
    labels: { ...labels },
    annotations: { ...annotations },
    generator_url: source.generatorUrl(slo),
  }
}

function ruleOf({ slo, severity, finding, atMs, alert }: RuleOfSource, forMs: number): Static<typeof ruleRow> {
  return {
    name: BURN_ALERT,
    slo: slo.name,
    severity,
    state: alert === undefined || alert.state === 'resolved' ? 'inactive' : alert.state,
    health: finding === null || finding.holds === null ? 'unknown' : 'ok',
    reason: finding === null ? 'it was not looked at yet' : finding.reason,
    for_s: forMs / 1000,
    evaluated: atMs === null ? null : formatMs(atMs),
    tiers: (finding?.tiers ?? []).map(({ threshold, reachable, exceeds, long, short }) => ({
      threshold,
      reachable,
      exceeds,
      long: { ...long },
      short: { ...short },
    })),
  }
}
