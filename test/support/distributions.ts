import { normal, seededRandom } from '../../src/lib/random.ts'
import { upperEdge } from '../../src/model/histogram.ts'

const US = 1e3
const MS = 1e6
const S = 1e9

type Draw = (random: () => number, k: number, n: number) => number

const logNormal =
  (median: number, sigma: number): Draw =>
  (random) =>
    median * Math.exp(sigma * normal(random))
const mixture =
  (...parts: readonly (readonly [share: number, draw: Draw])[]): Draw =>
  (random, k, n) => {
    let left = random()
    for (const [share, draw] of parts) {
      if (left < share) return draw(random, k, n)
      left -= share
    }
    return parts.at(-1)![1](random, k, n)
  }
const constant =
  (value: number): Draw =>
  () =>
    value
const oneOf =
  (values: readonly number[]): Draw =>
  (random) =>
    values[Math.floor(random() * values.length)]!

const around = (values: readonly number[]): number[] => values.flatMap((value) => [value - 1, value, value + 1])
const powersOfTwo = around(Array.from({ length: 52 }, (_, k) => 2 ** k)).filter((value) => value >= 0)
const powersOfTen = around(Array.from({ length: 15 }, (_, k) => 10 ** k))
const edges = around(Array.from({ length: 3200 }, (_, k) => upperEdge(k - 1800)))

/** Distributions of durations in ns that have caught out one or another percentile estimator. Values are whole, ≥ 0. */
export const DISTRIBUTIONS: Readonly<Record<string, Draw>> = {
  uniform: (random) => random() * 100 * MS,
  'uniform narrow': (random) => 50 * MS + random() * MS,
  'log-normal': logNormal(10 * MS, 0.5),
  'log-normal wide': logNormal(10 * MS, 2),
  'log-normal extreme': logNormal(10 * MS, 5),
  exponential: (random) => -Math.log(1 - random()) * 20 * MS,
  normal: (random) => 200 * MS + 20 * MS * normal(random),
  'pareto 1.1': (random) => (5 * MS) / (1 - random()) ** (1 / 1.1),
  'pareto 0.7': (random) => MS / (1 - random()) ** (1 / 0.7),
  'retry cliff': mixture([0.97, logNormal(8 * MS, 0.4)], [0.03, (random) => 250 * MS + random() * 5 * MS]),
  'two retry cliffs': mixture(
    [0.95, logNormal(4 * MS, 0.3)],
    [0.04, (random) => 250 * MS + random() * MS],
    [0.01, (random) => 500 * MS + random() * MS],
  ),
  'time-out wall': mixture([0.9, logNormal(100 * MS, 1)], [0.1, constant(15 * S)]),
  'cache hit or miss': mixture([0.8, logNormal(300 * US, 0.2)], [0.2, logNormal(120 * MS, 0.3)]),
  'three modes': mixture([0.5, logNormal(MS, 0.1)], [0.3, logNormal(30 * MS, 0.1)], [0.2, logNormal(S, 0.1)]),
  'all equal': constant(12_345_678),
  'all one second': constant(S),
  'all 1 ns': constant(1),
  'all zero': constant(0),
  'zeros and a few': mixture([0.9, constant(0)], [0.1, logNormal(MS, 1)]),
  'two values': oneOf([3 * MS, 300 * MS]),
  'two neighbours': oneOf([S, S + 1]),
  'two far apart': oneOf([1, 2 ** 53 - 1]),
  'below a millisecond': logNormal(80 * US, 0.6),
  nanoseconds: (random) => random() * 200,
  hours: logNormal(2 * 3600 * S, 0.8),
  'whole milliseconds': (random) => Math.ceil(random() * 400) * MS,
  'powers of two ± 1': oneOf(powersOfTwo),
  'powers of ten ± 1': oneOf(powersOfTen),
  'bucket edges ± 1': oneOf(edges),
  ascending: (_, k) => k * 137,
  'one outlier': (random, k) => (k === 0 ? 3 * 3600 * S : 5 * MS + random() * MS),
  'every magnitude': (random) => 2 ** (random() * 53),
}

/** `n` values of a distribution, in whole ns, always the same ones for a seed. */
export function drawDistribution(name: string, n: number, seed: number): Float64Array {
  const random = seededRandom(seed)
  const draw = DISTRIBUTIONS[name]!
  return Float64Array.from({ length: n }, (_, k) =>
    Math.min(Math.max(Math.round(draw(random, k, n)), 0), Number.MAX_SAFE_INTEGER),
  )
}
