import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { PHASES } from '../../model/phases.ts'
import { boundedFigure, inUnit, labelsOf, quantilesOf } from '../answer.ts'
import { parseGroups } from '../columns.ts'
import { answerWith, envelopeOf, nowNanos, type QueryContext } from '../context.ts'
import type { Distribution, Group } from '../distribution.ts'
import { parseFilters } from '../filters.ts'
import { measure, type Wanted } from '../measure.ts'
import { parseQuantiles } from '../quantiles.ts'
import { type PhaseFigure, type PhaseSeries, phasesAnswer, phasesQuery } from '../schemas.ts'
import { formatTime, parseInterval } from '../time.ts'
import { documented } from './documented.ts'

export function phasesRoute(app: FastifyInstance, context: QueryContext): void {
  app.get<{ Querystring: Static<typeof phasesQuery> }>(
    '/api/v1/phases',
    documented(
      'phases',
      'Where the time went: the seven phases of all requests, or of the slowest',
      phasesQuery,
      phasesAnswer,
    ),
    (request, reply) =>
      answerWith(context, request, reply, async (question): Promise<Static<typeof phasesAnswer>> => {
        const { query } = request
        const now = nowNanos(context)
        const wanted: Wanted = {
          interval: parseInterval(query, now),
          now,
          filters: parseFilters(query.where ?? []),
          groups: parseGroups(query.by),
          view: query.view,
          method: query.method ?? 'auto',
          step: null,
          quantities: ['total', ...PHASES],
          quantiles: parseQuantiles(query.q),
          countUnknown: true,
          slowest: query.slowest,
          groupsMax: context.limits.seriesMax,
        }
        const unit = query.unit ?? 'ms'
        const measured = await measure(context, question, wanted)
        const write = inUnit(unit)
        return {
          ...envelopeOf(context, measured),
          from: formatTime(measured.interval.from),
          to: formatTime(measured.interval.to),
          view: measured.view,
          unit,
          source: measured.source,
          method: measured.method,
          slowest: query.slowest ?? null,
          series: measured.groups.map((group) => phaseSeries(group, wanted, write)),
        }
      }),
  )
}

function phaseSeries(group: Group, wanted: Wanted, write: (ns: number) => number): PhaseSeries {
  const [total, ...phases] = group.distributions as [Distribution, ...Distribution[]]
  const n = phases[0]!.n
  // Phases add up to the duration of every row that has them, so their sums do: also where rollups count all rows in
  // the total.
  const whole = phases.reduce((sum, phase) => sum + phase.sum, 0n)
  const figure = (sum: bigint, distribution: Distribution | null): PhaseFigure => ({
    mean: n === 0 ? null : write(Number(sum) / n),
    share: whole === 0n ? null : Number(sum) / Number(whole),
    quantiles:
      distribution === null
        ? {}
        : quantilesOf(distribution, wanted.quantiles, (quantile) => boundedFigure(quantile, write)),
  })
  return {
    labels: labelsOf(group, wanted.groups),
    n,
    without_phases: group.requests - n,
    total: figure(whole, total.n === n ? total : null),
    ...(Object.fromEntries(PHASES.map((phase, k) => [phase, figure(phases[k]!.sum, phases[k]!)])) as Record<
      (typeof PHASES)[number],
      PhaseFigure
    >),
  }
}
