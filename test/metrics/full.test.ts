import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { isJournalTable } from '../../src/pipeline/journal-format.ts'
import { identity } from '../support/metrics.ts'
import { openMetricsLane } from '../support/metrics-lane.ts'
import { type NativeRow, readNative } from '../support/native-reader.ts'

const never = new AbortController().signal

it('closes the gate when the journal has no room, holds what it has, and goes on without loss or repeat', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-full-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const { journal, lane, metrics, start, stop } = await openMetricsLane(dir, { diskBytes: 300_000, ageMs: 50 })
  const reader = journal.reader('store')
  await start()
  const counter = metrics.series(identity({ name: 'absolute_total' }))
  const sum = metrics.series(identity({ name: 'sum_total' }))
  const fromMs = Date.now() - 1_000_000

  // Nobody takes segments: soon there is no room.
  let written = 0
  let acknowledged = 0
  while (!lane.gate.closed && written < 100_000) {
    for (let k = 0; k < 500; k++) metrics.setCounter(counter, fromMs + ++written, written)
    metrics.addCounter(sum, fromMs + written, 500)
    const ok = await metrics.synced().then(
      () => true,
      (error: unknown) => {
        expect(error).toMatchObject({ code: 'SC4104' })
        return false
      },
    )
    if (ok) acknowledged = written
  }
  expect(lane.gate.closed).toBe(true)
  expect(acknowledged).toBeGreaterThan(0)
  expect(acknowledged).toBeLessThan(written)

  // From here on the sink takes what there is.
  const rows: Record<'series' | 'samples', NativeRow[]> = { series: [], samples: [] }
  const ends = new AbortController()
  const taking = (async () => {
    for (let one = await reader.next(ends.signal); one !== null; one = await reader.next(ends.signal)) {
      for (const { table, file } of one.tables) {
        expect(isJournalTable(table)).toBe(true)
        for (const row of readNative(readFileSync(file))) rows[table as 'samples'].push(row)
      }
      await reader.ack(one)
    }
  })()
  await expect.poll(() => lane.gate.closed, { timeout: 5000 }).toBe(false)
  await metrics.synced()
  await stop()
  await expect.poll(() => reader.ready).toBe(false)
  ends.abort()
  await taking
  await journal.stop(never)

  const idOf = (name: string) => rows.series.find((row) => row.name === name)!.id
  expect(rows.series).toHaveLength(2)
  const absolute = rows.samples.filter((row) => row.series === idOf('absolute_total')).map(({ value }) => Number(value))
  expect(absolute.sort((a, b) => a - b)).toEqual(Array.from({ length: written }, (_, k) => k + 1))
  const sums = rows.samples.filter((row) => row.series === idOf('sum_total')).map(({ value }) => Number(value))
  expect(sums.at(-1)).toBe(written)
  expect(metrics.counters.droppedFull).toBe(0)
})
