import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { lockDirectory } from '../../src/lib/directory-lock.ts'

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-lock-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

test('one holder at a time, also within one process, and nothing is written to the lock', () => {
  const dir = folder()
  const first = lockDirectory(dir)
  expect(first.held).toBe(true)
  const second = lockDirectory(dir)
  expect(second).toMatchObject({ held: false, ownerPid: process.pid })
  expect(statSync(join(dir, 'lock')).size).toBe(0)
  if (first.held) {
    first.lock.release()
    first.lock.release()
  }
  const third = lockDirectory(dir)
  expect(third.held).toBe(true)
  if (third.held) third.lock.release()
})

test('a folder that is not there cannot be locked', () => {
  expect(lockDirectory(join(folder(), 'missing'))).toMatchObject({ held: false, ownerPid: null })
})
