import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { inUnit, labelsOf, meanOf, quantileFigure, quantilesOf } from '../answer.ts'
import { parseGroups } from '../columns.ts'
import { answerWith, envelopeOf, nowNanos, type QueryContext } from '../context.ts'
import type { Doubts } from '../distribution.ts'
import { parseFilters } from '../filters.ts'
import { type Measured, measure, type Wanted } from '../measure.ts'
import { STEP_MIN } from '../parts-sql.ts'
import type { Plan } from '../plan.ts'
import { Problem, shown } from '../problem.ts'
import { parseQuantiles } from '../quantiles.ts'
import type { Question } from '../question.ts'
import { type LatencyAnswer, latencyAnswer, latencyQuery, type Point, type Series } from '../schemas.ts'
import {
  formatDuration,
  formatTime,
  type Interval,
  MS,
  maxOf,
  minOf,
  type Nanos,
  parseDuration,
  parseInterval,
  parseOtherInterval,
} from '../time.ts'
import { documented } from './documented.ts'

export function latencyRoute(app: FastifyInstance, context: QueryContext): void {
  app.get<{ Querystring: Static<typeof latencyQuery> }>(
    '/api/v1/latency',
    documented('latency', 'Quantiles of durations, over time or as one point', latencyQuery, latencyAnswer),
    (request, reply) => answerWith(context, request, reply, (question) => latency(context, question, request.query)),
  )
}

async function latency(
  context: QueryContext,
  question: Question,
  query: Static<typeof latencyQuery>,
): Promise<LatencyAnswer> {
  const now = nowNanos(context)
  const interval = parseInterval(query, now)
  const step = query.step === undefined ? null : parseStep(query.step, interval, context.limits.pointsMax)
  const bounds = parseBounds(query.bounds)
  const wanted: Wanted = {
    interval,
    now,
    filters: parseFilters(query.where ?? []),
    groups: parseGroups(query.by),
    view: query.view,
    method: query.method ?? 'auto',
    step,
    quantities: [query.phase ?? 'total'],
    quantiles: parseQuantiles(query.q),
    doubts: (plan) => doubtsOf(context, bounds, plan, step),
    groupsMax: step === null ? context.limits.seriesMax : context.limits.pointsMax,
  }
  const other = query.vs === undefined ? null : parseOtherInterval(query.vs, 'vs', interval, now)
  if (other !== null && step !== null) checkPoints(other, step, context.limits.pointsMax, 'vs')
  const unit = query.unit ?? 'ms'
  const measured = await measure(context, question, wanted)
  const versus = other === null ? null : await measure(context, question, { ...wanted, interval: other })
  const write = inUnit(unit)
  return {
    ...envelopeOf(context, measured),
    from: formatTime(measured.interval.from),
    to: formatTime(measured.interval.to),
    view: measured.view,
    unit,
    source: measured.source,
    method: measured.method,
    step: step === null ? null : formatDuration(step),
    phase: query.phase ?? 'total',
    series: seriesOf(measured, wanted, write, context.limits.seriesMax),
    ...(versus === null
      ? {}
      : {
          vs: {
            from: formatTime(versus.interval.from),
            to: formatTime(versus.interval.to),
            source: versus.source,
            method: versus.method,
            series: seriesOf(versus, wanted, write, context.limits.seriesMax),
          },
        }),
  }
}

function parseStep(text: string, interval: Interval, pointsMax: number): Nanos {
  const step = parseDuration(text, 'step')
  if (step < STEP_MIN) {
    throw new Problem('bad_parameter', `a step of ${formatDuration(step)} is below 1ms`, { parameter: 'step' })
  }
  checkPoints(interval, step, pointsMax, 'step')
  return step
}

function checkPoints(interval: Interval, step: Nanos, pointsMax: number, parameter: string): void {
  const points = (interval.to - 1n) / step - interval.from / step + 1n
  if (points <= BigInt(pointsMax)) return
  const least = (interval.to - interval.from) / BigInt(pointsMax - 1) + 1n
  throw new Problem('too_many_points', `the interval has ${points} points, ${pointsMax} at most are allowed`, {
    parameter,
    help: `use a step of at least ${STEPS.find((step) => parseDuration(step, '') >= least) ?? '365d'}`,
    figures: { points: Number(points), points_max: pointsMax },
  })
}

/** Steps that people use. */
const STEPS = '10ms 100ms 1s 5s 10s 15s 30s 1m 2m 5m 10m 15m 30m 1h 2h 3h 6h 12h 1d 7d 30d'.split(' ')

interface Bounds {
  readonly loss: boolean
  readonly few: boolean
}

function parseBounds(text = 'measure'): Bounds {
  const names = text.split(',').map((name) => name.trim())
  for (const name of names) {
    if (!['measure', 'loss', 'few'].includes(name)) {
      throw new Problem('bad_parameter', `${shown(name)} is not a doubt`, {
        parameter: 'bounds',
        help: 'bounds are measure, loss and few',
      })
    }
  }
  return { loss: names.includes('loss'), few: names.includes('few') }
}

function doubtsOf(context: QueryContext, bounds: Bounds, { interval }: Plan, step: Nanos | null): Doubts {
  if (!bounds.loss) return { few: bounds.few }
  const lost = (from: Nanos, to: Nanos) => context.ledger.coverage(Number(from / MS), Number(to / MS))?.lost ?? null
  return {
    few: bounds.few,
    loss: (point) =>
      step === null
        ? lost(interval.from, interval.to)
        : lost(maxOf(interval.from, point * step), minOf(interval.to, (point + 1n) * step)),
  }
}

function seriesOf(measured: Measured, wanted: Wanted, write: (ns: number) => number, seriesMax: number): Series[] {
  const series: Series[] = []
  let current = ''
  for (const group of measured.groups) {
    const id = JSON.stringify(group.labels)
    if (series.length === 0 || id !== current) {
      series.push({ labels: labelsOf(group, wanted.groups), points: [] })
      current = id
    }
    const distribution = group.distributions[0]!
    if (distribution.n === 0) continue
    const time = wanted.step === null ? measured.interval.from : group.point * wanted.step
    const point: Point = {
      time: formatTime(time),
      n: distribution.n,
      min: write(distribution.min),
      max: write(distribution.max),
      mean: write(meanOf(distribution)),
      quantiles: quantilesOf(distribution, wanted.quantiles, (quantile) => quantileFigure(quantile, write)),
    }
    series.at(-1)!.points.push(point)
  }
  if (series.length > seriesMax) {
    throw new Problem('too_many_series', `the answer has ${series.length} series, ${seriesMax} at most are allowed`, {
      parameter: 'by',
      help: 'filter by more, or group by fewer columns',
    })
  }
  // Without groups there is one series, whether or not anything happened.
  return series.length === 0 && wanted.groups.length === 0 ? [{ labels: {}, points: [] }] : series
}
