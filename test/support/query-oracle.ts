import { normal, seededRandom } from '../../src/lib/random.ts'
import { PHASES, phasesInto } from '../../src/model/phases.ts'
import { CLASSES, FLAGS, OUTCOMES } from '../../src/model/schema.ts'

/** A request as the tests think of it, apart from how it is stored. Times and durations in ns. */
export interface OracleRow {
  readonly end: bigint
  readonly duration: number
  /** The seven points, −1 when missing. */
  readonly points: readonly number[]
  readonly reporter: string
  readonly service: string
  readonly workload: string
  readonly route: string
  readonly method: string
  readonly class: string
  readonly outcome: string
  readonly code: number | null
  readonly flags: number
  readonly requestId: string
  readonly traceId: string
  readonly path: string
  readonly precision: number
}

export const HOUR_NS = 3_600_000_000_000n

/**
 * Requests over `hours` from `start` (Unix seconds), seeded. Service `both` is reported by both sides, `plain` by a proxy
 * that does not know its side, `edge` by gateway and source, `solo` by the source alone.
 */
export function makeRows(seed: number, count: number, start: number, hours: number): OracleRow[] {
  const random = seededRandom(seed)
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
  const kinds: Readonly<Record<string, readonly string[]>> = {
    both: ['destination', 'source'],
    plain: ['unknown'],
    edge: ['gateway', 'source'],
    solo: ['source'],
    mesh: ['waypoint', 'source', 'gateway'],
  }
  return Array.from({ length: count }, (_, k) => {
    const service = pick(Object.keys(kinds))
    const duration = Math.floor(5e6 * Math.exp(normal(random) * 1.5)) + (random() < 0.03 ? 250_000_000 : 0)
    const known = random() < 0.95
    let at = 0
    const points = Array.from({ length: 7 }, (_, p) => {
      at += Math.floor(random() * (duration / 5))
      return known && (p === 0 || random() < 0.9) ? Math.min(at, duration) : -1
    })
    const trouble = random()
    const [cls, outcome, code, flags] =
      trouble < 0.9
        ? ['success', 'upstream', 200, 0]
        : trouble < 0.94
          ? ['server_error', 'proxy', 503, 1 << FLAGS.indexOf('UF')]
          : trouble < 0.97
            ? ['server_error', 'proxy', 504, (1 << FLAGS.indexOf('UT')) | (1 << FLAGS.indexOf('URX'))]
            : ['aborted', 'client', null, 1 << FLAGS.indexOf('DC')]
    const hex = (n: number, width: number) => n.toString(16).padStart(width, '0')
    return {
      end:
        BigInt(start) * 1_000_000_000n +
        (BigInt(Math.floor(random() * 1e9)) * (BigInt(hours) * HOUR_NS)) / 1_000_000_000n +
        BigInt(Math.floor(random() * 1000)),
      duration: random() < 0.01 ? 0 : duration,
      points: duration === 0 ? points.map(() => -1) : points,
      reporter: pick(kinds[service]!),
      service,
      workload: pick(['web', 'app', 'it\'s "quoted"\\']),
      route: pick(['r1', 'r2', 'ü✓']),
      method: pick(['GET', 'POST']),
      class: cls as string,
      outcome: outcome as string,
      code: code as number | null,
      flags: flags as number,
      requestId:
        random() < 0.8 ? `${hex(k, 8)}-1111-4222-8333-${hex(Math.floor(random() * 2 ** 40), 12)}` : `text id ${k}`,
      traceId: random() < 0.5 ? hex(k + 1, 32) : '',
      path: `/p/${k}`,
      precision: service === 'plain' ? 1_000_000 : 1,
    }
  })
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const ZERO = '00000000-0000-0000-0000-000000000000'

/** The row as JSONEachRow of `requests`. */
export function storedRow(row: OracleRow): Record<string, unknown> {
  const names = [
    't_rx_end',
    't_up_tx_begin',
    't_up_tx_end',
    't_up_rx_begin',
    't_up_rx_end',
    't_down_tx_begin',
    't_down_tx_end',
  ]
  const hasUuid = UUID.test(row.requestId)
  return {
    end_time: nsText(row.end),
    received: nsText(row.end).slice(0, 23),
    duration_ns: row.duration,
    ...Object.fromEntries(names.map((name, k) => [name, row.points[k]! < 0 ? null : row.points[k]])),
    reporter: row.reporter,
    destination_service: row.service,
    source_workload: row.workload,
    route: row.route,
    method: row.method,
    class: row.class,
    outcome: row.outcome,
    response_code: row.code,
    response_flags: row.flags,
    request_uuid: hasUuid ? row.requestId : ZERO,
    request_text: hasUuid ? '' : row.requestId,
    trace_uuid: row.traceId === '' ? ZERO : row.traceId.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    path: row.path,
    precision_ns: row.precision,
    request_headers: { 'x-path': row.path },
    segment: 's1',
  }
}

export function nsText(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19).replace('T', ' ')
  return `${seconds}.${String(ns % 1_000_000_000n).padStart(9, '0')}`
}

/** The value of rank ⌈q·n⌉, rank 1 for q = 0, of a whole-percent-of-a-million q. */
export function nearestRank(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const millionths = BigInt(Math.round(q * 1e6))
  const rank = Number((millionths * BigInt(sorted.length) + 999_999n) / 1_000_000n)
  return sorted[Math.max(1, rank) - 1]!
}

const PREFERENCE = ['destination', 'waypoint', 'gateway', 'source', 'unknown']

/** Rows that count: for each service those of the first kind that reports it. */
export function onceEach(rows: readonly OracleRow[]): OracleRow[] {
  const best = new Map<string, number>()
  for (const row of rows) {
    const rank = PREFERENCE.indexOf(row.reporter)
    best.set(row.service, Math.min(best.get(row.service) ?? 9, rank))
  }
  return rows.filter((row) => PREFERENCE.indexOf(row.reporter) === best.get(row.service))
}

export function within(rows: readonly OracleRow[], from: bigint, to: bigint): OracleRow[] {
  return rows.filter((row) => row.end >= from && row.end < to)
}

export function groupBy<Key>(rows: readonly OracleRow[], key: (row: OracleRow) => Key): Map<Key, OracleRow[]> {
  return Map.groupBy(rows, key)
}

/** The seven phases; null when the row has no points. */
export function phasesOf(row: OracleRow): number[] | null {
  const out = new Float64Array(7)
  const [r, u0, u1, v0, v1, d0, d1] = row.points as [number, number, number, number, number, number, number]
  return phasesInto(out, 0, r, u0, u1, v0, v1, d0, d1, row.duration, (row.flags & (1 << FLAGS.indexOf('OM'))) !== 0)
    ? [...out]
    : null
}

export function flagText(bits: number): string {
  return FLAGS.filter((_, k) => (bits & (1 << k)) !== 0).join(',')
}

export { CLASSES, OUTCOMES, PHASES }
