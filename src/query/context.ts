import type { FastifyReply, FastifyRequest } from 'fastify'
import type { QueryStore } from '../model/query.ts'
import type { Log } from '../telemetry/log.ts'
import type { HorizonReader } from './horizon.ts'
import type { LedgerSource, QueryLimits, StatusSource } from './ports.ts'
import { Problem } from './problem.ts'
import type { Question, Questions } from './question.ts'
import type { Envelope } from './schemas.ts'
import { formatMs, type Interval, MS, type Nanos } from './time.ts'

/** What the routes work with. */
export interface QueryContext {
  readonly store: QueryStore
  readonly questions: Questions
  readonly horizon: HorizonReader
  readonly ledger: LedgerSource
  readonly status: StatusSource
  readonly limits: QueryLimits
  readonly log: Log
  /** Unix ms. */
  readonly now: () => number
  /** Monotonic ms. */
  readonly tick: () => number
  /** Aborted when the server stops and its patience is over. */
  readonly stopping: AbortSignal
}

export function nowNanos(context: QueryContext): Nanos {
  return BigInt(Math.trunc(context.now())) * MS
}

export interface Measurement {
  readonly interval: Interval
  readonly stored: number | null
  readonly precisionNs: number | null
}

/** What every answer carries. `null`: the answer is not about requests of an interval. */
export function envelopeOf(context: QueryContext, measurement: Measurement | null): Envelope {
  const through = context.ledger.through()
  const known =
    measurement === null
      ? null
      : context.ledger.coverage(Number(measurement.interval.from / MS), Number(measurement.interval.to / MS))
  return {
    as_of: formatMs(context.now()),
    through: through === null ? null : formatMs(through),
    coverage: {
      served: known?.served ?? null,
      stored: measurement?.stored ?? null,
      lost: known?.lost ?? null,
      filtered: known?.filtered ?? null,
      sampled: known?.sampled ?? null,
      known: known !== null,
    },
    precision_ns: measurement?.precisionNs ?? null,
  }
}

/**
 * Answers a question with the store: lets it in, cancels it when the client leaves, and says in `Server-Timing` what it
 * took: `queue` (waiting for a place), `store`, `total`, all in ms, and the rows that were read.
 */
export async function answerWith<Answer>(
  context: QueryContext,
  request: FastifyRequest,
  reply: FastifyReply,
  work: (question: Question) => Promise<Answer>,
): Promise<Answer> {
  const start = context.tick()
  const leaving = new AbortController()
  const onClose = () => {
    if (!reply.raw.writableFinished) leaving.abort(new Error('the client left'))
  }
  reply.raw.once('close', onClose)
  const signal = AbortSignal.any([leaving.signal, context.stopping])
  const question = context.questions.open(signal)
  try {
    const answer = await work(question)
    const { statements, rowsRead, storeMs, waitMs } = question.cost
    const timing = [
      `queue;dur=${waitMs.toFixed(1)}`,
      `store;dur=${storeMs.toFixed(1)};desc="${statements} statements, ${rowsRead} rows read"`,
      `total;dur=${(context.tick() - start).toFixed(1)}`,
    ]
    reply.header('server-timing', timing.join(', '))
    return answer
  } catch (error) {
    if (error instanceof Problem && error.code !== 'internal') throw error
    if (context.stopping.aborted)
      throw new Problem('stopping', 'the process is stopping', { retryAfter: 5, cause: error })
    if (leaving.signal.aborted) throw new Problem('stopping', 'the client left', { cause: error })
    context.log.error({ error, path: request.url.split('?')[0] }, 'A query failed in a way that is not foreseen')
    throw error instanceof Problem ? error : new Problem('internal', 'the log says more', { cause: error })
  } finally {
    reply.raw.removeListener('close', onClose)
    question.close()
  }
}
