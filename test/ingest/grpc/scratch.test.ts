import { expect, test } from 'vitest'
import { createScratch } from '../../../src/ingest/grpc/scratch.ts'

test('buffers are used again, and the bound holds for all that are out', () => {
  const scratch = createScratch(128 * 1024)
  const first = scratch.take(1)!
  const second = scratch.take(40_000)!
  expect([first.length, second.length]).toEqual([32 * 1024, 64 * 1024])
  expect(scratch.bytes).toBe(96 * 1024)
  expect(scratch.take(33_000)).toBeNull()
  scratch.give(first)
  expect(scratch.bytes).toBe(64 * 1024)
  expect(scratch.take(100) === first).toBe(true)
})

test('a buffer larger than those that are kept is given out and forgotten', () => {
  const scratch = createScratch(16 << 20)
  const large = scratch.take(3 << 20)!
  expect(large.length).toBe(4 << 20)
  scratch.give(large)
  expect(scratch.bytes).toBe(0)
  expect(scratch.take(3 << 20) === large).toBe(false)
})
