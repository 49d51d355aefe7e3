import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RELATIVE_ERROR_MAX } from '../../src/model/histogram.ts'
import type {
  LatencyAnswer,
  PhasesAnswer,
  QuantileFigure,
  RoutesAnswer,
  ServicesAnswer,
} from '../../src/query/schemas.ts'
import type { QueryServer } from '../../src/query/server.ts'
import { type AnswerChecker, createAnswerChecker } from '../support/openapi.ts'
import { clockAt, createQueryDatabase, createTestServer, type QueryDatabase } from '../support/query.ts'
import {
  CLASSES,
  flagText,
  groupBy,
  HOUR_NS,
  makeRows,
  nearestRank,
  type OracleRow,
  OUTCOMES,
  onceEach,
  PHASES,
  phasesOf,
  storedRow,
  within,
} from '../support/query-oracle.ts'
import { startTestStore, type TestStore } from '../support/store.ts'

const START = Date.parse('2026-01-10T10:00:00Z') / 1000
const HOURS = 5
const T0 = BigInt(START) * 1_000_000_000n
const QS = ['0', '0.001', '0.07', '0.5', '0.9', '0.99', '0.999', '1']
const Q = `q=${QS.join(',')}`

let store: TestStore
let db: QueryDatabase
let server: QueryServer
let check: AnswerChecker
const rows: OracleRow[] = makeRows(11, 12_000, START, HOURS)

beforeAll(async () => {
  store = await startTestStore({ keep: true })
  db = await createQueryDatabase(store, 'answers')
  await db.insert(rows.map(storedRow))
  await db.rollUp(START, START + HOURS * 3600)
  server = createTestServer(db.reader, { clock: clockAt('2026-01-10T15:00:00Z') })
  check = await createAnswerChecker(server.app)
})
afterAll(async () => {
  await server?.stop(AbortSignal.timeout(5000))
  await store?.stop()
})

/** Odd ends: neither on a minute nor on a second. */
const FROM = T0 + 17n * 60_000_000_000n + 31_123_456_789n
const TO = T0 + 4n * HOUR_NS + 42n * 60_000_000_000n + 7_000_000_001n
const iso = (ns: bigint) =>
  `${new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19)}.${String(ns % 1_000_000_000n).padStart(9, '0')}Z`
const RANGE = `from=${iso(FROM)}&to=${iso(TO)}`

const ms = (ns: number) => ns / 1e6

function expectExact(quantiles: Record<string, QuantileFigure>, values: readonly number[]) {
  for (const q of QS) {
    const value = ms(nearestRank(values, Number(q)))
    expect(quantiles[q]).toMatchObject({ value, low: value, high: value })
  }
}

function expectBounded(quantiles: Record<string, QuantileFigure>, values: readonly number[]) {
  for (const q of QS) {
    const truth = ms(nearestRank(values, Number(q)))
    const { value, low, high } = quantiles[q]!
    expect(low, `q=${q}`).toBeLessThanOrEqual(truth)
    expect(high, `q=${q}`).toBeGreaterThanOrEqual(truth)
    expect(Math.abs(value - truth), `q=${q}`).toBeLessThanOrEqual(truth * RELATIVE_ERROR_MAX + 1e-9)
  }
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

describe('latency', () => {
  const cases: [string, (row: OracleRow) => boolean, string, ((row: OracleRow) => string)[]][] = [
    ['', () => true, '', []],
    ['', () => true, 'destination_service', [(row) => row.service]],
    ['', () => true, 'destination_service,class,route', [(row) => row.service, (row) => row.class, (row) => row.route]],
    ['destination_service=both', (row) => row.service === 'both', 'reporter', [(row) => row.reporter]],
    ['destination_service!=both', (row) => row.service !== 'both', 'outcome', [(row) => row.outcome]],
    ['destination_service=~(both|e).*', (row) => /^(?:(both|e).*)$/.test(row.service), 'method', [(row) => row.method]],
    [
      `source_workload=it's "quoted"\\`,
      (row) => row.workload.startsWith('it'),
      'source_workload',
      [(row) => row.workload],
    ],
    ['route=ü✓', (row) => row.route === 'ü✓', 'route', [(row) => row.route]],
    ['class=aborted', (row) => row.class === 'aborted', '', []],
  ]
  for (const [where, keep, by, keys] of cases) {
    for (const method of ['exact', 'histogram'] as const) {
      it(`answers where ${where || 'nothing'} by ${by || 'nothing'} by ${method} as the rows say`, async () => {
        const all = by === 'reporter'
        const counted = all ? within(rows, FROM, TO) : onceEach(within(rows, FROM, TO))
        const expected = groupBy(counted.filter(keep), (row) => JSON.stringify(keys.map((key) => key(row))))
        const answer = await check.get<LatencyAnswer>(
          `/api/v1/latency?${RANGE}&${Q}&method=${method}&by=${by}${where === '' ? '' : `&where=${encodeURIComponent(where)}`}`,
        )
        expect(answer.view).toBe(all ? 'all' : 'auto')
        expect(answer.method).toBe(method)
        expect(answer.source).toBe(method === 'exact' ? 'requests' : 'requests,latency_1m,latency_1h')
        expect([answer.from, answer.to]).toEqual([iso(FROM).replace(/000Z$/, 'Z'), iso(TO)])
        expect(answer.series.length).toBe(expected.size)
        for (const series of answer.series) {
          const group = expected.get(JSON.stringify(Object.values(series.labels)))!
          const values = group.map((row) => row.duration)
          const [point] = series.points
          expect(point).toMatchObject({
            n: group.length,
            min: ms(Math.min(...values)),
            max: ms(Math.max(...values)),
          })
          expect(point!.mean).toBeCloseTo(ms(mean(values)), 9)
          if (method === 'exact') expectExact(point!.quantiles, values)
          else expectBounded(point!.quantiles, values)
        }
        expect(answer.coverage.stored).toBe([...expected.values()].reduce((sum, group) => sum + group.length, 0))
      })
    }
  }

  for (const [step, width] of [
    ['1h', HOUR_NS],
    ['5m', 300_000_000_000n],
    ['90s', 90_000_000_000n],
    ['37m', 2_220_000_000_000n],
  ] as const) {
    for (const method of ['exact', 'histogram'] as const) {
      it(`puts requests into points of ${step} by ${method}, and leaves out points without any`, async () => {
        const counted = onceEach(within(rows, FROM, TO)).filter(
          (row) => row.service === 'solo' && row.class === 'aborted',
        )
        const expected = groupBy(counted, (row) => row.end / width)
        const answer = await check.get<LatencyAnswer>(
          `/api/v1/latency?${RANGE}&${Q}&method=${method}&step=${step}&where=destination_service=solo&where=class=aborted`,
        )
        expect(answer.step).toBe(step === '90s' ? '1m30s' : step)
        const points = answer.series[0]!.points
        expect(points.map((point) => point.time)).toEqual(
          [...expected.keys()].sort((a, b) => Number(a - b)).map((k) => iso(k * width).replace('.000000000', '')),
        )
        for (const point of points) {
          const group = expected.get((BigInt(Date.parse(point.time)) * 1_000_000n) / width)!
          const values = group.map((row) => row.duration)
          expect(point.n).toBe(group.length)
          if (method === 'exact') expectExact(point.quantiles, values)
          else expectBounded(point.quantiles, values)
        }
      })
    }
  }

  it('measures each phase over the requests that have phases', async () => {
    for (const [k, phase] of PHASES.entries()) {
      for (const method of ['exact', 'histogram'] as const) {
        const values = onceEach(within(rows, FROM, TO)).flatMap((row) => phasesOf(row)?.[k] ?? [])
        const answer = await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&${Q}&method=${method}&phase=${phase}`)
        const [point] = answer.series[0]!.points
        expect(point).toMatchObject({ n: values.length, min: ms(Math.min(...values)), max: ms(Math.max(...values)) })
        expect(point!.mean).toBeCloseTo(ms(mean(values)), 9)
        if (method === 'exact') expectExact(point!.quantiles, values)
        else expectBounded(point!.quantiles, values)
      }
    }
  })

  it('measures upstream_ttfb from rows alone', async () => {
    const values = onceEach(within(rows, FROM, TO)).flatMap(({ points }) =>
      points[2]! < 0 || points[3]! < 0 ? [] : [Math.max(0, points[3]! - points[2]!)],
    )
    const answer = await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&${Q}&phase=upstream_ttfb`)
    expect(answer.method).toBe('exact')
    expect(answer.series[0]!.points[0]!.n).toBe(values.length)
    expectExact(answer.series[0]!.points[0]!.quantiles, values)
    const refused = await check.get<{ code: string }>(
      `/api/v1/latency?${RANGE}&phase=upstream_ttfb&method=histogram`,
      422,
    )
    expect(refused.code).toBe('needs_rows')
  })

  it('groups and filters by columns that rollups lack, from rows', async () => {
    const counted = onceEach(within(rows, FROM, TO))
    const byFlags = groupBy(counted, (row) => flagText(row.flags))
    for (const method of ['auto', 'histogram'] as const) {
      const answer = await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&${Q}&by=response_flags&method=${method}`)
      expect(answer.source).toBe('requests')
      expect(Object.fromEntries(answer.series.map((one) => [one.labels.response_flags, one.points[0]!.n]))).toEqual(
        Object.fromEntries([...byFlags].map(([flags, group]) => [flags, group.length])),
      )
    }
    const byCode = await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&${Q}&by=response_code`)
    expect(byCode.series.map((one) => one.labels.response_code)).toEqual(['', '200', '503', '504'])
  })

  it('writes durations in the unit asked', async () => {
    const values: number[] = []
    for (const unit of ['ns', 'us', 'ms', 's']) {
      const answer = await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&q=0.5&unit=${unit}&method=exact`)
      expect(answer.unit).toBe(unit)
      values.push(answer.series[0]!.points[0]!.quantiles['0.5']!.value)
    }
    expect(values.map((value, k) => Math.round(value * 1000 ** k))).toEqual(Array(4).fill(values[0]))
  })

  it('chooses rows while they are few, and rollups above that', async () => {
    expect((await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}`)).method).toBe('exact')
    const frugal = createTestServer(db.reader, { clock: clockAt('2026-01-10T15:00:00Z'), limits: { autoRowsMax: 100 } })
    const ask = await createAnswerChecker(frugal.app)
    expect((await ask.get<LatencyAnswer>(`/api/v1/latency?${RANGE}`)).method).toBe('histogram')
    expect(
      (await ask.get<LatencyAnswer>(`/api/v1/latency?from=${iso(FROM)}&to=${iso(FROM + 60_000_000_000n)}`)).method,
    ).toBe('exact')
    expect((await ask.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&where=path=/p/1`)).method).toBe('exact')
    expect((await ask.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&step=30s`)).method).toBe('exact')
    await frugal.stop(AbortSignal.timeout(1000))
  })

  it('sets a second interval beside the first', async () => {
    const answer = await check.get<LatencyAnswer>(
      `/api/v1/latency?from=2026-01-10T12:00:00Z&to=2026-01-10T13:00:00Z&step=30m&vs=-1h&${Q}&method=exact`,
    )
    const before = await check.get<LatencyAnswer>(
      `/api/v1/latency?from=2026-01-10T11:00:00Z&to=2026-01-10T12:00:00Z&step=30m&${Q}&method=exact`,
    )
    expect(answer.vs).toEqual({
      from: before.from,
      to: before.to,
      source: 'requests',
      method: 'exact',
      series: before.series,
    })
    const named = await check.get<LatencyAnswer>(
      `/api/v1/latency?from=2026-01-10T12:00:00Z&to=2026-01-10T13:00:00Z&step=30m&vs=2026-01-10T11:00:00Z/2026-01-10T12:00:00Z&${Q}&method=exact`,
    )
    expect(named.vs).toEqual(answer.vs)
  })

  it('answers an interval without requests with no points', async () => {
    const empty = await check.get<LatencyAnswer>('/api/v1/latency?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z')
    expect(empty.series).toEqual([{ labels: {}, points: [] }])
    expect(empty.precision_ns).toBeNull()
    const grouped = await check.get<LatencyAnswer>(
      '/api/v1/latency?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z&by=route&method=histogram',
    )
    expect(grouped.series).toEqual([])
  })

  it('tells the coarsest resolution that is in the answer', async () => {
    expect((await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&method=exact`)).precision_ns).toBe(1_000_000)
    const fine = await check.get<LatencyAnswer>(`/api/v1/latency?${RANGE}&method=exact&where=destination_service=both`)
    expect(fine.precision_ns).toBe(1)
  })
})

describe('view', () => {
  const counts = async (view: string, where = '', method = 'exact') => {
    const answer = await check.get<LatencyAnswer>(
      `/api/v1/latency?${RANGE}&q=0.5&by=destination_service${view === '' ? '' : `&view=${view}`}${where}&method=${method}`,
    )
    expect(answer.view).toBe(view === '' ? 'auto' : view)
    return Object.fromEntries(answer.series.map((one) => [one.labels.destination_service, one.points[0]!.n]))
  }
  const tally = (kept: readonly OracleRow[]) =>
    Object.fromEntries(
      [...groupBy(kept, (row) => row.service)].sort().map(([service, group]) => [service, group.length]),
    )

  for (const method of ['exact', 'histogram']) {
    it(`counts by whose report it is, from ${method}`, async () => {
      const inside = within(rows, FROM, TO)
      expect(await counts('', '', method)).toEqual(tally(onceEach(inside)))
      expect(await counts('all', '', method)).toEqual(tally(inside))
      expect(await counts('client', '', method)).toEqual(
        tally(inside.filter((row) => row.reporter === 'source' || row.reporter === 'gateway')),
      )
      expect(await counts('server', '', method)).toEqual(
        tally(inside.filter((row) => row.reporter === 'destination' || row.reporter === 'waypoint')),
      )
    })
  }

  it('does not let other filters change whose report counts', async () => {
    const inside = within(rows, FROM, TO)
    const kept = onceEach(inside).filter((row) => row.workload === 'web' && row.method === 'GET')
    const where = '&where=source_workload=web&where=method=GET'
    expect(await counts('', where)).toEqual(tally(kept))
    expect(await counts('', where, 'histogram')).toEqual(tally(kept))
  })

  it('keeps to the rule for a reporter that is filtered for, when the view is stated', async () => {
    const inside = within(rows, FROM, TO)
    const kept = onceEach(inside).filter((row) => row.reporter === 'source')
    expect(await counts('auto', '&where=reporter=source')).toEqual(tally(kept))
  })
})

describe('phases', () => {
  const expectPhases = (series: PhasesAnswer['series'][number], group: readonly OracleRow[], exact: boolean) => {
    const known = group.filter((row) => phasesOf(row) !== null)
    expect([series.n, series.without_phases]).toEqual([known.length, group.length - known.length])
    const total = known.reduce((sum, row) => sum + row.duration, 0)
    let shares = 0
    for (const [k, phase] of PHASES.entries()) {
      const values = known.map((row) => phasesOf(row)![k]!)
      const sum = values.reduce((a, b) => a + b, 0)
      expect(series[phase].mean).toBeCloseTo(ms(sum / known.length), 6)
      expect(series[phase].share).toBeCloseTo(sum / total, 12)
      shares += series[phase].share!
      if (exact) expectExact(series[phase].quantiles, values)
      else expectBounded(series[phase].quantiles, values)
    }
    expect(shares).toBeCloseTo(1, 12)
    expect(series.total.mean).toBeCloseTo(ms(total / known.length), 6)
  }

  for (const method of ['exact', 'histogram'] as const) {
    it(`says where the time went, by ${method}`, async () => {
      const counted = groupBy(onceEach(within(rows, FROM, TO)), (row) => row.service)
      const answer = await check.get<PhasesAnswer>(
        `/api/v1/phases?${RANGE}&${Q}&by=destination_service&method=${method}`,
      )
      expect(answer.series.length).toBe(counted.size)
      for (const series of answer.series) {
        const group = counted.get(series.labels.destination_service!)!
        expectPhases(series, group, method === 'exact')
        if (method === 'exact') {
          expectExact(
            series.total.quantiles,
            group.filter((row) => phasesOf(row) !== null).map((row) => row.duration),
          )
        }
      }
    })
  }

  it('looks at the slowest alone', async () => {
    for (const share of [0.01, 0.25, 1]) {
      const answer = await check.get<PhasesAnswer>(`/api/v1/phases?${RANGE}&${Q}&by=method&slowest=${share}`)
      expect(answer).toMatchObject({ method: 'exact', slowest: share })
      for (const series of answer.series) {
        const group = onceEach(within(rows, FROM, TO))
          .filter((row) => row.method === series.labels.method)
          .toSorted((a, b) => b.duration - a.duration)
        const last = group[Math.ceil(share * group.length) - 1]!.duration
        expectPhases(
          series,
          group.filter((row) => row.duration >= last),
          true,
        )
      }
    }
    const refused = await check.get<{ code: string }>(`/api/v1/phases?${RANGE}&slowest=0.1&method=histogram`, 422)
    expect(refused.code).toBe('needs_rows')
  })
})

describe('services and routes', () => {
  const expectTraffic = (
    row: ServicesAnswer['services'][number] | RoutesAnswer['routes'][number],
    group: readonly OracleRow[],
  ) => {
    const count = (keep: (one: OracleRow) => boolean) => group.filter(keep).length
    expect(row.n).toBe(group.length)
    expect(row.rate).toBeCloseTo(group.length / (Number(TO - FROM) / 1e9), 12)
    expect(row.error_ratio).toBe(count((one) => one.class === 'server_error') / group.length)
    expect(row.aborted_ratio).toBe(count((one) => one.class === 'aborted') / group.length)
    expect(row.classes).toEqual(Object.fromEntries(CLASSES.map((name) => [name, count((one) => one.class === name)])))
    expect(row.outcomes).toEqual(
      Object.fromEntries(OUTCOMES.map((name) => [name, count((one) => one.outcome === name)])),
    )
  }
  for (const method of ['exact', 'histogram'] as const) {
    it(`tells rate, errors and durations by ${method}`, async () => {
      const counted = onceEach(within(rows, FROM, TO))
      const services = await check.get<ServicesAnswer>(`/api/v1/services?${RANGE}&method=${method}`)
      const byService = groupBy(counted, (row) => row.service)
      expect(services.services.length).toBe(byService.size)
      expect(services.services.map((row) => row.n)).toEqual(
        services.services.map((row) => row.n).toSorted((a, b) => b - a),
      )
      for (const row of services.services) {
        const group = byService.get(row.labels.destination_service!)!
        expectTraffic(row, group)
        for (const [name, q] of [
          ['p50', 0.5],
          ['p90', 0.9],
          ['p99', 0.99],
        ] as const) {
          const truth = ms(
            nearestRank(
              group.map((one) => one.duration),
              q,
            ),
          )
          expect(row[name].low).toBeLessThanOrEqual(truth)
          expect(row[name].high).toBeGreaterThanOrEqual(truth)
          if (method === 'exact') expect(row[name].value).toBe(truth)
        }
      }
      const routes = await check.get<RoutesAnswer>(`/api/v1/routes?${RANGE}&method=${method}&${Q}`)
      const byRoute = groupBy(counted, (row) => JSON.stringify([row.service, row.route, row.method]))
      expect(routes.routes.length).toBe(byRoute.size)
      for (const row of routes.routes) {
        const group = byRoute.get(JSON.stringify(Object.values(row.labels)))!
        expectTraffic(row, group)
        const values = group.map((one) => one.duration)
        if (method === 'exact') expectExact(row.quantiles, values)
        else expectBounded(row.quantiles, values)
      }
    })
  }

  it('sorts and cuts', async () => {
    const all = await check.get<ServicesAnswer>(`/api/v1/services?${RANGE}&sort=p99`)
    const p99 = all.services.map((row) => row.p99.value)
    expect(p99).toEqual(p99.toSorted((a, b) => b - a))
    const two = await check.get<ServicesAnswer>(`/api/v1/services?${RANGE}&sort=p99&limit=2`)
    expect(two.services).toEqual(all.services.slice(0, 2))
    expect(two.rows_total).toBe(5)
    const names = await check.get<ServicesAnswer>(`/api/v1/services?${RANGE}&sort=name`)
    expect(names.services.map((row) => row.labels.destination_service)).toEqual([
      'both',
      'edge',
      'mesh',
      'plain',
      'solo',
    ])
  })
})
