import { type FileHandle, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { partitionOf } from '../../kafka/partition.ts'
import type { Compression, OutRecord } from '../../kafka/producer.ts'
import {
  encodeHeader,
  encodeManifest,
  type PartHeader,
  SEGMENT_SCHEMA,
  type Send,
} from '../../kafka/segment-records.ts'
import { compressValue, releaseValue } from '../../kafka/value-codec.ts'
import type { Segment } from '../../pipeline/segment.ts'

/**
 * A segment as records, in batches for one produce request each. The bytes are those of its files, which nobody looks at:
 * what the writer puts together is the very segment that the edge sealed. Values of a batch are valid until the next one is
 * asked for.
 */
export interface SegmentRecordsOptions {
  readonly topic: string
  readonly partitions: number
  readonly edge: string
  readonly node: string
  readonly send: Send
  readonly doubt: boolean
  /** Of values; the batch is not compressed again. */
  readonly compression: Compression
  /** Of values in one batch, and of one slice before compression. */
  readonly batchBytesMax: number
}

export async function* segmentRecords(
  segment: Segment,
  options: SegmentRecordsOptions,
): AsyncGenerator<readonly OutRecord[]> {
  const { topic, partitions, edge, node, send, doubt, compression, batchBytesMax } = options
  const key = Buffer.from(segment.id)
  const partition = partitionOf(key, partitions)
  const parts = 1 + segment.tables.reduce((sum, { bytes }) => sum + Math.ceil(bytes / batchBytesMax), 0)
  let part = 0
  const recordOf = (value: Buffer, slice: PartHeader['slice']): OutRecord => {
    part++
    const encoding = slice === null ? 'none' : compression
    const ids = { schema: SEGMENT_SCHEMA, edge, node, segment: segment.id, send, doubt }
    return { topic, partition, key, value, headers: encodeHeader({ ...ids, part, parts, encoding, slice }) }
  }
  let batch: OutRecord[] = []
  let batchBytes = 0
  const memory = Buffer.allocUnsafeSlow(batchBytesMax)
  const crcs: number[] = []
  for (const { table, file, bytes } of segment.tables) {
    const handle = await open(file, 'r')
    let crc = 0
    try {
      for (let offset = 0; offset < bytes; offset += batchBytesMax) {
        const slice = memory.subarray(0, Math.min(batchBytesMax, bytes - offset))
        await readFully(handle, slice, offset, file)
        crc = crc32(slice, crc)
        const value = compressValue(compression, slice)
        if (batchBytes > 0 && batchBytes + value.length > batchBytesMax) {
          yield batch
          release(batch)
          batch = []
          batchBytes = 0
        }
        batch.push(recordOf(value, { table, offset }))
        batchBytes += value.length
      }
    } finally {
      await handle.close()
    }
    crcs.push(crc)
  }
  const { id, openedMs, sealedMs, recovered = false } = segment
  const tables = segment.tables.map(({ table, bytes, rows, blocks, days }, k) => {
    return { table, bytes, rows, blocks, crc: crcs[k]!, days: [...days] }
  })
  const manifest = encodeManifest({ segment: id, openedMs, sealedMs, recovered, tables })
  if (batchBytes > 0 && batchBytes + manifest.length > batchBytesMax) {
    yield batch
    release(batch)
    batch = []
  }
  batch.push(recordOf(manifest, null))
  yield batch
  release(batch)
}

function release(batch: readonly OutRecord[]): void {
  for (const { value } of batch) releaseValue(value)
}

async function readFully(handle: FileHandle, into: Buffer, offset: number, file: string): Promise<void> {
  for (let have = 0; have < into.length; ) {
    const { bytesRead } = await handle.read(into, have, into.length - have, offset + have)
    if (bytesRead === 0) throw new Error(`${file} ends at ${offset + have}`)
    have += bytesRead
  }
}
