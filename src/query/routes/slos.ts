import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { nearest } from '../../lib/nearest.ts'
import { answerWith, envelopeOf, nowNanos, type QueryContext } from '../context.ts'
import type { SloSource } from '../ports.ts'
import { Problem, shown } from '../problem.ts'
import type { Question } from '../question.ts'
import { rowOf, sloAnswer, slosAnswer } from '../slo/answer.ts'
import { createSloCounter, type SloCounts } from '../slo/counts.ts'
import type { Slo } from '../slo/slo.ts'
import { formatTime, type Nanos, parseTime } from '../time.ts'
import { documented } from './documented.ts'

const slosQuery = Type.Object(
  { at: Type.Optional(Type.String({ maxLength: 64, description: 'End of all windows. Default now' })) },
  { additionalProperties: false },
)
const params = Type.Object({ name: Type.String({ maxLength: 80, description: 'Name of an objective' }) })

/** Objectives: what was good and bad, how much of the budget is left, and how fast it burns. */
export function slosRoutes(app: FastifyInstance, context: QueryContext, source: SloSource): void {
  app.get<{ Querystring: Static<typeof slosQuery> }>(
    '/api/v1/slos',
    documented('slos', 'Objectives: good and bad requests, budget left, burn by window', slosQuery, slosAnswer),
    (request, reply) =>
      answerWith(context, request, reply, async (question): Promise<Static<typeof slosAnswer>> => {
        const slos = source.slos()
        const { at, counts } = await countAll(context, question, slos, request.query.at)
        const { whole } = widest(counts) ?? {}
        return {
          ...envelopeOf(context, whole === undefined ? null : measured(whole, context)),
          at: formatTime(at),
          slos: slos.map((slo, k) => rowOf(slo, counts[k]!)),
        }
      }),
  )
  const one = documented('slo', 'One objective', slosQuery, sloAnswer, 404)
  app.get<{ Querystring: Static<typeof slosQuery>; Params: Static<typeof params> }>(
    '/api/v1/slos/:name',
    { ...one, schema: { ...one.schema, params } },
    (request, reply) =>
      answerWith(context, request, reply, async (question): Promise<Static<typeof sloAnswer>> => {
        const { name } = request.params
        const slo = source.slos().find((candidate) => candidate.name === name)
        if (slo === undefined) throw unknown(name, source.slos())
        const { at, counts } = await countAll(context, question, [slo], request.query.at)
        const [{ whole }] = counts as [SloCounts]
        return { ...envelopeOf(context, measured(whole, context)), at: formatTime(at), ...rowOf(slo, counts[0]!) }
      }),
  )
}

async function countAll(context: QueryContext, question: Question, slos: readonly Slo[], asked: string | undefined) {
  const now = nowNanos(context)
  const at: Nanos = asked === undefined ? now : parseTime(asked, 'at', now)
  const count = createSloCounter(context, question, at, now)
  return { at, counts: await Promise.all(slos.map(count)) }
}

/** Coverage is told of the longest time that was counted, as of one that holds all of the others. */
function widest(counts: readonly SloCounts[]): SloCounts | undefined {
  return counts.toSorted((a, b) => (a.whole.interval.from < b.whole.interval.from ? -1 : 1))[0]
}

function measured(whole: SloCounts['whole'], context: QueryContext) {
  return {
    interval: whole.interval,
    stored: whole.total + whole.excluded,
    precisionNs: whole.total === 0 ? null : context.ledger.precisionNs(),
  }
}

function unknown(name: string, slos: readonly Slo[]): Problem {
  const guess = nearest(
    name,
    slos.map((slo) => slo.name),
  )
  return new Problem('not_found', `there is no objective ${shown(name)}`, {
    help: guess === undefined ? 'GET /api/v1/slos lists them; slo.files names their files' : `did you mean ${guess}?`,
  })
}
