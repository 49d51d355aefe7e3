import { describe, expect, test } from 'vitest'
import { JSON_COLUMNS, rowJson } from '../../../src/adapters/kafka/row-json.ts'
import { jsonRecords, otlpRecords, type RowRecordsOptions } from '../../../src/adapters/kafka/rows.ts'
import { partitionOf } from '../../../src/kafka/partition.ts'
import type { OutRecord } from '../../../src/kafka/producer.ts'
import { createRowFilter, isFilterFault } from '../../../src/pipeline/row-filter.ts'
import { readSegment } from '../../../src/pipeline/segment-reader.ts'
import { openRequestsRig } from '../../support/requests-rig.ts'

function options(where: readonly string[] = [], batchBytesMax = 20_000) {
  const filter = createRowFilter(where)
  if (isFilterFault(filter)) throw new Error(filter.detail)
  const dropped: number[] = []
  const rows: RowRecordsOptions = {
    partitions: async () => 4,
    topicPrefix: 'mesh.',
    key: 'node',
    filter,
    edge: 'e1',
    node: 'edge-1',
    batchBytesMax,
    onDropped: (n) => dropped.push(n),
  }
  return { rows, dropped }
}

async function all(batches: AsyncIterable<readonly OutRecord[]>): Promise<(readonly OutRecord[])[]> {
  const found: (readonly OutRecord[])[] = []
  for await (const batch of batches) found.push(batch)
  return found
}

describe('rows as JSON', () => {
  test('a record is a row, on the partition of its node, with its place in its segment', async () => {
    const rig = await openRequestsRig()
    const segment = await rig.seal(100)
    const { rows, dropped } = options()
    const batches = await all(
      jsonRecords(segment, { ...rows, tables: ['requests', 'attempts'], columns: JSON_COLUMNS }),
    )
    const records = batches.flat()
    expect(records).toHaveLength(100)
    expect(dropped).toEqual([0])
    for (const [k, { topic, key, partition, headers, value }] of records.entries()) {
      expect(topic).toBe('mesh.requests')
      expect(partition).toBe(partitionOf(key!, 4))
      expect(headers).toMatchObject({ 'sidecast-segment': segment.id, 'sidecast-row': `requests/${k}` })
      const row = JSON.parse(value.toString()) as Record<string, unknown>
      expect(row).toMatchObject({
        request_id: `00000000-0000-4000-8000-${k.toString(16).padStart(12, '0')}`,
        path: `/item/${k}`,
        response_code: 200,
        duration_ns: 1_000_000 + k * 250_000,
        phases_known: true,
        node_id: key!.toString(),
      })
      // Missing and empty ones are left out.
      for (const value of Object.values(row)) expect(value).not.toBe('')
      expect(row).not.toHaveProperty('grpc_status')
    }
    for (const batch of batches) {
      expect(batch.reduce((sum, { value }) => sum + value.length, 0)).toBeLessThanOrEqual(20_000)
    }
  })

  test('times have all their digits', async () => {
    const rig = await openRequestsRig()
    const segment = await rig.seal(1, (entry) => {
      entry.startSeconds = 1_700_000_000
      entry.startNanos = 7
      entry.durationNs = 5
      entry.downTxEndNs = 5
    })
    for await (const block of readSegment(segment, 'requests')) {
      const row = JSON.parse(rowJson(block, ['time', 'end_time'])(0)) as Record<string, string>
      expect(row).toEqual({ time: '2023-11-14T22:13:20.000000007Z', end_time: '2023-11-14T22:13:20.000000012Z' })
    }
  })

  test('only what the filter lets through is sent, and the rest is counted', async () => {
    const rig = await openRequestsRig()
    const segment = await rig.seal(50, (entry, k) => {
      if (k % 5 === 0) entry.code = 503
    })
    const { rows, dropped } = options(['response_code>=500'])
    const columns = ['path', 'response_code']
    const records = (await all(jsonRecords(segment, { ...rows, tables: ['requests'], columns }))).flat()
    expect(records.map(({ value }) => JSON.parse(value.toString()))).toEqual(
      Array.from({ length: 10 }, (_, k) => ({ path: `/item/${5 * k}`, response_code: 503 })),
    )
    expect(records.at(-1)!.headers['sidecast-row']).toBe('requests/45')
    expect(dropped).toEqual([40])
  })
})

describe('rows as OTLP', () => {
  test('spans and log records of one partition are together, in requests that fit', async () => {
    const rig = await openRequestsRig()
    const segment = await rig.seal(300)
    const { rows, dropped } = options()
    const batches = await all(otlpRecords(segment, { ...rows, signals: ['traces', 'logs'], version: '0.0.0' }))
    const records = batches.flat()
    const topics = new Set(records.map(({ topic }) => topic))
    expect([...topics]).toEqual(['mesh.otlp_spans', 'mesh.otlp_logs'])
    expect(new Set(records.map(({ partition }) => partition)).size).toBe(1)
    expect(records.length).toBeGreaterThan(10)
    for (const { value } of records) expect(value.length).toBeLessThan(20_000)
    for (const batch of batches) {
      for (const topic of topics) {
        const bytes = batch.filter((one) => one.topic === topic).reduce((sum, { value }) => sum + value.length, 0)
        expect(bytes).toBeLessThanOrEqual(20_000)
      }
    }
    expect(dropped).toEqual([0])
  })
})
