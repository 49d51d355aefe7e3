/**
 * Tag extraction as Envoy does it: a stat is known inside Envoy by one long name (`cluster.backend.upstream_rq_503`), and rules
 * take tags out of it (`cluster.upstream_rq` with `envoy.cluster_name=backend`, `envoy.response_code=503`). Senders of plain
 * StatsD, and MetricsService without `emit_tags_as_labels`, give the long name alone, so the same rules run here.
 *
 * All rules look at the whole name; what each takes away is removed at the end. So their order decides nothing but which of
 * two rules for the same tag wins: the first.
 */

/** One rule, in one of the three forms that Envoy has. */
export type TagRule = RegexRule | TokenRule | FixedRule

/** The first group is removed from the name; the second, or else the first, is the value. */
export interface RegexRule {
  readonly tag: string
  readonly regex: RegExp
  /** The name must contain it. A cheap look before the expression. */
  readonly contains?: string
  /** A value with which the rule does not apply. */
  readonly except?: string
}

/** Tokens between dots: `$` is the value, `*` any one token, `**` one or more of them. */
export interface TokenRule {
  readonly tag: string
  readonly tokens: string
}

/** A tag of every stat (`stats_tags` with `fixed_value`). */
export interface FixedRule {
  readonly tag: string
  readonly value: string
}

export interface Extracted {
  /** The name without what the tags took. */
  readonly name: string
  readonly tags: readonly (readonly [tag: string, value: string])[]
}

export interface TagExtractor {
  extract(name: string): Extracted
}

export function createTagExtractor(rules: readonly TagRule[]): TagExtractor {
  const compiled = rules.map(compile)
  const everywhere = compiled.filter((rule) => rule.root === '')
  const byRoot = new Map<string, Compiled[]>()
  for (const rule of compiled) {
    if (rule.root === '') continue
    const list = byRoot.get(rule.root)
    if (list === undefined) byRoot.set(rule.root, [rule])
    else list.push(rule)
  }
  return {
    extract(name) {
      const tags: [string, string][] = []
      const removed: [number, number][] = []
      run(everywhere, name, tags, removed)
      const dot = name.indexOf('.')
      const rooted = dot < 0 ? undefined : byRoot.get(name.slice(0, dot))
      if (rooted !== undefined) run(rooted, name, tags, removed)
      return { name: without(name, removed), tags }
    },
  }
}

interface Compiled {
  readonly tag: string
  /** First token that the name must have; '' when it may be any. */
  readonly root: string
  /** Adds what to remove and returns the value; null when the rule does not apply. */
  apply(name: string, removed: [number, number][]): string | null
}

function run(rules: readonly Compiled[], name: string, tags: [string, string][], removed: [number, number][]): void {
  for (const rule of rules) {
    if (tags.some(([tag]) => tag === rule.tag)) continue
    const value = rule.apply(name, removed)
    if (value !== null) tags.push([rule.tag, value])
  }
}

function compile(rule: TagRule): Compiled {
  if ('value' in rule) return { tag: rule.tag, root: '', apply: () => rule.value }
  return 'tokens' in rule ? compileTokens(rule) : compileRegex(rule)
}

function compileRegex({ tag, regex, contains = '', except }: RegexRule): Compiled {
  // Offsets of the groups are needed: what is removed lies at them.
  const expression = new RegExp(regex.source, `${regex.flags.replace(/[dgy]/g, '')}d`)
  const root = /^\^(\w+)(?:\\\.|\(\?=\\\.\))/.exec(regex.source)?.[1] ?? ''
  return {
    tag,
    root,
    apply(name, removed) {
      if (contains !== '' && !name.includes(contains)) return null
      const match = expression.exec(name)
      if (match === null || !match[1]) return null
      const value = match[2] || match[1]
      if (value === except) return null
      removed.push(match.indices![1]!)
      return value
    },
  }
}

function compileTokens({ tag, tokens }: TokenRule): Compiled {
  const pattern = tokens.split('.')
  const first = pattern[0]!
  const root = first === '$' || first === '*' || first === '**' ? '' : first
  const literals = pattern.filter((token) => token !== '$' && token !== '*' && token !== '**')
  return {
    tag,
    root,
    apply(name, removed) {
      if (!literals.every((literal) => name.includes(literal))) return null
      const input = name.split('.')
      const at = findToken(pattern, 0, input, 0)
      if (at < 0) return null
      let start = 0
      for (let k = 0; k < at; k++) start += input[k]!.length + 1
      const end = start + input[at]!.length
      // The dot behind it goes as well; of the last token the dot in front.
      removed.push(at < input.length - 1 ? [start, end + 1] : [Math.max(0, start - 1), end])
      return input[at]!
    },
  }
}

/** Index of the token that is the value, −1 when the rest of the name is not as the rest of the pattern. */
function findToken(pattern: readonly string[], from: number, input: readonly string[], at: number): number {
  let value = -1
  let i = at
  let p = from
  for (; i < input.length && p < pattern.length; i++, p++) {
    const expected = pattern[p]!
    if (expected === '$') value = i
    else if (expected === '**') {
      if (p === pattern.length - 1) return value >= 0 ? value : FITS
      for (let k = i; k < input.length; k++) {
        const found = findToken(pattern, p + 1, input, k)
        if (found >= 0) return found
        // The value may have been found before `**`; then the rest only has to fit.
        if (found === FITS && value >= 0) return value
      }
      return NONE
    } else if (expected !== '*' && expected !== input[i]) return NONE
  }
  if (p !== pattern.length || i !== input.length) return NONE
  return value >= 0 ? value : FITS
}

const NONE = -1
/** The rest fits and the value is not in it. */
const FITS = -2

function without(name: string, removed: readonly [number, number][]): string {
  if (removed.length === 0) return name
  const parts = removed.toSorted((a, b) => a[0] - b[0])
  let rest = ''
  let at = 0
  for (const [start, end] of parts) {
    if (start > at) rest += name.slice(at, start)
    at = Math.max(at, end)
  }
  return rest + name.slice(at)
}

/** IPv4 or IPv6 address with its port, as they stand in stat names. */
const ADDRESS = String.raw`(?:(?:\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[[a-fA-F_\d]+\])_\d+)`
const VALUE = String.raw`[^\.]+`
const CIPHER = String.raw`[\w-]+`
const OWNER = String.raw`(?:listener|cluster)\..*?`

/** Envoy's own rules (1.40): tags named as there. Older versions have fewer of them, none differently. */
export const ENVOY_TAGS: readonly TagRule[] = [
  { tag: 'envoy.response_code', regex: /_rq(_(\d{3}))$/, contains: '_rq_' },
  { tag: 'envoy.response_code_class', regex: /_rq_((\d))xx$/, contains: '_rq_' },
  regex(
    'envoy.dynamo_partition_id',
    `^http\\.V\\.dynamodb\\.table\\.V\\.capacity\\.V(\\.__partition_id=(\\w{7}))$`,
    '.dynamodb.table.',
  ),
  regex(
    'envoy.dynamo_operation',
    `^http\\.V\\.dynamodb.(?:operation|table\\.V\\.capacity)(\\.(V))(?:\\.|$)`,
    '.dynamodb.',
  ),
  regex('envoy.dynamo_table', `^http\\.V\\.dynamodb.(?:table|error)\\.((V)\\.)`, '.dynamodb.'),
  regex('envoy.ssl_cipher', `^listener\\..*?\\.ssl\\.ciphers(\\.(C))$`, '.ssl.ciphers.'),
  regex('envoy.ssl_curve', `^O\\.ssl\\.curves(\\.(C))$`, '.ssl.curves.'),
  regex('envoy.ssl_sigalg', `^O\\.ssl\\.sigalgs(\\.(C))$`, '.ssl.sigalgs.'),
  regex('envoy.ssl_version', `^O\\.ssl\\.versions(\\.(TLSv\\d\\.\\d))$`, '.ssl.versions.'),
  regex('cipher_suite', `^cluster\\.V\\.ssl\\.ciphers(\\.(C))$`, '.ssl.ciphers.'),
  regex('envoy.health_check_name', `^cluster\\.V\\.health_check(\\.name\\.(V))\\..+`, '.health_check'),
  regex('envoy.http_conn_manager_prefix', `^listener\\..*?\\.http\\.((V)\\.)`, '.http.'),
  regex(
    'envoy.worker_id',
    `^(?:listener\\.(?:A|V)|server|listener_manager|thread_local_cluster_manager)\\.worker_((\\d+)\\.)`,
    '.worker_',
  ),
  { ...regex('envoy.listener_address', `^listener\\.((A|V)\\.)`, ''), except: 'admin' },
  regex('envoy.rds_route_config', `^http\\.V\\.rds\\.(([\\w\\-./]+)\\.)\\w+?$`, '.rds.'),
  regex('envoy.scoped_rds_config', `^http\\.V\\.scoped_rds\\.(([\\w\\-.]+)\\.)\\w+?$`, '.scoped_rds.'),
  { ...regex('envoy.rbac_http_prefix', `^http\\.V\\.rbac\\.((V)\\.).*?`, '.rbac.'), except: 'policy' },
  regex(
    'envoy.rbac_policy_name',
    `^http\\.V\\.rbac\\.(?:V\\.)?policy\\.((V)\\.)(?:allowed|shadow_allowed|denied|shadow_denied)$`,
    '.rbac.',
  ),
  regex('envoy.proxy_protocol_version', `^proxy_proto\\.((?:V\\.)?versions\\.v(\\d)\\.)\\w+$`, ''),
  { ...regex('envoy.proxy_protocol_prefix', `^proxy_proto\\.((V)\\.).+$`, ''), except: 'versions' },
  regex('envoy.tls_certificate', `^O\\.ssl\\.certificate\\.((V)\\.).*$`, '.ssl.certificate.'),
  regex('envoy.xds_resource_name', `^sds\\.((V)\\.).+`, ''),
  { tag: 'envoy.mongo_callsite', tokens: 'mongo.*.collection.*.callsite.$.query.**' },
  { tag: 'envoy.mongo_collection', tokens: 'mongo.*.collection.$.**.query.*' },
  { tag: 'envoy.mongo_cmd', tokens: 'mongo.*.cmd.$.**' },
  { tag: 'envoy.grpc_bridge_method', tokens: 'cluster.*.grpc.*.$.**' },
  { tag: 'envoy.http_user_agent', tokens: 'http.*.user_agent.$.**' },
  { tag: 'envoy.virtual_cluster', tokens: 'vhost.*.vcluster.$.**' },
  { tag: 'envoy.fault_downstream_cluster', tokens: 'http.*.fault.$.**' },
  { tag: 'envoy.grpc_bridge_service', tokens: 'cluster.*.grpc.$.**' },
  { tag: 'envoy.tcp_prefix', tokens: 'tcp.$.**' },
  { tag: 'envoy.udp_prefix', tokens: 'udp.$.**' },
  { tag: 'envoy.clientssl_prefix', tokens: 'auth.clientssl.$.**' },
  { tag: 'envoy.ratelimit_prefix', tokens: 'ratelimit.$.**' },
  { tag: 'envoy.cluster_name', tokens: 'cluster.$.**' },
  { tag: 'envoy.ext_authz_prefix', tokens: 'cluster.*.ext_authz.$.**' },
  { tag: 'envoy.ext_authz_prefix', tokens: 'http.*.ext_authz.$.**' },
  { tag: 'envoy.http_conn_manager_prefix', tokens: 'http.$.**' },
  { tag: 'envoy.virtual_host', tokens: 'vhost.$.**' },
  { tag: 'envoy.mongo_prefix', tokens: 'mongo.$.**' },
  { tag: 'envoy.route', tokens: 'vhost.*.route.$.**' },
  { tag: 'envoy.thrift_prefix', tokens: 'thrift.$.**' },
  { tag: 'envoy.redis_prefix', tokens: 'redis.$.**' },
  { tag: 'envoy.local_http_ratelimit_prefix', tokens: '$.http_local_rate_limit.**' },
  { tag: 'envoy.local_network_ratelimit_prefix', tokens: 'local_rate_limit.$.**' },
  { tag: 'envoy.local_listener_ratelimit_prefix', tokens: 'listener_local_ratelimit.$.**' },
  { tag: 'envoy.dns_filter_prefix', tokens: 'dns_filter.$.**' },
  { tag: 'envoy.connection_limit_prefix', tokens: 'connection_limit.$.**' },
  { tag: 'envoy.rbac_prefix', tokens: '$.rbac.**' },
  { tag: 'envoy.google_grpc_client_prefix', tokens: 'grpc.$.**' },
]

/** A rule written with the short hands above: V value, C cipher, A address, O listener or cluster with its name. */
function regex(tag: string, pattern: string, contains: string): RegexRule {
  const parts: Record<string, string> = { V: VALUE, C: CIPHER, A: ADDRESS, O: OWNER }
  // A short hand stands alone: not a letter of a word such as `TLSv`.
  const source = pattern.replace(/(?<!\w)[VCAO](?!\w)/g, (letter) => parts[letter]!)
  return contains === '' ? { tag, regex: new RegExp(source) } : { tag, regex: new RegExp(source), contains }
}

/** An expression as Envoy's configuration writes it (`[[:digit:]]` and its like are not JavaScript). Throws when it is none. */
export function tagRegex(source: string): RegExp {
  return new RegExp(source.replace(/\[:(\w+):\]/g, (all, name: string) => POSIX[name] ?? all))
}

const POSIX: Readonly<Record<string, string>> = {
  alnum: 'a-zA-Z0-9',
  alpha: 'a-zA-Z',
  digit: '0-9',
  lower: 'a-z',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\s',
  upper: 'A-Z',
  word: '\\w',
  xdigit: '0-9a-fA-F',
}

/** One entry of `stats_config.stats_tags`: an expression, a fixed value, or the name of one of Envoy's own tags. */
export interface TagSpecifier {
  readonly tag_name: string
  readonly regex?: string
  readonly fixed_value?: string
}

/**
 * Rules of a `stats_config`: Envoy's own ones first, unless `use_all_default_tags` is false, then those named. A specifier
 * that is not valid is returned as a sentence.
 */
export function tagRules(
  specifiers: readonly TagSpecifier[],
  useAllDefaultTags = true,
): { readonly rules: readonly TagRule[]; readonly errors: readonly string[] } {
  const rules: TagRule[] = useAllDefaultTags ? [...ENVOY_TAGS] : []
  const errors: string[] = []
  for (const { tag_name: tag, regex = '', fixed_value: value } of specifiers) {
    if (tag === '') errors.push('tag_name is empty')
    else if (value !== undefined) rules.push({ tag, value })
    else if (regex === '') {
      const own = ENVOY_TAGS.filter((rule) => rule.tag === tag)
      if (own.length === 0) errors.push(`${tag}: it has no regex and is none of Envoy's own tags`)
      else if (!useAllDefaultTags) rules.push(...own)
    } else {
      try {
        rules.push({ tag, regex: tagRegex(regex) })
      } catch (error) {
        errors.push(`${tag}: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
  }
  return { rules, errors }
}
