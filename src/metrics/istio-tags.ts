import { type RegexRule, type TagRule, tagRegex } from './envoy-tags.ts'

/**
 * The rules that Istio puts in place of Envoy's (`use_all_default_tags: false` in its bootstrap), all versions since 1.5. A
 * proxy that says it is Istio's (`ISTIO_VERSION` in its metadata) names its stats by these.
 */
const DIMENSIONS = [
  'reporter',
  'source_namespace',
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
  'destination_namespace',
  'destination_workload',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_service',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_service_name',
  'destination_service_namespace',
  'destination_port',
  'destination_cluster',
  'request_protocol',
  'request_operation',
  'request_host',
  'response_code',
  'grpc_response_status',
  'response_flags',
  'connection_security_policy',
] as const

/** An address of a listener, or what stands for it: digits, dots, underscores, or IPv6 in brackets. */
const ADDRESS = String.raw`((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))`

export const ISTIO_TAGS: readonly TagRule[] = [
  // A host name has dots. Since 1.24 a name ends with `;`, before that only those of the default domain were told from what follows.
  rule('cluster_name', String.raw`^cluster\.(([^;]+);\.)`),
  rule('cluster_name', String.raw`^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)`),
  rule('tcp_prefix', String.raw`^tcp\.((.*?)\.)\w+?$`),
  rule('response_code', String.raw`_rq(_(\d{3}))$`),
  rule('response_code_class', String.raw`_rq(_(\dxx))$`),
  rule('http_conn_manager_listener_prefix', String.raw`^listener(?=\.).*?\.http\.(${ADDRESS}\.)`),
  rule('http_conn_manager_prefix', String.raw`^http\.(${ADDRESS}\.)`),
  rule('listener_address', String.raw`^listener\.(${ADDRESS}\.)`),
  rule('mongo_prefix', String.raw`^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$`),
  rule('cache', String.raw`(cache\.(.+?)\.)`),
  rule('component', String.raw`(component\.(.+?)\.)`),
  rule('tag', String.raw`(tag\.(.+?);\.)`),
  rule('wasm_filter', String.raw`(wasm_filter\.(.+?)\.)`),
  rule('authz_enforce_result', String.raw`rbac(\.(allowed|denied))`),
  rule('authz_dry_run_action', String.raw`(\.istio_dry_run_(allow|deny)_)`),
  rule('authz_dry_run_result', String.raw`(\.shadow_(allowed|denied))`),
  // Until 1.17 the metrics of requests were named `reporter=.=source;.;source_workload=.=web;.;…;istio_requests_total`.
  ...DIMENSIONS.map((tag): RegexRule => ({ ...rule(tag, `(${tag}=\\.=(.*?);\\.;)`), contains: `${tag}=.=` })),
]

function rule(tag: string, source: string): RegexRule {
  return { tag, regex: tagRegex(source) }
}

const CUSTOM = 'istiocustom.'

/**
 * The metrics of requests since 1.18 carry their labels beside the name, and the long name is all of them joined:
 * `istiocustom.istio_requests_total.reporter.source.source_workload.web.source_version.source_cluster.k8s.…`. Values may hold
 * dots (`reviews.shop.svc.cluster.local`) and may be missing altogether; the order of the labels is fixed, so each value ends where
 * the next known label begins. Null when it is no such name.
 */
export function splitIstioName(name: string): { name: string; tags: [string, string][] } | null {
  if (!name.startsWith(CUSTOM)) return null
  const start = name.indexOf('.reporter.')
  const first = start >= 0 ? start : name.indexOf('.component.')
  if (first < 0) return null
  const tokens = name.slice(first + 1).split('.')
  const tags: [string, string][] = []
  let value: string[] = []
  let tag = ''
  for (const token of tokens) {
    if (LABELS.has(token) && !tags.some(([known]) => known === token) && token !== tag) {
      if (tag !== '') tags.push([tag, value.join('.')])
      tag = token
      value = []
    } else value.push(token)
  }
  tags.push([tag, value.join('.')])
  return { name: name.slice(0, first), tags }
}

const LABELS: ReadonlySet<string> = new Set<string>([...DIMENSIONS, 'component', 'tag'])
