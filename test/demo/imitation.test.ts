import { expect, test } from 'vitest'
import type { LogEntry } from '../../src/demo/als-encode.ts'
import { imitate } from '../../src/demo/imitation.ts'
import { mailIsUp } from '../../src/demo/shop.ts'
import { seededRandom } from '../../src/lib/random.ts'

const NOW = 1_700_000_000_000

function entries(n: number, seed = 1): LogEntry[] {
  const random = seededRandom(seed)
  return Array.from({ length: n }, (_, i) => imitate(random, NOW, i * 25)).flatMap(({ gateway, checkout }) =>
    checkout === null ? [gateway] : [gateway, checkout],
  )
}

test('imitated traffic has every fault that the shop promises', () => {
  const all = entries(4_000)
  const flags = new Map<string, number>()
  for (const { flag } of all) flags.set(flag ?? '-', (flags.get(flag ?? '-') ?? 0) + 1)
  expect([...flags.keys()].sort()).toEqual(['-', 'DC', 'UC', 'UH', 'URX', 'UT'])
  expect(flags.get('-')! / all.length).toBeGreaterThan(0.85)
  expect(all.some((entry) => entry.attempts > 1 && entry.flag === null)).toBe(true)
})

test('time points never go back and never pass the duration', () => {
  for (const entry of entries(4_000, 2)) {
    const { rxEnd, upTxBegin, upTxEnd, upRxBegin, upRxEnd, downTxBegin, downTxEnd, duration } = entry
    const upstream = [upTxBegin, upTxEnd, upRxBegin, upRxEnd, duration].filter((point) => point !== null)
    const downstream = [upRxBegin, downTxBegin, downTxEnd, duration].filter((point) => point !== null)
    expect(upstream).toEqual([...upstream].sort((a, b) => a - b))
    expect(downstream).toEqual([...downstream].sort((a, b) => a - b))
    expect(rxEnd).not.toBeNull()
    expect(entry.startMs + duration).toBeCloseTo(NOW, 3)
  }
})

test('mail loses its host for 8 s of every minute, first after 15 s', () => {
  const down = Array.from({ length: 180 }, (_, s) => s).filter((s) => !mailIsUp(s * 1_000))
  expect(down).toEqual([...range(15, 23), ...range(75, 83), ...range(135, 143)])
})

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}
