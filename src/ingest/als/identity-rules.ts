import type { IdentityInput, Party } from '../../model/batch.ts'
import type { Draft } from './identity.ts'

/**
 * Rules of the configuration name what no other source does. They are tried in order; each fills what is still unknown,
 * so a rule never hides what a proxy says. A plain Envoy's destination counts as unknown: its cluster, route or
 * authority only stand in for a service.
 */
export interface IdentityRule {
  /** Regular expressions over the whole text; all must match. */
  readonly when: Readonly<Partial<Record<RuleSource, string | undefined>>>
  /** Values; `$1` … `$9` are groups of the expressions in `when`, counted through in the order they are written. */
  readonly set: Readonly<Partial<Record<RuleTarget, string | undefined>>>
}

export const RULE_SOURCES = ['node_id', 'node_cluster', 'log_name', 'cluster', 'route', 'authority', 'sni'] as const
export type RuleSource = (typeof RULE_SOURCES)[number]

export const RULE_TARGETS = [
  'source_workload',
  'source_namespace',
  'source_service',
  'source_version',
  'destination_workload',
  'destination_namespace',
  'destination_service',
  'destination_version',
] as const
export type RuleTarget = (typeof RULE_TARGETS)[number]

export interface CompiledRules {
  readonly rules: readonly CompiledRule[]
  /** As `IdentityResolver.needs`. */
  readonly needs: number
}

interface CompiledRule {
  readonly when: readonly (readonly [RuleSource, RegExp])[]
  readonly set: readonly (readonly [RuleTarget, string])[]
}

export function compileRules(rules: readonly IdentityRule[]): CompiledRules {
  const compiled = rules.map((rule) => ({
    when: given(rule.when).map(([source, expression]) => [source, new RegExp(`^(?:${expression})$`)] as const),
    set: given(rule.set),
  }))
  const sources = new Set(compiled.flatMap((rule) => rule.when.map(([source]) => source)))
  return {
    rules: compiled,
    needs: (sources.has('authority') || sources.has('route') ? 1 : 0) | (sources.has('sni') ? 2 : 0),
  }
}

function given<Key extends string>(texts: Readonly<Partial<Record<Key, string | undefined>>>): [Key, string][] {
  return (Object.entries(texts) as [Key, string | undefined][]).filter(
    (one): one is [Key, string] => one[1] !== undefined,
  )
}

export function applyRules({ rules }: CompiledRules, input: IdentityInput, draft: Draft, standIn: boolean): Draft {
  let result = draft
  let serviceKnown = !standIn
  for (const rule of rules) {
    const groups = match(rule, input)
    if (groups === null) continue
    for (const [target, template] of rule.set) {
      const value = template.replace(/\$([1-9])/g, (_, digit: string) => groups[Number(digit) - 1] ?? '')
      if (value === '') continue
      const [side, field] = target.split('_') as ['source' | 'destination', keyof Party]
      const service = target === 'destination_service'
      if (service ? serviceKnown : result[side][field] !== '') continue
      if (service) serviceKnown = true
      result = { ...result, [side]: { ...result[side], [field]: value } }
    }
  }
  return result
}

function match(rule: CompiledRule, input: IdentityInput): string[] | null {
  const groups: string[] = []
  for (const [source, expression] of rule.when) {
    const found = expression.exec(textOf(input, source))
    if (found === null) return null
    groups.push(...found.slice(1).map((group) => group ?? ''))
  }
  return groups
}

function textOf(input: IdentityInput, source: RuleSource): string {
  if (source === 'node_id') return input.origin.nodeId
  if (source === 'node_cluster') return input.origin.nodeCluster
  if (source === 'log_name') return input.origin.logName
  return input[source]
}
