import { describe, expect, it } from 'vitest'
import type { WavefrontAggregate } from '../../../src/adapters/wavefront/aggregate.ts'
import { createCounters } from '../../../src/adapters/wavefront/counters.ts'
import { createHeartbeat } from '../../../src/adapters/wavefront/heartbeat.ts'
import { createMeasures } from '../../../src/adapters/wavefront/measures.ts'
import { createMetricsSink } from '../../../src/adapters/wavefront/metrics-sink.ts'
import type { RowSeries } from '../../../src/adapters/wavefront/row-series.ts'
import { later, type Sent, TAKEN, type Transport } from '../../../src/adapters/wavefront/transport.ts'
import { silentLog } from '../../../src/telemetry/log.ts'

const HOUR = Date.UTC(2026, 0, 1, 12)
const MINUTE = HOUR / 60_000
const never = new AbortController().signal

/** Takes what it gets, unless it is told otherwise. */
function transportOf(...answers: Sent[]) {
  const bodies: string[] = []
  const transport: Transport = {
    endpoint: 'test',
    close() {},
    async send(_, body) {
      const sent = answers.shift() ?? TAKEN
      if (sent.status === 'taken') bodies.push(body.toString('utf8'))
      return sent
    },
  }
  const lines = () => bodies.flatMap((body) => body.trimEnd().split('\n'))
  return { transport, lines }
}

const seriesOf = <S>(list: readonly S[]): RowSeries<S> => ({
  list,
  resolve: () => new Int32Array(0),
  isOverflow: () => false,
  overflow: () => 0,
})

/** One series with these durations, in ns, by minute; sealed at the end of the first minute. */
function aggregateOf(byMinute: Readonly<Record<number, readonly number[]>>): WavefrontAggregate {
  const measures = createMeasures({ metrics: 5 })
  for (const [minute, durations] of Object.entries(byMinute)) {
    for (const ns of durations) {
      const group = measures.groupOf(0, Number(minute))!
      measures.observe(group, 0, ns)
      measures.observe(group, 1, 10)
      measures.observe(group, 2, 20)
    }
  }
  return {
    mesh: { series: seriesOf([{ tcp: false, tags: [['service', 'cart']] as const }]), measures },
    red: null,
    counters: { read: 0, filtered: 4, secondary: 0, skipped: 0, overflow: 0 },
    sealedMs: HOUR + 59_500,
    full: false,
    async add() {},
  }
}

function sinkOf(transport: Transport, nowMs = HOUR + 62_000) {
  const counters = createCounters()
  const sink = createMetricsSink({
    transport,
    counters,
    prefix: 'istio',
    source: 'gw',
    points: true,
    distributions: ['minute', 'hour', 'day'],
    clock: { now: () => nowMs, sleep: async () => {} },
    log: silentLog,
    onServices: () => {},
  })
  return { sink, counters }
}

const INTERVAL = { fromMs: HOUR, toMs: HOUR + 60_000, segments: ['0-a-1'], rows: 5, part: 0 }

describe('an interval', () => {
  it('has one distribution for each minute, hour and day; points and counters of all of it', async () => {
    const { transport, lines } = transportOf()
    const aggregate = aggregateOf({ [MINUTE]: [1, 2, 3], [MINUTE + 1]: [4, 5], [MINUTE + 60]: [6] })
    const { sink } = sinkOf(transport)
    expect(await sink.flush(aggregate, INTERVAL, never)).toEqual({ status: 'accepted', dropped: 4 })
    const durations = lines().filter((line) => line.includes('"istio.requestduration"'))
    const s = HOUR / 1000
    expect(durations.map((line) => line.replace(/ "istio.*/, ''))).toEqual([
      `!M ${s} #1 1 #1 2 #1 3`,
      `!M ${s + 60} #1 4 #1 5`,
      `!M ${s + 3600} #1 6`,
      `!H ${s} #1 1 #1 2 #1 3 #1 4 #1 5`,
      `!H ${s + 3600} #1 6`,
      `!D ${s - 43_200} #1 1 #1 2 #1 3 #1 4 #1 5 #1 6`,
    ])
    expect(lines()).toContain('"\u2206istio.requestcount.count" 6 source="gw" "service"="cart"')
    expect(lines()).toContain(`"istio.requestduration.mean" 3.5 ${s + 60} source="gw" "service"="cart"`)
    expect(lines()).toContain(`"istio.requestduration.50-percentile" 3 ${s + 60} source="gw" "service"="cart"`)
  })

  it('that is sent in parts has points at different times, so that none overwrites another', async () => {
    const timeOf = async (part: number, nowMs: number): Promise<number> => {
      const { transport, lines } = transportOf()
      await sinkOf(transport, nowMs).sink.flush(aggregateOf({ [MINUTE]: [1] }), { ...INTERVAL, part }, never)
      return Number(/requestsize\.max" 10 (\d+)/.exec(lines().join('\n'))![1]) * 1000
    }
    const end = await timeOf(0, HOUR + 62_000)
    expect(end).toBe(INTERVAL.toMs)
    // Sent when the process stopped, before the interval was over; and the rest of it later.
    expect(await timeOf(0, HOUR + 59_900)).toBe(HOUR + 59_000)
    expect(await timeOf(1, HOUR + 62_000)).toBe(HOUR + 59_000)
  })

  it('goes on after a retry with what was not taken, and is not made anew', async () => {
    const { transport, lines } = transportOf(TAKEN, later('push-back'))
    const aggregate = aggregateOf({ [MINUTE]: [1, 2, 3] })
    const { sink, counters } = sinkOf(transport)
    expect((await sink.flush(aggregate, INTERVAL, never)).status).toBe('retry')
    const before = lines().length
    expect(before).toBeGreaterThan(0)
    expect((await sink.flush(aggregate, INTERVAL, never)).status).toBe('accepted')
    expect(lines().length).toBeGreaterThan(before)
    expect(new Set(lines()).size).toBe(lines().length)
    expect(counters.lines).toMatchObject({ sent: lines().length, refused: 0 })
  })

  it('whose minutes are too far from the clock is not sent, and counted', async () => {
    const { transport, lines } = transportOf()
    const { sink, counters } = sinkOf(transport)
    await sink.flush(aggregateOf({ [MINUTE]: [1], [MINUTE + 60 * 48]: [2] }), INTERVAL, never)
    expect(lines().filter((line) => line.startsWith('!M'))).toHaveLength(3)
    expect(counters.flat()).toMatchObject({ lines_invalid_wf_402_total: 9 })
  })
})

describe('measures', () => {
  it('keep what was observed, by series, minute and metric', () => {
    const measures = createMeasures({ metrics: 2, logMax: 64 })
    for (let k = 0; k < 1000; k++) measures.observe(measures.groupOf(k % 3, 7 + (k % 2))!, k % 2, k)
    const groups = [...measures.bySeries().values()].flat()
    expect(groups).toHaveLength(6)
    const all = groups.flatMap((group) => [group.histogram(0), group.histogram(1)]).filter((one) => one !== null)
    expect(all.reduce((sum, { count }) => sum + count, 0)).toBe(1000)
    expect(all.reduce((sum, histogram) => sum + Number(histogram.sum), 0)).toBe(499_500)
    const [first] = measures.bySeries().get(0)!
    expect(first!.minute).toBe(7)
    expect(first!.histogram(0)).toMatchObject({ min: 0, max: 996 })
    expect(first!.histogram(1)).toBeNull()
  })

  it('have an end, and room beyond it for overflow', () => {
    const measures = createMeasures({ metrics: 1 })
    let groups = 0
    while (measures.groupOf(groups, 1) !== null) groups++
    expect(groups).toBe(131_072 - 4096)
    expect(measures.groupOf(groups, 1, true)).toBe(groups)
  })
})

it('heartbeats name the adapter at once, and services for two beats after they were seen; a lost one is sent anew', async () => {
  const { transport, lines } = transportOf(later('away'))
  const waits: number[] = []
  let wake = (): void => {}
  const clock = {
    now: () => HOUR,
    sleep: (ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve) => {
        waits.push(ms)
        wake = resolve
        signal?.addEventListener('abort', () => resolve(), { once: true })
      }),
  }
  const names = { prefix: 'istio', source: 'gw', application: 'shop', cluster: 'none', shard: 'none', tags: [] }
  const heartbeat = createHeartbeat({ names, transport, counters: createCounters(), clock })
  const slept = async (count: number): Promise<void> => {
    while (waits.length < count) await new Promise((resolve) => setImmediate(resolve))
  }
  await heartbeat.start()
  await slept(1)
  heartbeat.seen(['cart'])
  for (let beat = 2; beat <= 4; beat++) {
    wake()
    await slept(beat)
  }
  await heartbeat.stop(never)
  expect(waits).toEqual([30_000, 300_000, 300_000, 300_000])
  const beats = lines().map((line) => /"service"="([^"]*)"/.exec(line)![1])
  expect(beats).toEqual(['sidecast', 'cart', 'sidecast', 'cart', 'sidecast'])
  expect(lines()[1]).toBe(
    `"~component.heartbeat" 1 ${HOUR / 1000} source="gw" "application"="shop" "cluster"="none" "service"="cart" "shard"="none" "component"="proxy"`,
  )
})
