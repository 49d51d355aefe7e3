import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { checkSegment } from '../../src/pipeline/journal-recovery.ts'
import { openRequestsRig } from '../support/requests-rig.ts'

/** A segment of three blocks of requests, with a bit of its manifest's line flipped. */
async function damaged(line: number) {
  const rig = await openRequestsRig()
  const segment = await rig.seal(2100)
  const requests = segment.tables.find(({ table }) => table === 'requests')!
  expect(requests.blocks).toBe(3)
  const dir = dirname(requests.file)
  const lines = readFileSync(join(dir, 'index'), 'latin1').split('\n')
  const at = lines.slice(0, line).reduce((sum, text) => sum + text.length + 1, 0) + 40
  const bytes = readFileSync(join(dir, 'index'))
  bytes[at] = bytes[at]! ^ 2
  writeFileSync(join(dir, 'index'), bytes)
  const { damage, lostNodes } = await checkSegment(dir)
  return { rows: damage.reduce((sum, { rows }) => sum + rows, 0), lost: [...lostNodes.values()] }
}

test.each([
  [0, 1000],
  [1, 1000],
  [2, 100],
])('rows of a block whose line %i is damaged are told to be lost', async (line, rows) => {
  expect(await damaged(line)).toEqual({ rows, lost: [rows] })
})

test('stale bytes of a recycled file are nobody’s loss', async () => {
  const rig = await openRequestsRig()
  const segment = await rig.seal(20)
  const { file } = segment.tables.find(({ table }) => table === 'requests')!
  const other = await rig.seal(30)
  const stale = readFileSync(other.tables.find(({ table }) => table === 'requests')!.file)
  writeFileSync(file, Buffer.concat([readFileSync(file), stale]))
  const index = join(dirname(file), 'index')
  const bytes = readFileSync(index)
  bytes[bytes.length - 20] = bytes[bytes.length - 20]! ^ 2
  writeFileSync(index, bytes)
  const { lostNodes } = await checkSegment(dirname(file))
  expect([...lostNodes]).toEqual([])
})
