import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { readBoot } from '../../../src/adapters/clickhouse/boot.ts'

it('tells whether the machine was started anew, once that has been taken care of', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-boot-'))
  onTestFinished(() => rm(dir, { recursive: true }))
  const source = join(dir, 'boot_id')
  expect((await readBoot(dir, source)).same, 'where no boot has an id').toBe(false)
  await writeFile(source, 'first\n')
  const first = await readBoot(dir, source)
  expect(first.same).toBe(false)
  expect((await readBoot(dir, source)).same, 'not remembered yet').toBe(false)
  await first.remember()
  expect((await readBoot(dir, source)).same).toBe(true)
  await writeFile(source, 'second\n')
  expect((await readBoot(dir, source)).same).toBe(false)
})
