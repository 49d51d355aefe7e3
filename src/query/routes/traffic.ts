import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { boundedFigure, inUnit, labelsOf, quantilesOf } from '../answer.ts'
import { parseGroups } from '../columns.ts'
import { answerWith, envelopeOf, nowNanos, type QueryContext } from '../context.ts'
import type { Group } from '../distribution.ts'
import { parseFilters } from '../filters.ts'
import { type Measured, measure, type Wanted } from '../measure.ts'
import { parseQuantiles } from '../quantiles.ts'
import type { Question } from '../question.ts'
import {
  type RouteRow,
  type RoutesAnswer,
  routesAnswer,
  routesQuery,
  type ServiceRow,
  type ServicesAnswer,
  servicesAnswer,
  servicesQuery,
} from '../schemas.ts'
import { formatTime, parseInterval, SECOND } from '../time.ts'
import { documented } from './documented.ts'

/** Most label sets that are measured before `limit` is applied. */
const GROUPS_MAX = 10_000
const LIMIT = 1000
const SERVICE_COLUMNS = 'destination_service'
const ROUTE_COLUMNS = 'destination_service,route,method'

/** Rate, errors and durations by service and by route. */
export function trafficRoutes(app: FastifyInstance, context: QueryContext): void {
  app.get<{ Querystring: Static<typeof servicesQuery> }>(
    '/api/v1/services',
    documented('services', 'Rate, errors and durations by destination service', servicesQuery, servicesAnswer),
    (request, reply) =>
      answerWith(context, request, reply, async (question): Promise<ServicesAnswer> => {
        const { query } = request
        const { answer, groups, write } = await traffic(context, question, query, SERVICE_COLUMNS, '0.5,0.9,0.99')
        const rows = groups.map(({ group, figures }): ServiceRow => {
          const [p50, p90, p99] = group.distributions[0]!.quantiles.map((quantile) => boundedFigure(quantile, write))
          return { ...figures, p50: p50!, p90: p90!, p99: p99! }
        })
        const sort = query.sort ?? 'n'
        const figure = (row: ServiceRow): number => {
          if (sort === 'p50' || sort === 'p90' || sort === 'p99') return row[sort].value
          return sort === 'name' ? 0 : row[sort]
        }
        return { ...answer, services: sorted(rows, figure).slice(0, query.limit ?? LIMIT) }
      }),
  )
  app.get<{ Querystring: Static<typeof routesQuery> }>(
    '/api/v1/routes',
    documented('routes', 'Rate, errors and durations by service, route and method', routesQuery, routesAnswer),
    (request, reply) =>
      answerWith(context, request, reply, async (question): Promise<RoutesAnswer> => {
        const { query } = request
        const { answer, groups, write, wanted } = await traffic(context, question, query, ROUTE_COLUMNS, query.q)
        const rows = groups.map(
          ({ group, figures }): RouteRow => ({
            ...figures,
            quantiles: quantilesOf(group.distributions[0]!, wanted.quantiles, (quantile) =>
              boundedFigure(quantile, write),
            ),
          }),
        )
        const sort = query.sort ?? 'n'
        const figure = (row: RouteRow): number => (sort === 'name' ? 0 : row[sort])
        return { ...answer, routes: sorted(rows, figure).slice(0, query.limit ?? LIMIT) }
      }),
  )
}

async function traffic(
  context: QueryContext,
  question: Question,
  query: Static<typeof servicesQuery> | Static<typeof routesQuery>,
  columns: string,
  quantiles: string | undefined,
) {
  const now = nowNanos(context)
  const wanted: Wanted = {
    interval: parseInterval(query, now),
    now,
    filters: parseFilters(query.where ?? []),
    groups: parseGroups(query.by ?? columns),
    view: query.view,
    method: query.method ?? 'auto',
    step: null,
    quantities: ['total'],
    quantiles: parseQuantiles(quantiles),
    breakdown: true,
    groupsMax: GROUPS_MAX,
  }
  const unit = query.unit ?? 'ms'
  const measured = await measure(context, question, wanted)
  return {
    wanted,
    write: inUnit(unit),
    groups: measured.groups.map((group) => ({ group, figures: figuresOf(group, wanted, measured) })),
    answer: {
      ...envelopeOf(context, measured),
      from: formatTime(measured.interval.from),
      to: formatTime(measured.interval.to),
      view: measured.view,
      unit,
      source: measured.source,
      method: measured.method,
      rows_total: measured.groups.length,
    },
  }
}

function figuresOf(group: Group, wanted: Wanted, { interval }: Measured) {
  const seconds = Number(interval.to - interval.from) / Number(SECOND)
  const [classes, outcomes] = [group.classes!, group.outcomes!]
  const n = group.requests
  return {
    labels: labelsOf(group, wanted.groups),
    n,
    rate: n / seconds,
    error_ratio: classes.server_error / n,
    aborted_ratio: classes.aborted / n,
    classes,
    outcomes,
  }
}

/** From the highest figure; equal ones stay in the order of their labels. */
function sorted<Row>(rows: readonly Row[], figure: (row: Row) => number): Row[] {
  return rows.toSorted((a, b) => figure(b) - figure(a))
}
