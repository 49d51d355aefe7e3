import { parse } from 'yaml'
import { isRecord } from '../../lib/json.ts'
import type { TypeLetter } from './line.ts'

/**
 * Rules that give metrics a name and labels, in the YAML of statsd_exporter: a file that is used there is used here.
 *
 *     mappings:
 *       - match: 'shop.*.orders.*'       # a star is one part of the name, between dots
 *         name: 'orders_total'
 *         labels: { shop: '$1', state: '$2' }
 *       - match: 'debug\..*'
 *         match_type: regex
 *         action: drop
 *
 * As there: glob rules are tried in order, then rules with expressions. Buckets and quantiles are accepted and need no heed:
 * observations are stored at full precision, and both can be asked of them.
 */
export interface Mapper {
  /** Null when no rule applies. */
  map(name: string, type: TypeLetter): Mapped | null
  readonly rules: number
}

export type Mapped = { readonly action: 'drop' } | MappedName

export interface MappedName {
  readonly action: 'map'
  readonly name: string
  readonly labels: readonly (readonly [string, string])[]
  /** Tags of the line win over labels of the rule with the same name. */
  readonly honorLabels: boolean
  readonly help: string
  /** 0: never forgotten. */
  readonly ttlMs: number
  readonly scale: number
}

export type MapperResult = { readonly mapper: Mapper } | { readonly errors: readonly string[] }

interface Rule {
  readonly expression: RegExp
  readonly types: ReadonlySet<TypeLetter> | null
  readonly drop: boolean
  readonly name: string
  readonly labels: readonly (readonly [string, string])[]
  readonly honorLabels: boolean
  readonly help: string
  readonly ttlMs: number
  readonly scale: number
}

const OBSERVER: ReadonlySet<TypeLetter> = new Set(['t', 'h', 'd'])
const METRIC_TYPES: Readonly<Record<string, ReadonlySet<TypeLetter>>> = {
  counter: new Set(['c']),
  gauge: new Set(['g']),
  observer: OBSERVER,
  timer: OBSERVER,
}
/** Keys of a rule whose values need no heed here. */
const UNHEEDED = ['observer_type', 'timer_type', 'buckets', 'quantiles', 'summary_options', 'histogram_options']
const RULE_KEYS = new Set([
  'match',
  'match_type',
  'match_metric_type',
  'name',
  'labels',
  'honor_labels',
  'help',
  'action',
  'ttl',
  'scale',
  ...UNHEEDED,
])
const DEFAULT_KEYS = new Set(['match_type', 'ttl', 'glob_disable_ordering', ...UNHEEDED])
const RULES_MAX = 10_000
const EXPRESSION_MAX = 1000

/** Of the text of a file. What is wrong comes back as sentences. */
export function parseMapping(text: string): MapperResult {
  let root: unknown
  try {
    root = parse(text)
  } catch (error) {
    return { errors: [error instanceof Error ? error.message : String(error)] }
  }
  if (root === null) return { mapper: createMapper([], []) }
  if (!isRecord(root)) return { errors: ['the file is not a mapping'] }
  const errors = Object.keys(root)
    .filter((key) => key !== 'defaults' && key !== 'mappings')
    .map((key) => `unknown key ${key}`)
  const defaults = isRecord(root.defaults) ? root.defaults : {}
  for (const key of Object.keys(defaults)) if (!DEFAULT_KEYS.has(key)) errors.push(`defaults: unknown key ${key}`)
  const list = root.mappings ?? []
  if (!Array.isArray(list)) return { errors: [...errors, 'mappings is not a list'] }
  if (list.length > RULES_MAX)
    return { errors: [...errors, `mappings has ${list.length} rules, at most ${RULES_MAX} are allowed`] }
  const globs: Rule[] = []
  const expressions: Rule[] = []
  for (const [k, item] of (list as unknown[]).entries()) {
    const rule = isRecord(item) ? readRule(item, defaults) : 'it is not a mapping'
    if (typeof rule === 'string') errors.push(`mappings[${k}]: ${rule}`)
    else (rule.glob ? globs : expressions).push(rule.rule)
  }
  return errors.length > 0 ? { errors } : { mapper: createMapper(globs, expressions) }
}

function createMapper(globs: readonly Rule[], expressions: readonly Rule[]): Mapper {
  const rules = [...globs, ...expressions]
  return {
    rules: rules.length,
    map(name, type) {
      for (const rule of rules) {
        if (rule.types !== null && !rule.types.has(type)) continue
        const match = rule.expression.exec(name)
        if (match === null) continue
        if (rule.drop) return { action: 'drop' }
        const { honorLabels, help, ttlMs, scale } = rule
        const labels = rule.labels.map(([label, template]) => [label, fill(template, match)] as const)
        return { action: 'map', name: fill(rule.name, match), labels, honorLabels, help, ttlMs, scale }
      }
      return null
    },
  }
}

function readRule(
  item: Record<string, unknown>,
  defaults: Record<string, unknown>,
): { glob: boolean; rule: Rule } | string {
  for (const key of Object.keys(item)) if (!RULE_KEYS.has(key)) return `unknown key ${key}`
  const {
    match,
    name = '',
    labels = {},
    help = '',
    action = 'map',
    honor_labels: honorLabels = false,
    scale = 1,
  } = item
  const matchType = item.match_type ?? defaults.match_type ?? 'glob'
  if (typeof match !== 'string' || match === '') return 'match is missing'
  if (match.length > EXPRESSION_MAX) return `match is longer than ${EXPRESSION_MAX} characters`
  if (matchType !== 'glob' && matchType !== 'regex')
    return `match_type is ${String(matchType)}, it can be glob or regex`
  if (action !== 'map' && action !== 'drop') return `action is ${String(action)}, it can be map or drop`
  if (typeof name !== 'string' || (name === '' && action === 'map')) return 'name is missing'
  if (!isRecord(labels) || Object.values(labels).some((value) => typeof value !== 'string'))
    return 'labels are not texts'
  if (typeof help !== 'string') return 'help is not a text'
  if (typeof scale !== 'number' || !Number.isFinite(scale)) return 'scale is not a number'
  const ttlMs = readDuration(item.ttl ?? defaults.ttl ?? 0)
  if (ttlMs === null) return `ttl is ${String(item.ttl ?? defaults.ttl)}, it can be a duration such as 1m30s`
  let types: ReadonlySet<TypeLetter> | null = null
  if (item.match_metric_type !== undefined) {
    types = METRIC_TYPES[String(item.match_metric_type)] ?? null
    if (types === null)
      return `match_metric_type is ${String(item.match_metric_type)}, it can be counter, gauge or observer`
  }
  let expression: RegExp
  try {
    expression = matchType === 'glob' ? globExpression(match) : new RegExp(match)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  const rule: Rule = {
    expression,
    types,
    drop: action === 'drop',
    name,
    labels: Object.entries(labels as Record<string, string>),
    honorLabels: honorLabels === true,
    help,
    ttlMs,
    scale,
  }
  return { glob: matchType === 'glob', rule }
}

function globExpression(glob: string): RegExp {
  const parts = glob.split('.').map((part) => part.replace(/[\\^$+?()[\]{}|]/g, '\\$&').replaceAll('*', '([^.]*)'))
  return new RegExp(`^${parts.join('\\.')}$`)
}

/** `$1` and `${1}`; a group that is not there is empty. */
function fill(template: string, match: RegExpExecArray): string {
  return template.replace(
    /\$(?:(\d+)|\{(\d+)\})/g,
    (_all, bare?: string, braced?: string) => match[Number(bare ?? braced)] ?? '',
  )
}

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}

/** A duration of Go: `1m30s`. Milliseconds; null when it is none. */
function readDuration(value: unknown): number | null {
  if (value === 0 || value === '0') return 0
  if (typeof value !== 'string' || !/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(value)) return null
  let ms = 0
  for (const [, number, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g))
    ms += Number(number) * UNITS[unit!]!
  return ms
}
