import { upperEdge, ZERO_BUCKET } from '../../model/buckets.ts'
import type { Histogram } from '../../model/histogram.ts'
import { CENTROIDS_KEPT, WEIGHT_MAX } from './limits.ts'

/** Ascending means with their weights, as a distribution line has them. */
export interface Centroids {
  readonly means: readonly number[]
  readonly counts: readonly number[]
}

/**
 * A histogram as few enough centroids that a proxy takes them as they are: at most 64, ascending, each of weight 1 or more.
 *
 * Minimum and maximum are exact, as centroids of weight 1. What lies between is buckets of 1.1 % width, put together where
 * a t-digest would (scale function k₁ = asin(2q − 1)/π): wide in the middle, single buckets towards both ends, because
 * the ends are what is asked for. The weighted mean of all centroids is the exact mean, up to rounding: what the buckets
 * do not know is put right by a shift that stays inside each centroid's neighbours.
 *
 * More than 2^31 − 1 observations in one centroid come out as several histograms, which the service adds.
 */
export function centroidsOf(histogram: Histogram, centroidsMax: number = CENTROIDS_KEPT): Centroids[] {
  if (histogram.count === 0) return []
  const points = corrected(compressed(pointsOf(histogram), histogram.count, centroidsMax), histogram)
  const parts = Math.ceil(Math.max(...points.map(({ count }) => count)) / WEIGHT_MAX)
  return Array.from({ length: parts }, (_, part) => {
    const shares = points
      .map(({ mean, count }) => ({ mean, count: Math.floor((count + part) / parts) }))
      .filter(({ count }) => count > 0)
    return { means: shares.map(({ mean }) => mean), counts: shares.map(({ count }) => count) }
  })
}

interface Weighted {
  mean: number
  count: number
}

/** Buckets by the middle of what they can hold, with the extremes taken out of theirs as single observations. */
function pointsOf(histogram: Histogram): Weighted[] {
  const { min, max, count } = histogram
  if (min === max) return [{ mean: min, count }]
  const between: Weighted[] = histogram.zeros > 0 ? [{ mean: 0, count: histogram.zeros }] : []
  for (const [bucket, times] of histogram.buckets()) {
    const low = Math.max(min, bucket <= ZERO_BUCKET + 1 ? 1 : upperEdge(bucket - 1) + 1)
    const high = Math.min(max, upperEdge(bucket))
    between.push({ mean: (low + high) / 2, count: times })
  }
  between[0]!.count--
  between.at(-1)!.count--
  return inOrder([{ mean: min, count: 1 }, ...between.filter((point) => point.count > 0), { mean: max, count: 1 }])
}

/** Neighbours of the same mean become one. */
function inOrder(points: readonly Weighted[]): Weighted[] {
  const distinct: Weighted[] = []
  for (const point of points) {
    const last = distinct.at(-1)
    if (last !== undefined && last.mean >= point.mean) last.count += point.count
    else distinct.push({ ...point })
  }
  return distinct
}

/** First and last stay as they are; the others are merged with those in the same of `centroidsMax − 2` steps of k₁. */
function compressed(points: Weighted[], total: number, centroidsMax: number): Weighted[] {
  if (points.length <= centroidsMax) return points
  const steps = centroidsMax - 2
  const merged: Weighted[] = []
  let seen = points[0]!.count
  let last = -1
  for (const { mean, count } of points.slice(1, -1)) {
    const middle = (seen + count / 2) / total
    const step = Math.min(steps - 1, Math.floor((steps * (Math.asin(2 * middle - 1) + Math.PI / 2)) / Math.PI))
    const open = merged.at(-1)
    if (open !== undefined && step === last) {
      open.count += count
      open.mean += (mean - open.mean) * (count / open.count)
    } else merged.push({ mean, count })
    last = step
    seen += count
  }
  return [points[0]!, ...merged, points.at(-1)!]
}

/** Moves the inner means together, as far as their order allows, until the sum is the exact one. */
function corrected(points: Weighted[], histogram: Histogram): Weighted[] {
  if (points.length < 3) return points
  const inner = points.slice(1, -1)
  const [first, last] = [points[0]!, points.at(-1)!]
  const exact = Number(histogram.sum) - first.mean * first.count - last.mean * last.count
  const have = inner.reduce((sum, { mean, count }) => sum + mean * count, 0)
  const factor = exact / have
  // Scaling keeps the order of the inner ones; the extremes bound it.
  if (!(factor > 0) || inner[0]!.mean * factor <= first.mean || inner.at(-1)!.mean * factor >= last.mean) return points
  return [first, ...inner.map(({ mean, count }) => ({ mean: mean * factor, count })), last]
}
