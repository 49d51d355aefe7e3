/**
 * Which ranks of n sorted observations hold the quantile of what they were drawn from, with 95 % confidence, whatever
 * the distribution: the number of observations below it is binomial (n, q). 2.5 % are left out at either end, so a p99
 * has an upper end from n = 368 on, since 0.99^368 < 2.5 % (David and Nagaraja, Order Statistics, §7.1).
 */
export interface RankInterval {
  /** Null where n is too small to have that end. */
  readonly low: number | null
  readonly high: number | null
}

const TAIL = 0.025
/** Standard normal quantile of 1 − TAIL. */
export const NORMAL = 1.959963984540054
/** Up to this variance the tail is summed exactly (4 000 terms at most); above it the expansion is off by less than a rank. */
const EXACT_VARIANCE_MAX = 250_000

export function rankInterval(q: number, n: number): RankInterval {
  const low = lowRank(n, q)
  const fromTop = lowRank(n, 1 - q)
  return { low, high: fromTop === null ? null : n + 1 - fromTop }
}

/** The highest rank l with P(binomial(n, q) < l) ≤ TAIL; null when there is none. */
function lowRank(n: number, q: number): number | null {
  if (n === 0 || q <= 0) return null
  if (q >= 1) return n
  const variance = n * q * (1 - q)
  if (variance > EXACT_VARIANCE_MAX) return Math.floor(expandedRank(n, q, -1)) - 1
  const deviation = Math.sqrt(variance)
  let k = Math.max(0, Math.floor(n * q - 10 * deviation - 50))
  let probability = Math.exp(
    logFactorial(n) - logFactorial(k) - logFactorial(n - k) + k * Math.log(q) + (n - k) * Math.log1p(-q),
  )
  let below = 0
  const odds = q / (1 - q)
  // After the loop P(binomial < k) ≤ TAIL and P(binomial < k + 1) > TAIL.
  while (k < n && below + probability <= TAIL) {
    below += probability
    probability *= ((n - k) / (k + 1)) * odds
    k++
  }
  return k === 0 ? null : k
}

/**
 * Where the end of the interval lies, to the skewness: n·q ± z·σ + (1 − 2q)(z² − 1)/6 (Cornish and Fisher). `side` is −1 or
 * +1. The exact rank differs by less than `EXPANSION_ERROR_MAX`, for every n and q.
 */
export function expandedRank(n: number, q: number, side: -1 | 1): number {
  return n * q + side * NORMAL * Math.sqrt(n * q * (1 - q)) + ((1 - 2 * q) * (NORMAL * NORMAL - 1)) / 6
}

/** Bound of |rankInterval − expandedRank|; a test looks for worse. */
export const EXPANSION_ERROR_MAX = 3

/** ln k!, by Stirling's series from 16 on: relative error below 1e-15. */
function logFactorial(k: number): number {
  if (k < 16) {
    let product = 1
    for (let i = 2; i <= k; i++) product *= i
    return Math.log(product)
  }
  const x = k + 1
  const inverse = 1 / (x * x)
  return (
    (x - 0.5) * Math.log(x) -
    x +
    0.5 * Math.log(2 * Math.PI) +
    (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / x
  )
}
