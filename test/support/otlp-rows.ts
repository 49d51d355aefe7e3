import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import type { AccessEntry } from '../../src/ingest/entry/entry.ts'
import { createEntryWriter } from '../../src/ingest/entry/writer.ts'
import type { NativeBlock, Origin } from '../../src/model/batch.ts'
import { type NativeBlockColumns, readBlock } from '../../src/model/native-read.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import type { Segment, SegmentTable } from '../../src/pipeline/segment.ts'
import { createDecoding, originOf, RECEIVED_MS } from './als-decoding.ts'

/** Fills one entry of an access log. */
export type Fill = (entry: AccessEntry) => void

export interface MadeRows {
  readonly requests: Buffer
  readonly rows: number
  /** Of `latency_1m`. */
  readonly rollup: Buffer
  readonly rollupRows: number
}

/** Requests as a block of the journal, through the decoder, the builders and the rollup that the product has. */
export function makeRows(
  fills: readonly Fill[],
  origin: Origin | ((index: number) => Origin) = originOf('edge-1'),
): MadeRows {
  const decoding = createDecoding({ resolver: createIdentityResolver(), rowsMax: Math.max(fills.length, 16) })
  const writer = createEntryWriter({ decoder: decoding.decoder, flush: () => true, clock: () => RECEIVED_MS })
  fills.forEach((fill, k) => {
    fill(writer.entry)
    writer.add(typeof origin === 'function' ? origin(k) : origin)
  })
  writer.commit()
  const builder = decoding.builders.requests
  if (builder.rows !== fills.length) throw new Error(`${fills.length} entries became ${builder.rows} rows`)
  const batch = builder.seal()
  const rollup = createRollup()
  rollup.add(batch)
  const minutes = rollup.seal()!
  return {
    requests: bytesOf(batch.encode('segment-1')),
    rows: batch.rows,
    rollup: bytesOf(minutes),
    rollupRows: minutes.rows,
  }
}

const bytesOf = (block: NativeBlock): Buffer => Buffer.concat(block.buffers)

export const blockOf = (rows: MadeRows): NativeBlockColumns => readBlock('requests', rows.requests).block

/** A sealed segment of these blocks, in a folder. */
export function makeSegment(dir: string, blocks: readonly MadeRows[], seq = 1): Segment {
  const sealedMs = RECEIVED_MS
  const table = (name: 'requests' | 'latency_1m', buffers: readonly Buffer[], rows: number): SegmentTable => {
    const bytes = Buffer.concat(buffers)
    const file = join(dir, `${seq}-${name}`)
    writeFileSync(file, bytes)
    return { table: name, file, bytes: bytes.length, rows, blocks: buffers.length, days: new Map(), nodes: new Map() }
  }
  const sum = (of: (rows: MadeRows) => number) => blocks.reduce((total, rows) => total + of(rows), 0)
  const requests = blocks.map(({ requests: bytes }) => bytes)
  const rollups = blocks.map(({ rollup }) => rollup)
  return {
    id: `0-e1-${seq}`,
    worker: 0,
    epoch: 'e1',
    seq,
    openedMs: sealedMs - 1000,
    sealedMs,
    tables: [
      table(
        'requests',
        requests,
        sum(({ rows }) => rows),
      ),
      table(
        'latency_1m',
        rollups,
        sum(({ rollupRows }) => rollupRows),
      ),
    ],
  }
}
