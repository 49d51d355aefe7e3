import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type KnownSeries, openSeriesLog } from '../../../src/adapters/remote-write/known-series.ts'

function path(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-series-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return join(dir, 'remote-write', 'series.log')
}
const series = (name: string, day: number): KnownSeries => ({
  name,
  labels: [['job', 'j']],
  type: 'counter',
  unit: '',
  help: '',
  day,
})

test('series are there again after a restart, the last line of each', async () => {
  const file = path()
  const first = await openSeriesLog(file, 100)
  first.set('a', series('one', 100))
  first.set('\ud800\udfff\udc00', series('any text', 100))
  await first.save()
  first.set('a', { ...series('one', 100), bounds: [1, 2] })
  await first.save()
  first.set('lost', series('not saved', 100))
  const again = await openSeriesLog(file, 101)
  expect([again.size, again.damaged]).toEqual([2, 0])
  expect(again.get('a')).toEqual({ ...series('one', 100), bounds: [1, 2] })
  expect(again.get('\ud800\udfff\udc00')?.name).toBe('any text')
  expect(again.get('lost')).toBeUndefined()
})

test('what was not told for two days is gone, at the start and when a day begins', async () => {
  const file = path()
  const log = await openSeriesLog(file, 100)
  for (const day of [97, 98, 100]) log.set(String(day), series('x', day))
  await log.save()
  await log.turn(101)
  expect([log.get('97'), log.get('98'), log.get('100')?.day]).toEqual([undefined, undefined, 100])
  expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(2)
  expect((await openSeriesLog(file, 103)).size).toBe(0)
})

test('a damaged line costs itself, a torn one nothing', async () => {
  const file = path()
  const log = await openSeriesLog(file, 100)
  log.set('a', series('one', 100))
  await log.save()
  appendFileSync(file, '00000000 ["b",{}]\n')
  log.set('c', series('three', 100))
  await log.save()
  appendFileSync(file, '12345678 ["d",{"na')
  const again = await openSeriesLog(file, 100)
  expect([again.size, again.damaged, again.get('c')?.name]).toEqual([2, 1, 'three'])
})
