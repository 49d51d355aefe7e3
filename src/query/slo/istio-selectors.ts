import { FLAGS, type Flag } from '../../model/schema.ts'
import type { Filter } from '../filters.ts'
import { readDuration } from '../time.ts'
import { thresholdOf } from './compile.ts'

/**
 * Conditions over rows as selectors over Istio's metrics, as far as its labels tell. A selection is a list of
 * alternatives that do not overlap, each a list of matchers: their sums add up.
 */
export interface Selection {
  readonly alternatives: readonly (readonly string[])[]
  /** A bound on the duration of requests, in ms: what is at most that long, or what is longer. */
  readonly latency: { readonly ms: number; readonly above: boolean } | null
}

/** Why a condition cannot be written as a selector. */
export class NotInIstio extends Error {}

/** Columns and the labels that hold the same; what is missing is `unknown` there. */
const LABELS: Readonly<Record<string, string>> = {
  reporter: 'reporter',
  destination_service: 'destination_canonical_service',
  response_code: 'response_code',
  grpc_status: 'grpc_response_status',
  ...Object.fromEntries(
    ['source', 'destination'].flatMap((side) => [
      [`${side}_workload`, `${side}_workload`],
      [`${side}_namespace`, `${side}_workload_namespace`],
      [`${side}_version`, `${side}_version`],
      [`${side}_principal`, `${side}_principal`],
    ]),
  ),
  source_service: 'source_canonical_service',
}

/** Statuses of gRPC that are the server's fault, as `class` has it, and flags that mean a failure without a code. */
const GRPC_FAILED = '2|4|12|13|14|15'
const FAILED_FLAGS: readonly Flag[] = ['LH', 'UH', 'UT', 'LR', 'UR', 'UF', 'UC', 'UO', 'FI', 'RLSE', 'SI', 'UMSDR']
  .concat(['NFCF', 'UPE', 'NC', 'OM', 'DF', 'DO', 'UDO', 'URX'])
  .filter((flag): flag is Flag => (FLAGS as readonly string[]).includes(flag))

/** Requests of class `server_error`, as far as Istio's labels tell: alternatives that do not overlap. */
export const SERVER_ERROR: readonly (readonly string[])[] = [
  [`grpc_response_status=~"${GRPC_FAILED}"`],
  ['grpc_response_status=~"0?"', 'response_code=~"5.."'],
  ['grpc_response_status=~"0?"', 'response_code="0"', `response_flags=~"(.*,)?(${FAILED_FLAGS.join('|')})(,.*)?"`],
]
const SUCCESS = [['grpc_response_status=~"0?"', 'response_code=~"[123].."']]

export function selectionOf(filters: readonly Filter[]): Selection {
  let alternatives: readonly (readonly string[])[] = [[]]
  let latency: Selection['latency'] = null
  for (const filter of filters) {
    if (filter.column.kind === 'duration') {
      if (latency !== null) throw new NotInIstio('two bounds of a duration')
      latency = latencyOf(filter)
    } else {
      const more = filter.column.name === 'class' ? classOf(filter) : [[matcherOf(filter)]]
      alternatives = alternatives.flatMap((one) => more.map((other) => [...one, ...other]))
    }
  }
  return { alternatives, latency }
}

function latencyOf(filter: Filter): Selection['latency'] {
  const threshold = thresholdOf(filter)
  if (threshold === null || threshold.metric !== 'total') {
    throw new NotInIstio(`Istio has no histogram of ${filter.column.name}, or not for ${filter.operator}`)
  }
  const ns = /^\d+$/.test(filter.value) ? BigInt(filter.value) : readDuration(filter.value)!
  return { ms: Number(ns) / 1e6, above: threshold.above }
}

/** `!=` is written as the sum of the others only where that is what a caller takes away from all. */
function classOf({ operator, value }: Filter): readonly (readonly string[])[] {
  if (operator === '=' && value === 'server_error') return SERVER_ERROR
  if (operator === '=' && value === 'success') return SUCCESS
  throw new NotInIstio(`class${operator}${value}: Istio's labels tell class=server_error and class=success`)
}

function matcherOf({ column, operator, value }: Filter): string {
  const label = LABELS[column.name]
  if (label === undefined) throw new NotInIstio(`Istio's metrics have no label for ${column.name}`)
  if (operator === '=' || operator === '!=') {
    if (column.name === 'reporter' && value === 'gateway') throw new NotInIstio('gateways report as source')
    const isText = column.kind === 'text'
    return `${label}${operator}${quoted(value === '' ? (isText ? 'unknown' : column.name === 'response_code' ? '0' : '') : value)}`
  }
  if (operator === '=~' || operator === '!~') return `${label}${operator}${quoted(value)}`
  return `${label}=~${quoted(codesFrom(column.name, operator, value))}`
}

/** `>=500` as a pattern: whole hundreds of response codes alone. */
function codesFrom(column: string, operator: string, value: string): string {
  const hundred = Number(value) + (operator === '>' || operator === '<=' ? 1 : 0)
  if (column !== 'response_code' || hundred % 100 !== 0 || hundred < 200 || hundred > 500) {
    throw new NotInIstio(`${column}${operator}${value}: labels have no order, but for response_code>=500 and the like`)
  }
  const digit = hundred / 100
  return operator.startsWith('>') ? `[${digit}-9]..` : `[1-${digit - 1}]..`
}

function quoted(text: string): string {
  return JSON.stringify(text)
}
