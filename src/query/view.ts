import { type Filter, filterSql } from './filters.ts'
import { partsByTable, partsSql } from './parts-sql.ts'
import type { Part, Plan } from './plan.ts'
import type { Question } from './question.ts'
import type { View } from './schemas.ts'
import { allOf, Bindings } from './sql.ts'
import type { Nanos } from './time.ts'

/**
 * Both sidecars of a connection report the same request. A view says whose report counts:
 *
 *   auto     for each destination service the first of these kinds that reports it: destination, waypoint, gateway,
 *            source, unknown (a proxy that does not know its side); kinds that are none of these always count
 *   server   destination, else waypoint
 *   client   source and gateway
 *   all      every report
 */
const AUTO = ['destination', 'waypoint', 'gateway', 'source', 'unknown'] as const
const SERVER = ['destination', 'waypoint'] as const

/** Without `view`, a question that names `reporter` wants every report: choosing for it would answer another one. */
export function effectiveView(view: View | undefined, filters: readonly Filter[], groups: readonly string[]): View {
  if (view !== undefined) return view
  const names = filters.some((filter) => filter.column.name === 'reporter') || groups.includes('reporter')
  return names ? 'all' : 'auto'
}

export interface ResolvedView {
  readonly view: View
  /** Condition over the columns `reporter` and `destination_service`, which rows and rollups both have. */
  condition(bindings: Bindings): string
}

/** What lies in an interval before the view is applied: which kinds report which services, and how much. */
export interface Census {
  /** Reports in the interval, and those that match the filters as far as rollups can tell. */
  readonly reports: number
  readonly matching: number
  /** Some requests stand under the key `overflow`, where filters and groups cannot tell them apart. */
  readonly overflow: boolean
  readonly groups: readonly KindGroup[]
}

/** For views that need none. */
export const NO_CENSUS: Census = { reports: 0, matching: 0, overflow: false, groups: [] }

/** Services that are reported by the same kinds. */
interface KindGroup {
  readonly kinds: readonly string[]
  /** Their names, unless there are too many to list. */
  readonly names: readonly string[] | null
}

interface CensusRow {
  readonly kinds: string[]
  readonly names: string[]
  readonly reports: number
  readonly matching: number
}

/** Names of services put into a statement as values: they travel in an address. */
const NAMES_MAX = 200
const NAME_BYTES_MAX = 4000

export async function takeCensus(
  question: Question,
  plan: Plan,
  filters: readonly Filter[],
  now: Nanos,
): Promise<Census> {
  const bindings = new Bindings()
  const known = filters.filter((filter) => filter.column.inRollups)
  const matching = allOf(known.map((filter) => filterSql(filter, bindings, now)))
  const services = servicesSql(plan, filters, now, bindings, matching)
  const rows = await question.run<CensusRow>(
    bindings.statement(
      `SELECT kinds, groupArray(${NAMES_MAX + 1})(service) AS names, sum(all) AS reports, sum(some) AS matching FROM (${services}) GROUP BY kinds`,
    ),
    1000,
    'too_many_series',
  )
  return {
    reports: rows.reduce((sum, row) => sum + Number(row.reports), 0),
    matching: rows.reduce((sum, row) => sum + Number(row.matching), 0),
    overflow: rows.some((row) => row.kinds.includes('overflow')),
    groups: rows.map((row) => ({
      kinds: row.kinds,
      names: row.names.length > NAMES_MAX ? null : row.names,
    })),
  }
}

/** One row for each destination service in the plan, with the kinds that report it. */
function servicesSql(
  plan: Plan,
  filters: readonly Filter[],
  now: Nanos,
  bindings: Bindings,
  matching: string | null,
): string {
  // Whose report counts depends on the service alone: other filters must not change it.
  const byService = filters.filter((filter) => filter.column.name === 'destination_service')
  const parts = partsByTable(plan.parts).map((some) => {
    const [part] = some
    const where = allOf([partsSql(some, bindings), ...byService.map((filter) => filterSql(filter, bindings, now))])
    return `SELECT destination_service AS service, reporter AS kind, ${countsSql(part, matching)} FROM ${part.table} WHERE ${where} GROUP BY service, kind`
  })
  return `SELECT service, arraySort(groupUniqArray(toString(kind))) AS kinds, sum(part_all) AS all, sum(part_some) AS some FROM (${parts.join(' UNION ALL ')}) WHERE part_all != 0 GROUP BY service`
}

function countsSql(part: Part, matching: string | null): string {
  const [all, some] =
    part.table === 'requests' ? ['count()', `countIf(${matching ?? '0'})`] : ['sum(n)', `sumIf(n, ${matching ?? '0'})`]
  return `${all} AS part_all, ${some} AS part_some`
}

/** `census` must be of the same plan. */
export function resolveView(
  view: View,
  census: Census,
  plan: Plan,
  filters: readonly Filter[],
  now: Nanos,
): ResolvedView {
  if (view === 'all') return { view, condition: () => '1' }
  if (view === 'client') return { view, condition: () => `reporter IN ('source', 'gateway')` }
  const order: readonly string[] = view === 'auto' ? AUTO : SERVER
  return {
    view,
    condition(bindings) {
      const context = { census, plan, filters, now, bindings }
      const free = order.filter((kind, rank) => !isBeaten(kind, order.slice(0, rank), census))
      const bound = order.filter((kind) => !free.includes(kind))
      if (view === 'auto' && bound.length === 0) return '1'
      const conditions = bound.flatMap((kind) => kindSql(kind, order.slice(0, order.indexOf(kind)), context) ?? [])
      const list = (kinds: readonly string[]) => kinds.map((kind) => `'${kind}'`).join(', ')
      // For auto, kinds that are in no order count too.
      conditions.unshift(view === 'auto' ? `reporter NOT IN (${list(bound)})` : `reporter IN (${list(free)})`)
      return conditions.map((condition) => `(${condition})`).join(' OR ')
    },
  }
}

/** Whether some service that this kind reports is reported by a better one. */
function isBeaten(kind: string, better: readonly string[], census: Census): boolean {
  return census.groups.some(({ kinds }) => kinds.includes(kind) && kinds.some((other) => better.includes(other)))
}

interface KindContext {
  readonly census: Census
  readonly plan: Plan
  readonly filters: readonly Filter[]
  readonly now: Nanos
  readonly bindings: Bindings
}

/**
 * Reports of a kind that is beaten count for the services that no better kind reports. Those services, or the others,
 * are listed, whichever are few; else the store looks them up again. Null when the kind never counts.
 */
function kindSql(kind: string, better: readonly string[], context: KindContext): string | null {
  const { census, plan, filters, now, bindings } = context
  const having = census.groups.filter((group) => group.kinds.includes(kind))
  const beaten = having.filter((group) => group.kinds.some((other) => better.includes(other)))
  const best = having.filter((group) => !beaten.includes(group))
  const list = (groups: readonly KindGroup[]): string | null => {
    if (groups.some((group) => group.names === null)) return null
    const names = groups.flatMap((group) => group.names!)
    const bytes = names.reduce((sum, name) => sum + encodeURIComponent(name).length + 6, 0)
    return names.length <= NAMES_MAX && bytes + bindings.bytes <= NAME_BYTES_MAX
      ? bindings.bind(names, 'Array(String)')
      : null
  }
  if (best.length === 0) return null
  const others = list(beaten)
  if (others !== null) return `reporter = '${kind}' AND destination_service NOT IN ${others}`
  const own = list(best)
  if (own !== null) return `reporter = '${kind}' AND destination_service IN ${own}`
  const betterList = better.map((other) => `'${other}'`).join(', ')
  return `reporter = '${kind}' AND destination_service NOT IN (SELECT service FROM (${servicesSql(plan, filters, now, bindings, null)}) WHERE hasAny(kinds, [${betterList}]))`
}
