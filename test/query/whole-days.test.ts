import { describe, expect, it } from 'vitest'
import type { Question } from '../../src/query/question.ts'
import { asProblem } from '../../src/query/question.ts'
import { DAY, HOUR, type Interval, SECOND } from '../../src/query/time.ts'
import { readWholeDays } from '../../src/query/whole-days.ts'

const T0 = 20_000n * DAY
const signal = new AbortController().signal

/** A question to a store where the days with these numbers after T0 are there, some as their hours say; or which fails. */
function questionOf(same: readonly number[] | Error, differing: readonly number[] = []) {
  const asked: Readonly<Record<string, unknown>>[] = []
  const run = async ({ params }: { readonly params: Readonly<Record<string, unknown>> }) => {
    asked.push(params)
    if (same instanceof Error) throw asProblem(same, signal)
    const days = [...same, ...differing].toSorted((a, b) => a - b)
    return days.map((k) => ({ day: Number((T0 + BigInt(k) * DAY) / SECOND), same: same.includes(k) ? 1 : 0 }))
  }
  return { asked, question: { signal, run } as unknown as Question }
}

const written = (runs: readonly Interval[]) =>
  runs.map(({ from, to }) => `${(from - T0) / DAY}-${(to - T0) / DAY}`).join(' ')

describe('days that are whole', () => {
  const interval = { from: T0 - HOUR, to: T0 + 10n * DAY + HOUR }
  const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  const cases: [string, readonly number[], readonly number[], string][] = [
    ['none differs', all, [], '0-10'],
    ['the first and the last differ', all.slice(1, 9), [0, 9], '1-9'],
    ['some differ', [0, 1, 2, 5, 6, 8, 9], [3, 4, 7], '0-3 5-7 8-10'],
    ['of some nothing is stored', [2, 3, 6], [], '2-7'],
    ['of some nothing is stored, and one differs', [2, 6, 8], [4], '2-3 6-9'],
    ['all differ', [], all, ''],
    ['nothing is stored', [], [], ''],
  ]
  for (const [name, same, differing, expected] of cases) {
    it(`are ${expected || 'none'} of ten when ${name}`, async () => {
      const { question, asked } = questionOf(same, differing)
      expect(written(await readWholeDays(question, interval, null))).toBe(expected)
      expect(asked).toEqual([{ from: Number(T0 / SECOND), to: Number((T0 + 10n * DAY) / SECOND) }])
    })
  }

  it('are the ten longest runs of many', async () => {
    const long = { from: T0, to: T0 + 100n * DAY }
    const days = Array.from({ length: 100 }, (_, k) => k)
    const differs = (day: number) => day % 3 === 2 && day !== 50
    const { question } = questionOf(
      days.filter((day) => !differs(day)),
      days.filter(differs),
    )
    const runs = (await readWholeDays(question, long, null)).map(({ from, to }) => (to - from) / DAY)
    expect(runs.length).toBe(10)
    expect(runs).toContain(5n)
  })

  it('are not asked for where no day can be read', async () => {
    const { question, asked } = questionOf(all)
    expect(await readWholeDays(question, { from: T0 + 1n, to: T0 + 2n * DAY - 1n }, null)).toEqual([])
    expect(await readWholeDays(question, interval, HOUR)).toEqual([])
    expect(await readWholeDays(question, interval, 36n * HOUR)).toEqual([])
    expect(asked).toEqual([])
    expect(written(await readWholeDays(question, interval, 2n * DAY))).toBe('0-10')
  })

  it('are none where an older version made the store, and any other failure is told', async () => {
    const unknown = Object.assign(new Error('Code: 60. DB::Exception: Unknown table'), { code: '60' })
    expect(await readWholeDays(questionOf(unknown).question, interval, null)).toEqual([])
    const timeout = Object.assign(new Error('Code: 159. DB::Exception: Timeout'), { code: '159' })
    await expect(readWholeDays(questionOf(timeout).question, interval, null)).rejects.toMatchObject({
      code: 'query_timeout',
    })
  })
})
