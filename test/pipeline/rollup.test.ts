import { describe, expect, test } from 'vitest'
import { normal, seededRandom } from '../../src/lib/random.ts'
import { bucketOf, Histogram } from '../../src/model/histogram.ts'
import { PHASES, phasesInto } from '../../src/model/phases.ts'
import { ROLLUP_COLUMNS } from '../../src/model/rollup-columns.ts'
import { CLASSES, FLAGS, OUTCOMES, OVERFLOW, ROLLUP_KEYS } from '../../src/model/schema.ts'
import { createRollup, type Rollup } from '../../src/pipeline/rollup.ts'
import { batchOf, identity, party, type Row } from '../support/batch.ts'
import { type NativeRow, readNative } from '../support/native-reader.ts'

const MINUTE = 60_000
const START = Date.UTC(2026, 0, 1)

function rowsOf(rollup: Rollup): NativeRow[] {
  const block = rollup.seal()
  if (block === null) return []
  const rows = readNative(Buffer.concat(block.buffers))
  expect(rows.length).toBe(block.rows)
  expect([...block.days.values()].reduce((sum, n) => sum + n, 0)).toBe(rows.length)
  return rows
}

const keyOf = (row: NativeRow): string => [row.minute, ...ROLLUP_KEYS.map((key) => row[key])].join('|')

/** What the rollup of these rows must be, made the plain way: objects, bigints and a histogram for every metric. */
function expected(rows: readonly Row[]): Map<string, NativeRow> {
  const groups = new Map<string, Row[]>()
  for (const row of rows) {
    const { source, destination, mesh, reporter } = row.identity!
    const texts = [mesh, reporter, source.workload, source.namespace, destination.service, destination.namespace]
    const key = [
      Math.floor(row.end! / MINUTE) * 60,
      ...texts,
      destination.workload,
      destination.version,
      row.route ?? '',
      row.method ?? '',
      row.class ?? 'success',
      row.outcome ?? 'upstream',
    ].join('|')
    groups.set(key, [...(groups.get(key) ?? []), row])
  }
  return new Map([...groups].map(([key, group]) => [key, expectedRow(key, group)]))
}

function expectedRow(key: string, group: readonly Row[]): NativeRow {
  const total = new Histogram()
  const phases = PHASES.map(() => new Histogram())
  const out = new Float64Array(7)
  let known = 0
  for (const row of group) {
    const p = row.points ?? [-1, -1, -1, -1, -1, -1, -1]
    const buffered = ((row.flags ?? 0) & (1 << FLAGS.indexOf('OM'))) !== 0
    total.record(row.duration ?? 0)
    if (!phasesInto(out, 0, p[0]!, p[1]!, p[2]!, p[3]!, p[4]!, p[5]!, p[6]!, row.duration ?? 0, buffered)) continue
    known++
    phases.forEach((histogram, k) => {
      histogram.record(out[k]!)
    })
  }
  const sum = (value: (row: Row) => number): bigint => group.reduce((all, row) => all + BigInt(value(row)), 0n)
  const flags = FLAGS.map(
    (_, bit) => [bit, group.filter((row) => ((row.flags ?? 0) & (1 << bit)) !== 0).length] as const,
  )
  const row: NativeRow = {
    n: BigInt(group.length),
    phases_n: BigInt(known),
    attempts: sum((row) => row.attempts ?? 1),
    request_bytes: sum((row) => row.received ?? 0),
    response_bytes: sum((row) => row.sent ?? 0),
    'flagsMap.flag': flags.filter(([, n]) => n > 0).map(([bit]) => bit),
    'flagsMap.count': flags.filter(([, n]) => n > 0).map(([, n]) => n),
    minute: Number(key.split('|')[0]),
  }
  ROLLUP_KEYS.forEach((name, k) => {
    row[name] = key.split('|')[k + 1]!
  })
  for (const [name, histogram] of [
    ['total', total] as const,
    ...PHASES.map((phase, k) => [phase, phases[k]!] as const),
  ]) {
    const none = histogram.count === 0
    row[`${name}_sum`] = histogram.sum
    row[`${name}_min`] = none ? 2n ** 64n - 1n : BigInt(histogram.min)
    row[`${name}_max`] = none ? 0n : BigInt(histogram.max)
    const cells = [...histogram.buckets()]
    if (histogram.zeros > 0) cells.unshift([bucketOf(0), histogram.zeros])
    row[`${name}Map.bucket`] = cells.map(([bucket]) => bucket)
    row[`${name}Map.count`] = cells.map(([, count]) => count)
  }
  return row
}

/** Seeded rows of a small mesh, with every kind of hole in their points. */
function randomRows(n: number, seed: number): Row[] {
  const random = seededRandom(seed)
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
  const identities = Array.from({ length: 12 }, (_, k) =>
    identity({
      mesh: 'm',
      reporter: pick(['source', 'destination', 'gateway', 'waypoint', 'unknown']),
      source: party({ workload: `w${k % 3}`, namespace: 'shop' }),
      destination: party({ service: `s${k % 5}`, namespace: 'shop', workload: `d${k}`, version: k % 2 ? 'v1' : '' }),
    }),
  )
  return Array.from({ length: n }, () => {
    const duration = random() < 0.05 ? 0 : Math.floor(5e6 * Math.exp(2 * normal(random)))
    const points = Array.from({ length: 7 }, () => (random() < 0.2 ? -1 : Math.floor(random() * 1.2 * duration)))
    return {
      identity: pick(identities),
      end: START + Math.floor(random() * 3 * MINUTE),
      duration,
      points: random() < 0.1 ? points.map(() => -1) : points,
      flags: random() < 0.2 ? Math.floor(random() * 2 ** 30) : 0,
      class: pick(CLASSES),
      outcome: pick(OUTCOMES),
      attempts: Math.floor(random() * 4),
      received: Math.floor(random() * 1e5),
      sent: Math.floor(random() * 1e6),
      route: pick(['', 'a', 'b', 'ü→']),
      method: pick(['GET', 'POST', '']),
    }
  })
}

describe('the block of a segment', () => {
  test('has the columns of the rollup table, in order', () => {
    const rollup = createRollup()
    rollup.add(batchOf([{}]))
    expect(Object.keys(rowsOf(rollup)[0]!)).toEqual(ROLLUP_COLUMNS.map((column) => column.name))
  })

  test.each([1, 2, 3])('is what the plain way gives, over several batches (seed %i)', (seed) => {
    const rows = randomRows(2000, seed)
    // A log of 3 000 observations is counted about five times.
    const rollup = createRollup({ logMax: 3000 })
    for (let k = 0; k < rows.length; k += 700) rollup.add(batchOf(rows.slice(k, k + 700)))
    const want = expected(rows)
    const got = rowsOf(rollup)
    expect(got.length).toBe(want.size)
    for (const row of got) expect(row).toEqual(want.get(keyOf(row)))
  })

  test('starts from nothing after a seal', () => {
    const rollup = createRollup()
    for (const seed of [4, 5]) {
      const rows = randomRows(500, seed)
      rollup.add(batchOf(rows))
      const want = expected(rows)
      for (const row of rowsOf(rollup)) expect(row).toEqual(want.get(keyOf(row)))
    }
    expect(rollup.seal()).toBeNull()
  })

  test('puts a request into the minute of its end and counts days by it', () => {
    const rollup = createRollup()
    const midnight = Date.UTC(2026, 0, 2)
    rollup.add(batchOf([{ end: midnight - 1 }, { end: midnight }, { end: midnight + MINUTE }]))
    const block = rollup.seal()!
    const day = midnight / 86_400_000
    expect([...block.days]).toEqual([
      [day - 1, 1],
      [day, 2],
    ])
  })

  test('leaves other tables out', () => {
    const rollup = createRollup()
    for (const table of ['attempts', 'progress', 'connections'] as const) rollup.add(batchOf([{}], table))
    expect(rollup.seal()).toBeNull()
  })

  test('has wider counts where a bucket is fuller, and equal texts of two identities in one key', () => {
    for (const n of [255, 256, 65_535, 65_536]) {
      const rollup = createRollup()
      const twins = [identity({ mesh: 'x' }), identity({ mesh: 'x' })]
      const rows = Array.from({ length: n }, (_, k): Row => ({ duration: 1000, identity: twins[k % 2]! }))
      for (let k = 0; k < n; k += 65_535) rollup.add(batchOf(rows.slice(k, k + 65_535)))
      const got = rowsOf(rollup)
      expect(got.length).toBe(1)
      expect(got[0]!['totalMap.count']).toEqual([n])
    }
  })

  test('keeps sums exact past 2^53, and the longest durations', () => {
    const rollup = createRollup()
    const long = 2 ** 52 + 1
    rollup.add(
      batchOf(Array.from({ length: 1000 }, (): Row => ({ duration: long, received: 2 ** 53 - 1, points: [long] }))),
    )
    rollup.add(batchOf([{ duration: 2 ** 62, sent: 3 }]))
    const [row] = rowsOf(rollup)
    expect(row!.total_sum).toBe(1000n * BigInt(long) + 2n ** 62n)
    expect(row!.client_send_sum).toBe(1000n * BigInt(long))
    expect(row!.request_bytes).toBe(1000n * (2n ** 53n - 1n))
    expect(row!.response_bytes).toBe(3n)
    expect(row!.total_max).toBe(2n ** 62n)
  })
})

describe('the bound on keys', () => {
  const one = identity({ destination: party({ service: 's' }) })
  const routes = (from: number, n: number, end = START): Row[] =>
    Array.from(
      { length: n },
      (_, k): Row => ({ identity: one, route: `/r/${from + k}`, end, duration: from + k, sent: 1 }),
    )

  test('holds for a minute over several segments, and what is over it is exact in `overflow`', () => {
    const rollup = createRollup({ keysPerMinuteMax: 10 })
    rollup.add(batchOf(routes(0, 8)))
    expect(rowsOf(rollup).length).toBe(8)
    // Two known routes, then two that still fit, then six that do not.
    rollup.add(batchOf(routes(6, 10)))
    const rows = rowsOf(rollup)
    const own = rows.filter((row) => row.route !== OVERFLOW)
    expect(own.map((row) => row.route).toSorted()).toEqual(['/r/6', '/r/7', '/r/8', '/r/9'].toSorted())
    const [overflow, ...more] = rows.filter((row) => row.route === OVERFLOW)
    expect(more).toEqual([])
    for (const key of ROLLUP_KEYS) expect(overflow![key]).toBe(OVERFLOW)
    expect(overflow!.n).toBe(6n)
    expect(overflow!.total_sum).toBe(BigInt(10 + 11 + 12 + 13 + 14 + 15))
    expect(overflow!.total_min).toBe(10n)
    expect(rollup.stats).toMatchObject({ rows: 18, overflowRows: 6, keys: 13 })
  })

  test('is per minute', () => {
    const rollup = createRollup({ keysPerMinuteMax: 10 })
    rollup.add(batchOf([...routes(0, 12), ...routes(0, 12, START + MINUTE)]))
    const rows = rowsOf(rollup)
    expect(rows.filter((row) => row.route === OVERFLOW).map((row) => row.n)).toEqual([2n, 2n])
    expect(rows.length).toBe(22)
  })

  test('holds for a segment whose rows are from many minutes', () => {
    const rollup = createRollup({ keysPerSegmentMax: 50 })
    const rows = Array.from({ length: 300 }, (_, k): Row => ({ identity: one, route: 'r', end: START + k * MINUTE }))
    rollup.add(batchOf(rows))
    const got = rowsOf(rollup)
    expect(got.length).toBe(300) // One for each minute in any case.
    expect(got.filter((row) => row.route === OVERFLOW).length).toBe(250)
    expect(got.reduce((sum, row) => sum + (row.n as bigint), 0n)).toBe(300n)
  })

  test('a million distinct routes: keys and memory bounded, totals exact', () => {
    const keysPerMinuteMax = 5000
    const rollup = createRollup({ keysPerMinuteMax })
    const random = seededRandom(11)
    let n = 0n
    let sum = 0n
    let keys = 0
    let blockBytes = 0
    let wanted = 0n
    const template = batchOf(Array.from({ length: 50_000 }, (): Row => ({ identity: one, end: START })))
    const codes = Uint16Array.from({ length: template.rows }, (_, k) => k)
    for (let segment = 0; segment < 5; segment++) {
      for (let part = 0; part < 4; part++) {
        const from = (segment * 4 + part) * template.rows
        for (let k = 0; k < template.rows; k++) {
          template.duration[k] = Math.floor(random() * 1e9)
          wanted += BigInt(template.duration[k]!)
        }
        const dictionary = { count: template.rows, text: (code: number) => `/r/${from + code}` }
        rollup.add({
          ...template,
          column: (name) => (name === 'route' ? { codes, dictionary } : template.column(name)),
        })
      }
      const block = rollup.seal()!
      blockBytes = Math.max(
        blockBytes,
        block.buffers.reduce((all, buffer) => all + buffer.length, 0),
      )
      keys += block.rows
      for (const row of readNative(Buffer.concat(block.buffers))) {
        n += row.n as bigint
        sum += row.total_sum as bigint
      }
    }
    expect(n).toBe(1_000_000n)
    expect(sum).toBe(wanted)
    expect(rollup.stats.overflowRows).toBe(1_000_000 - keysPerMinuteMax)
    expect(keys).toBeLessThanOrEqual(keysPerMinuteMax + 5)
    expect(blockBytes).toBeLessThan(3e6)
  })

  test('a segment of more rows than a block takes becomes several blocks', () => {
    const rollup = createRollup({ blockRowsMax: 1000 })
    for (let part = 0; part < 10; part++) rollup.add(batchOf(routes(part * 250, 300)))
    const rows = rowsOf(rollup)
    expect(rows.length).toBeGreaterThan(2550) // A key that goes on in the next block has a row in each.
    expect(rows.reduce((sum, row) => sum + (row.n as bigint), 0n)).toBe(3000n)
    expect(new Set(rows.map((row) => row.route)).size).toBe(2550)
  })
})
