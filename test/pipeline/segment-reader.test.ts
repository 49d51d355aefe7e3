import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { NativeBlockColumns } from '../../src/model/native-read.ts'
import { readBlock } from '../../src/model/native-read.ts'
import { CLASSES, ROLLUP_KEYS, ROLLUP_METRICS, STORED_ROW_COLUMNS } from '../../src/model/schema.ts'
import { createRollupAggregate } from '../../src/pipeline/rollup-aggregate.ts'
import { createRowFilter, isFilterFault } from '../../src/pipeline/row-filter.ts'
import { rowColumn } from '../../src/pipeline/row-values.ts'
import type { Segment } from '../../src/pipeline/segment.ts'
import { readSegment, readTable } from '../../src/pipeline/segment-reader.ts'
import { readNative } from '../support/native-reader.ts'
import { type ReadRow, readBlocks } from '../support/native-rows.ts'
import { openRequestsRig } from '../support/requests-rig.ts'

const tableOf = (segment: Segment, name: string) => segment.tables.find(({ table }) => table === name)!

/** Requests that differ in everything that filters and readers look at. */
async function segmentOfMany(count: number): Promise<Segment> {
  const rig = await openRequestsRig()
  return rig.seal(count, (entry, k) => {
    if (k % 3 === 0) entry.code = 503
    if (k % 3 === 1) entry.code = -1
    if (k % 5 === 0) entry.flags = k % 2 === 0 ? 'UF,URX' : 'DC'
    if (k % 7 === 0) entry.requestId = `request ${k} – ü`
    if (k % 4 === 0) entry.upstreamHost = k % 8 === 0 ? '[2001:db8::1]:443' : '/run/app.sock'
    if (k % 6 === 0) entry.requestHeaders.add('x-user', `user-${k % 12}`)
    if (k % 9 === 0) entry.traceId = ''
    entry.path = `/item/${k}?q=${'x'.repeat(k % 300)}`
    entry.route = `route-${k % 300}`
    entry.method = k % 2 === 0 ? 'GET' : 'POST'
    if (k % 11 === 0) {
      entry.rxEndNs = entry.upTxBeginNs = entry.upTxEndNs = entry.upRxBeginNs = entry.upRxEndNs = -1
      entry.downTxBeginNs = entry.downTxEndNs = -1
    }
  })
}

/** Every stored column of a block, as the other reader of the tests has it. */
function asRead(block: NativeBlockColumns, row: number): ReadRow {
  const read: ReadRow = {}
  for (const name of block.present) {
    const type = block.type(name)
    if (block.nulls(name)?.[row] === 1) read[name] = null
    else if (type.startsWith('Map(')) {
      const { ends, keys, value } = block.textMap(name)
      const entries: [string, string][] = []
      for (let k = row === 0 ? 0 : ends[row - 1]!; k < ends[row]!; k++)
        entries.push([keys.texts[keys.codes[k]!]!, value(k)])
      read[name] = Object.assign(Object.create(null), Object.fromEntries(entries))
    } else if (type === 'UUID') {
      const [a, b, c, d] = block.words(name).subarray(4 * row)
      const hex = [b, a, d, c].map((word) => word!.toString(16).padStart(8, '0')).join('')
      read[name] = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
    } else if (type.includes('String')) read[name] = block.text(name, row)
    else if (type.includes('64') && type !== 'Float64') read[name] = block.bigints(name)[row]!
    else read[name] = block.numbers(name)[row]!
  }
  return read
}

test.each([4 << 20, 1000])(
  'every column of every third row is what was written, read %j bytes at once',
  async (windowBytes) => {
    const segment = await segmentOfMany(1100)
    const requests = tableOf(segment, 'requests')
    const expected = readBlocks([readFileSync(requests.file)])
    expect(requests.blocks).toBeGreaterThan(1)
    let index = 0
    for await (const block of readTable(requests, { windowBytes })) {
      const { rows } = expected[index++]!
      expect(block.rows).toBe(rows.length)
      for (let row = 0; row < block.rows; row += 3) expect(asRead(block, row)).toEqual(rows[row])
    }
    expect(index).toBe(expected.length)
  },
)

test('columns that a block leaves out have their default, nullable ones are missing in every row', async () => {
  const rig = await openRequestsRig()
  const segment = await rig.seal(3, (entry) => {
    entry.code = -1
  })
  for await (const block of readSegment(segment, 'requests')) {
    expect(block.present).not.toContain('response_code')
    expect([...block.nulls('response_code')!]).toEqual([1, 1, 1])
    expect(Array.from(block.numbers('response_code'))).toEqual([0, 0, 0])
    expect(block.text('metadata', 1)).toBe('')
    expect(block.text('sni', 2)).toBe('')
    expect([...block.textMap('request_headers').ends]).toEqual([0, 0, 0])
    for (const { name } of STORED_ROW_COLUMNS) expect(() => block.type(name)).not.toThrow()
    expect(() => block.numbers('no_such_column')).toThrow('no stored column')
  }
})

test('bytes that are no block of ours are refused, whatever is wrong with them', async () => {
  const segment = await segmentOfMany(50)
  const { file } = tableOf(segment, 'requests')
  const sound = readFileSync(file)
  let refused = 0
  for (let at = 0; at < sound.length; at += 41) {
    const bytes = Buffer.from(sound)
    bytes[at] = bytes[at]! ^ (1 << (at % 8))
    try {
      const { block } = readBlock('requests', bytes)
      // What is read lazily must end as well, one way or the other.
      for (const name of block.present)
        for (const row of [0, block.rows - 1]) void asRead({ ...block, present: [name] } as NativeBlockColumns, row)
    } catch (error) {
      expect(error).toBeInstanceOf(Error)
      refused++
    }
  }
  expect(refused).toBeGreaterThan(10)
  const longer = readTable({ ...tableOf(segment, 'requests'), bytes: sound.length + 5 })
  await expect(longer.next()).rejects.toThrow('bytes')
})

test('an aggregate has the same counts, sums and buckets as the rollups of its segments', async () => {
  const rig = await openRequestsRig()
  const fill = (entry: { route: string; code: number; flags: string }, k: number) => {
    entry.route = `route-${k % 5}`
    if (k % 4 === 0) entry.code = 500
    if (k % 6 === 0) entry.flags = 'UF'
  }
  const segments = [await rig.seal(70, fill), await rig.seal(90, fill)]
  const aggregate = createRollupAggregate({ keys: ['route', 'class'] })
  const recovered = createRollupAggregate({ keys: ['route', 'class'] })
  for (const segment of segments) {
    await aggregate.add(segment, new AbortController().signal)
    const tables = segment.tables.filter(({ table }) => table === 'requests')
    await recovered.add({ ...segment, tables, recovered: true }, new AbortController().signal)
  }
  const expected = new Map<string, { n: bigint; sum: bigint; phases: bigint; total: Map<number, number> }>()
  for (const segment of segments) {
    for (const row of readNative(readFileSync(tableOf(segment, 'latency_1m').file))) {
      const key = `${row.route} ${row.class}`
      const one = expected.get(key) ?? { n: 0n, sum: 0n, phases: 0n, total: new Map() }
      one.n += row.n as bigint
      one.sum += row.total_sum as bigint
      one.phases += row.upstream_wait_sum as bigint
      const buckets = row['totalMap.bucket'] as readonly number[]
      buckets.forEach((bucket, k) => {
        const count = Number((row['totalMap.count'] as readonly number[])[k]!)
        one.total.set(bucket, (one.total.get(bucket) ?? 0) + count)
      })
      expected.set(key, one)
    }
  }
  for (const one of [aggregate, recovered]) {
    expect(one.requests).toBe(160)
    const found = new Map([...one.groups()].map((group) => [group.values.join(' '), group]))
    expect([...found.keys()].sort()).toEqual([...expected.keys()].sort())
    for (const [key, { n, sum, phases, total }] of expected) {
      const group = found.get(key)!
      const histogram = group.histogram('total')
      expect([BigInt(group.n), BigInt(histogram.sum)]).toEqual([n, sum])
      expect(BigInt(group.histogram('upstream_wait').sum)).toBe(phases)
      expect(new Map([...histogram.buckets].map((bucket, k) => [bucket, histogram.counts[k]!]))).toEqual(
        new Map([...total].sort(([a], [b]) => a - b)),
      )
      for (const metric of ROLLUP_METRICS) {
        const { counts, n: observed, min, max } = group.histogram(metric)
        expect(counts.reduce((a, b) => a + b, 0)).toBe(observed)
        expect(min).toBeLessThanOrEqual(max)
      }
    }
  }
})

test('groups past the bound go to one, and totals stay exact', async () => {
  const rig = await openRequestsRig()
  const segment = await rig.seal(500, (entry, k) => {
    entry.route = `route-${k % 50}`
  })
  const aggregate = createRollupAggregate({ keys: ['route'], keysMax: 10 })
  await aggregate.add(segment, new AbortController().signal)
  const groups = [...aggregate.groups()]
  expect(groups).toHaveLength(11)
  expect(groups.reduce((sum, { n }) => sum + n, 0)).toBe(500)
  expect(groups.filter(({ overflow }) => overflow)).toMatchObject([{ values: ['overflow'], n: 400 }])
  expect(aggregate.overflowRequests).toBe(400)
})

test('a filter on keys leaves out whole groups', async () => {
  const rig = await openRequestsRig()
  const segment = await rig.seal(90, (entry, k) => {
    if (k % 3 === 0) entry.code = 500
  })
  const aggregate = createRollupAggregate({ keys: [], where: (value) => value('class') === 'server_error' })
  await aggregate.add(segment, new AbortController().signal)
  expect([...aggregate.groups()]).toMatchObject([{ values: [], n: 30 }])
  expect(CLASSES).toContain('server_error')
  expect(ROLLUP_KEYS).toContain('class')
})

const FILTERS: readonly (readonly [string, (k: number) => boolean])[] = [
  ['method=GET', (k: number) => k % 2 === 0],
  ['method!=GET', (k: number) => k % 2 !== 0],
  ['response_code>=500', (k: number) => k % 3 === 0],
  ['response_code=', (k: number) => k % 3 === 1],
  ['response_code!=503', (k: number) => k % 3 !== 0],
  ['response_flags=UF', (k: number) => k % 10 === 0],
  ['response_flags=', (k: number) => k % 5 !== 0],
  ['response_flags=~.*URX', (k: number) => k % 10 === 0],
  ['request_id=~request .*', (k: number) => k % 7 === 0],
  ['request_id="request 7 – ü"', (k: number) => k === 7],
  ['request_id=00000000-0000-4000-8000-000000000001', (k: number) => k === 1],
  ['trace_id=', (k: number) => k % 9 === 0],
  ['upstream_host=[2001:db8::1]:443', (k: number) => k % 8 === 0],
  ['upstream_host=/run/app.sock', (k: number) => k % 4 === 0 && k % 8 !== 0],
  ['request_headers[x-user]=user-6', (k: number) => k % 12 === 6],
  ['request_headers[x-user]=', (k: number) => k % 6 !== 0],
  ['duration_ns<2ms', (k: number) => 1_000_000 + (k % 1000) * 250_000 < 2_000_000],
  ['phases_known=false', (k: number) => k % 11 === 0],
  ['phase_upstream_wait_ns=', (k: number) => k % 11 === 0],
  ['route=~route-(1|2)', (k: number) => k % 300 === 1 || k % 300 === 2],
  ['route=~(?i)ROUTE-5', (k: number) => k % 300 === 5],
  ['end_time>=-1h', () => true],
  ['end_time<-1h', () => false],
  ['path=~/item/1\\?.*', (k: number) => k === 1],
]

test('filters pass the rows that they say', async () => {
  const segment = await segmentOfMany(40)
  for await (const block of readSegment(segment, 'requests')) {
    const paths = rowColumn(block, 'path')
    const numbers = Array.from({ length: block.rows }, (_, row) => Number(/^\/item\/(\d+)/.exec(paths.text(row))![1]))
    for (const [text, passes] of FILTERS) {
      const filter = createRowFilter([text])
      if (isFilterFault(filter)) throw new Error(filter.detail)
      const selected = filter.select(block)!
      expect([text, numbers.filter((_, row) => selected[row] === 1)]).toEqual([text, numbers.filter(passes)])
    }
  }
})

test('filters that make no sense say why', () => {
  const fault = (text: string) => {
    const filter = createRowFilter([text])
    return isFilterFault(filter) ? filter.detail : null
  }
  expect(fault('methud=GET')).toBe('there is no column "methud"')
  expect(fault('route=~(?=a)')).toMatch(/lookahead/)
  expect(fault('route=~[[:alpha:]]')).toMatch(/no pattern/)
  expect(fault('route=~(')).toMatch(/no pattern/)
  expect(fault('response_code>=many')).toMatch(/number/)
  expect(createRowFilter([])).toMatchObject({ all: true })
})
