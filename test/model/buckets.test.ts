import { describe, expect, test } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import {
  BUCKET_CODES,
  BUCKET_MAX,
  bucketOf,
  codeOf,
  exactEdge,
  lowerEdge,
  RELATIVE_ERROR_MAX,
  representative,
  upperEdge,
  ZERO_BUCKET,
} from '../../src/model/buckets.ts'

const LAST_EXACT = 1479 // The bucket of 2^53 ns.

/** Whether edge ≤ 10⁹·2^(i/64) < edge + 1, by the definition: both sides to the power of 64. */
function isEdge(edge: bigint, i: number): boolean {
  const [scale, other] = i >= 0 ? [1n << BigInt(i), 1n] : [1n, 1n << BigInt(-i)]
  const power = 10n ** 576n * scale
  return edge ** 64n * other <= power && (edge + 1n) ** 64n * other > power
}

describe('edges', () => {
  test('are the whole part of 10⁹·2^(i/64) for every bucket', () => {
    for (let i = ZERO_BUCKET; i <= BUCKET_MAX; i++) expect(isEdge(exactEdge(i), i), `edge ${i}`).toBe(true)
  })

  test('are whole powers of two of a second at multiples of 64', () => {
    expect([-64, 0, 64, 128, 640].map(upperEdge)).toEqual([5e8, 1e9, 2e9, 4e9, 1024e9])
    expect(lowerEdge(1)).toBe(1e9)
    expect(upperEdge(ZERO_BUCKET)).toBe(0)
    expect(upperEdge(ZERO_BUCKET + 1)).toBe(1)
  })
})

describe('the bucket of a value', () => {
  test('is right at every edge and its neighbours', () => {
    for (let i = ZERO_BUCKET; i <= LAST_EXACT; i++) {
      for (const value of [-1n, 0n, 1n].map((d) => exactEdge(i) + d)) {
        if (value < 1n || value > BigInt(Number.MAX_SAFE_INTEGER)) continue
        const bucket = bucketOf(Number(value))
        expect(exactEdge(bucket) >= value && exactEdge(bucket - 1) < value, `${value} in ${bucket}`).toBe(true)
      }
    }
  })

  test('is right for random values of every magnitude', () => {
    const random = seededRandom(1)
    for (let k = 0; k < 50_000; k++) {
      const value = Math.floor(2 ** (random() * 53))
      const bucket = bucketOf(value)
      if (value > upperEdge(bucket) || value <= lowerEdge(bucket)) expect.fail(`${value} in ${bucket}`)
    }
  })

  test('is right for doubles above 2^53 too, and the last bucket takes what is above it', () => {
    for (let i = LAST_EXACT + 1; i < BUCKET_MAX; i++) {
      const edge = upperEdge(i)
      expect(bucketOf(edge)).toBe(i)
      // The next double: these are 2^11 apart at most.
      expect(bucketOf(edge + 2 ** Math.max(0, Math.floor(Math.log2(edge)) - 52))).toBe(i + 1)
    }
    expect(bucketOf(2 ** 80)).toBe(BUCKET_MAX)
  })

  test('is a bucket of its own for zero, and codes fit 12 bits', () => {
    expect(bucketOf(0)).toBe(ZERO_BUCKET)
    expect(codeOf(0)).toBe(0)
    expect(codeOf(1)).toBe(1)
    expect(codeOf(Number.MAX_VALUE)).toBe(BUCKET_CODES - 1)
    expect(BUCKET_CODES).toBe(4096)
  })
})

test('the representative is at most 0.5415 % from either end of a bucket, and the value itself in a bucket of one', () => {
  let worst = 0
  for (let i = ZERO_BUCKET + 1; i <= LAST_EXACT; i++) {
    const low = lowerEdge(i) + 1
    const high = upperEdge(i)
    if (low > high) continue
    const value = representative(low, high)
    if (low === high) expect(value).toBe(low)
    worst = Math.max(worst, (value - low) / low, (high - value) / high)
  }
  expect(worst).toBeLessThanOrEqual(RELATIVE_ERROR_MAX + 1e-12)
  expect(worst).toBeGreaterThan(0.0054)
})
