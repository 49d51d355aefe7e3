import { PHASES } from '../../model/phases.ts'
import { CLASSES, FLAGS, OUTCOMES } from '../../model/schema.ts'
import type { Labels } from './labels.ts'
import type { OwnPair, OwnSeries } from './own-series.ts'
import type { PhaseHistogram } from './phase-histogram.ts'
import type { Proxies } from './proxies.ts'

/** Families beside those of `families.ts`: few series, each told as an object while the page is written. */
export interface OwnFamily {
  readonly type: 'counter' | 'gauge' | 'histogram'
  /** Name of the samples. */
  readonly name: string
  readonly help: string
  readonly unit?: 'seconds'
  series(registry: OwnRegistry): Iterable<OwnPoint>
}

export interface OwnRegistry {
  readonly own: OwnSeries
  readonly proxies: Proxies
}

/** One series of a family. Those with the same `labels` object come one after the other. */
export interface OwnPoint {
  readonly labels: Labels
  /** Follow the others. */
  readonly more: Labels
  readonly createdMs: number
  /** Of counters and gauges. */
  readonly value: number
  readonly histogram: PhaseHistogram | null
}

export const OWN_FAMILIES: readonly OwnFamily[] = [
  {
    type: 'counter',
    name: 'sidecast_requests_total',
    help: 'Requests and connections that ended, by who made the answer and what kind of answer it was.',
    series: ofPairs(requestPoints),
  },
  {
    type: 'counter',
    name: 'sidecast_request_attempts_total',
    help: 'Attempts at the upstream, the first one of each request included.',
    series: ofPairs((pair, labels) => [point(pair, labels, [], pair.attempts)]),
  },
  {
    type: 'counter',
    name: 'sidecast_response_flags_total',
    help: 'Requests that had the response flag.',
    series: ofPairs(flagPoints),
  },
  {
    type: 'histogram',
    name: 'sidecast_request_phase_seconds',
    help: 'Time that requests spent in each phase; the phases of a request add up to its duration.',
    unit: 'seconds',
    series: ofPairs(phasePoints),
  },
  {
    type: 'gauge',
    name: 'istio_build',
    help: 'Proxies that sent access logs lately, by version of Istio.',
    *series({ proxies }) {
      for (const [tag, count] of proxies.byVersion()) {
        const labels: Labels = [
          ['component', 'proxy'],
          ['tag', tag],
        ]
        yield { labels, more: [], createdMs: 0, value: count, histogram: null }
      }
    },
  },
]

function ofPairs(points: (pair: OwnPair, labels: Labels) => Iterable<OwnPoint>): OwnFamily['series'] {
  return function* ({ own }) {
    for (const pair of own.pairs()) yield* points(pair, pair.labels())
  }
}

const point = (
  { createdMs }: OwnPair,
  labels: Labels,
  more: Labels,
  value: number,
  histogram: PhaseHistogram | null = null,
): OwnPoint => ({ labels, more, createdMs, value, histogram })

/** Outcome and class of a place in `OwnPair.requests`, as labels. */
export const ANSWERS: readonly Labels[] = OUTCOMES.flatMap((outcome) =>
  CLASSES.map(
    (one): Labels => [
      ['outcome', outcome],
      ['class', one],
    ],
  ),
)
export const FLAG_LABELS: readonly Labels[] = FLAGS.map((flag) => [['flag', flag]])
export const PHASE_LABELS: readonly Labels[] = PHASES.map((phase) => [['phase', phase]])

function* requestPoints(pair: OwnPair, labels: Labels): Generator<OwnPoint> {
  for (let k = 0; k < ANSWERS.length; k++) {
    if (pair.requests[k]! > 0) yield point(pair, labels, ANSWERS[k]!, pair.requests[k]!)
  }
}

function* flagPoints(pair: OwnPair, labels: Labels): Generator<OwnPoint> {
  for (let bit = 0; pair.flags !== null && bit < FLAGS.length; bit++) {
    if (pair.flags[bit]! > 0) yield point(pair, labels, FLAG_LABELS[bit]!, pair.flags[bit]!)
  }
}

function* phasePoints(pair: OwnPair, labels: Labels): Generator<OwnPoint> {
  for (let k = 0; pair.phases !== null && k < PHASES.length; k++)
    yield point(pair, labels, PHASE_LABELS[k]!, 0, pair.phases[k]!)
}
