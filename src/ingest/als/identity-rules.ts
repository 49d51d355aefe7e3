import type { IdentityInput, Party } from '../../model/batch.ts'
import type { Draft } from './identity.ts'

/**
 * Rules of the configuration name what no other source does. They are tried in order; each fills what is still unknown,
 * so a rule never hides what a proxy says. A plain Envoy's destination counts as unknown: its cluster, route or
 * authority only stand in for a service.
 */
export interface IdentityRule {
  /** Regular expressions over the whole text; all must match. */
  readonly when: Partial<Record<RuleSource, string>>
  /** Values; `$1` … `$9` are groups of the expressions in `when`, counted through in the order they are written. */
  readonly set: Partial<Record<RuleTarget, string>>
}

export type RuleSource = 'node_id' | 'node_cluster' | 'log_name' | 'cluster' | 'route' | 'authority' | 'sni'

export type RuleTarget = `${'source' | 'destination'}_${'workload' | 'namespace' | 'service' | 'version'}`

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
    when: (Object.entries(rule.when) as [RuleSource, string][]).map(
      ([source, expression]) => [source, new RegExp(`^(?:${expression})$`)] as const,
    ),
    set: Object.entries(rule.set) as [RuleTarget, string][],
  }))
  const sources = new Set(compiled.flatMap((rule) => rule.when.map(([source]) => source)))
  return {
    rules: compiled,
    needs: (sources.has('authority') || sources.has('route') ? 1 : 0) | (sources.has('sni') ? 2 : 0),
  }
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
