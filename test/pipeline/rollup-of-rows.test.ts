import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createEntryGenerator } from '../../bench/support/als-entries.ts'
import { createAlsDecoder } from '../../src/ingest/als/decode.ts'
import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import { createNodeReader } from '../../src/ingest/als/node.ts'
import type { NativeBlock } from '../../src/model/batch.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import type { RowTable } from '../../src/model/schema.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import { rollupBlockOfRows } from '../../src/pipeline/rollup-of-rows.ts'
import { RECEIVED_MS } from '../support/als-decoding.ts'
import { readNative } from '../support/native-reader.ts'

/** Blocks of rows as a lane would append them, and the rollup that it would seal them with. */
function written({ secondary = false } = {}): { rows: Buffer; count: number; rollup: NativeBlock } {
  const resolver = createIdentityResolver()
  const odd = {
    mark(rows: number, _o: unknown, _s: unknown, _k: unknown, marks: Uint8Array) {
      for (let i = 0; i < rows; i++) marks[i] = i % 2
      return true
    },
  }
  const builder = (table: RowTable) =>
    createBatchBuilder({ table, rowsMax: 512, resolver, ...(secondary ? { secondary: odd } : {}) })
  const builders = {
    requests: builder('requests'),
    attempts: builder('attempts'),
    progress: builder('progress'),
    connections: builder('connections'),
  }
  const nodes = createNodeReader()
  const rollup = createRollup()
  const blocks: Buffer[] = []
  let count = 0
  const flush = () => {
    const batch = builders.requests.seal()
    blocks.push(Buffer.concat(batch.encode('0-1-1').buffers))
    rollup.add(batch)
    count += batch.rows
    builders.requests.reset()
  }
  const decoder = createAlsDecoder({
    builders,
    redaction: createRedaction(),
    onIdentifier: (bytes, start, end) => nodes.read(bytes, start, end),
  })
  const generator = createEntryGenerator(7, { node: 3, errorShare: 0.2, spacingNs: 90e6, edges: 20 })
  const stream = { origin: null }
  for (let k = 0; k < 40; k++) {
    const message = generator.message()
    let result = decoder.decode(message, 0, message.length, stream, RECEIVED_MS)
    while (result.full !== null) {
      flush()
      result = decoder.decode(message, 0, message.length, stream, RECEIVED_MS, result.resume)
    }
  }
  flush()
  return { rows: Buffer.concat(blocks), count, rollup: rollup.seal()! }
}

const rowsOf = (block: NativeBlock) => readNative(Buffer.concat(block.buffers))

test.each([false, true])(
  'is the rollup that the rows had on their way in (some of them secondary: %s)',
  async (secondary) => {
    const { rows, count, rollup } = written({ secondary })
    const dir = mkdtempSync(join(tmpdir(), 'sidecast-rollup-'))
    onTestFinished(() => rmSync(dir, { recursive: true }))
    const file = join(dir, 'requests.seg')
    // What follows the last block belongs to nobody.
    writeFileSync(file, Buffer.concat([rows, Buffer.from('stale bytes of a recycled file')]))
    const table = {
      table: 'requests',
      file,
      bytes: rows.length,
      rows: count,
      blocks: 3,
      days: new Map(),
      nodes: new Map(),
    } as const
    const made = await rollupBlockOfRows(table, { keysPerMinuteMax: 20_000 })
    expect(made!.rows).toBeGreaterThan(20)
    expect(made!.days).toEqual(rollup.days)
    expect(rowsOf(made!)).toEqual(rowsOf(rollup))
  },
)
