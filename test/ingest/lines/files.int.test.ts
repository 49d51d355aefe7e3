import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { killTail } from '../../support/kill-tail.ts'

test('rotated in every way and killed at any moment, every line is stored exactly once', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-kill-tail-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const seed = Math.floor(Math.random() * 1e6)
  const { lines, stored } = await killTail({ dir, seed, kills: 6, rotations: 4 })
  expect(stored, `seed ${seed}`).toBe(lines)
  expect(lines).toBeGreaterThan(500)
})
