/**
 * What the name of an upstream cluster says. Each control plane has its own forms; a name of none of them is `plain` and
 * says nothing but itself. Pure.
 */
export interface ClusterName {
  readonly form: ClusterForm
  /** Relative to the workload behind the proxy; `waypoint` and `gateway` where the form is one that only these have. */
  readonly direction: 'inbound' | 'outbound' | 'waypoint' | 'gateway' | 'unknown'
  /** Service that is called, as its users name it; '' when the name does not say. */
  readonly service: string
  readonly namespace: string
  /** Host of the service; '' when the name has none. */
  readonly host: string
  /** Only where a subset looks like a version: subsets are named freely (`v2`, `canary`, `http--calls`). */
  readonly versionHint: string
  /** Port of the service (outbound) or of the container (Istio's inbound); 0 when the name has none. */
  readonly port: number
  /** Data centre or mesh of the service, where the name has it. */
  readonly cluster: string
}

export type ClusterForm =
  | 'istio'
  | 'passthrough'
  | 'blackhole'
  | 'consul'
  | 'kuma'
  | 'app-mesh'
  | 'gloo'
  | 'contour'
  /** Envoy Gateway: names a route, not a service. */
  | 'route'
  /** The workload behind the proxy itself. */
  | 'local'
  /** Of the proxy's own: control plane, statistics, logs, traces. */
  | 'helper'
  | 'plain'
  | 'none'

export interface ClusterNameContext {
  /** Mesh of the proxy: App Mesh joins names with `_`, which the names may contain themselves. */
  readonly mesh?: string
}

export function parseClusterName(name: string, context: ClusterNameContext = {}): ClusterName {
  // Istio ≥ 1.24 ends some names with `;`, a delimiter for its stat names.
  const text = name.endsWith(';') ? name.slice(0, -1) : name
  if (text === '') return { ...NOTHING, form: 'none' }
  return (
    parseIstio(text) ??
    parseWellKnown(text) ??
    parseConsul(text) ??
    parseRoute(text) ??
    parseContour(text) ??
    parseAppMesh(text, context.mesh ?? '') ??
    parseKuma(text) ??
    parseGloo(text) ?? { ...NOTHING, form: 'plain' }
  )
}

/** SNI of Istio's mutual TLS: `outbound_.<service port>_.<subset>_.<host>`. Null when it is any other name. */
export function parseIstioSni(sni: string): ClusterName | null {
  return sni.startsWith('outbound_.') ? parseIstio(sni) : null
}

/** `name.namespace.svc…` as service and namespace; any other host is a service of that name. */
export function serviceOfHost(host: string): { readonly service: string; readonly namespace: string } {
  const labels = host.split('.')
  if (labels.length >= 3 && labels[2] === 'svc') return { service: labels[0]!, namespace: labels[1]! }
  // Istio's multicluster names before 1.8.
  if (labels.length === 3 && labels[2] === 'global') return { service: labels[0]!, namespace: labels[1]! }
  return { service: host, namespace: '' }
}

const NOTHING: ClusterName = {
  form: 'plain',
  direction: 'unknown',
  service: '',
  namespace: '',
  host: '',
  versionHint: '',
  port: 0,
  cluster: '',
}

const ISTIO_DIRECTIONS: Readonly<Record<string, ClusterName['direction']>> = {
  outbound: 'outbound',
  inbound: 'inbound',
  'inbound-vip': 'waypoint',
  'inbound-pod': 'waypoint',
}

/**
 * `<direction>|<port>|<third>|<host>`, and `<direction>_.<port>_.<third>_.<host>` for routing by SNI. The third part is
 * the subset of an outbound name; of an inbound one it is the name of the port (`http`), never a version, and of
 * `inbound-vip` it is the port's name or `<name>/<subset>`.
 */
function parseIstio(text: string): ClusterName | null {
  const parts = text.includes('|') ? text.split('|') : text.split('_.')
  if (parts.length < 4) return null
  const [kind, port, third] = parts as [string, string, string]
  const direction = ISTIO_DIRECTIONS[kind]
  if (direction === undefined || !/^\d{1,5}$/.test(port)) return null
  const host = parts.slice(3).join('.')
  const subset = kind === 'outbound' ? third : kind === 'inbound-vip' ? (third.split('/')[1] ?? '') : ''
  const named = kind === 'inbound-pod' ? { service: '', namespace: '' } : serviceOfHost(host)
  return {
    ...NOTHING,
    ...named,
    form: 'istio',
    direction,
    host: kind === 'inbound-pod' ? '' : host,
    versionHint: versionOf(subset),
    port: Number(port),
  }
}

function versionOf(subset: string): string {
  return /^v?\d+(?:[._-]\d+)*$/.test(subset) ? subset : ''
}

const HELPERS = new Set([
  // Istio
  'xds-grpc',
  'sds-grpc',
  'prometheus_stats',
  'agent',
  'envoy_accesslog_service',
  'envoy_metrics_service',
  'zipkin',
  'main_internal',
  'connect_originate',
  'encap',
  // Consul, Kuma, Envoy Gateway, Contour
  'local_agent',
  'ads_cluster',
  'access_log_sink',
  'kuma_envoy_admin',
  'kuma:envoy:admin',
  'xds_cluster',
  'contour',
  'envoy-admin',
])

function parseWellKnown(text: string): ClusterName | null {
  if (/^InboundPassthroughCluster(?:Ipv[46])?$/.test(text) || /^inbound_passthrough_ipv[46]$/.test(text)) {
    return { ...NOTHING, form: 'passthrough', direction: 'inbound' }
  }
  if (text === 'PassthroughCluster' || text === 'original-destination' || /^outbound_passthrough_ipv[46]$/.test(text)) {
    return { ...NOTHING, form: 'passthrough', direction: 'outbound' }
  }
  if (text === 'original_destination_cluster') return { ...NOTHING, form: 'passthrough' }
  if (text === 'BlackHoleCluster') return { ...NOTHING, form: 'blackhole', direction: 'outbound' }
  if (text === 'local_app') return { ...NOTHING, form: 'local', direction: 'inbound' }
  const local = /^localhost_(\d{1,5})$/.exec(text)
  if (local !== null) return { ...NOTHING, form: 'local', direction: 'inbound', port: Number(local[1]) }
  return HELPERS.has(text) ? { ...NOTHING, form: 'helper' } : null
}

/**
 * `[<subset>.]<service>.<namespace>.<dc>.internal.<trust domain>`, with a partition before the dc for `internal-v1`,
 * `<service>.<namespace>.<partition>.<peer>.external.<trust domain>`, `<name>.default.<dc>.query.<trust domain>`.
 * `<hash>~` and `failover-target~` may stand in front.
 */
function parseConsul(text: string): ClusterName | null {
  const match = /^(?:[^~]*~)*([^~]+?)\.(internal|internal-v1|external|query)\.([^.].*)$/.exec(text)
  if (match === null) return null
  const labels = match[1]!.split('.')
  // What follows the service: namespace, partition (not in the default form), data centre or peer.
  const tail = match[2] === 'internal' || match[2] === 'query' ? 2 : 3
  if (labels.length < tail + 1 || labels.length > tail + 2 || labels.includes('')) return null
  const service = labels[labels.length - tail - 1]!
  return {
    ...NOTHING,
    form: 'consul',
    direction: 'outbound',
    service,
    namespace: labels[labels.length - tail]!,
    host: text.slice(text.lastIndexOf('~') + 1),
    versionHint: labels.length === tail + 2 ? versionOf(labels[0]!) : '',
    cluster: labels.at(-1)!,
  }
}

/** `httproute/<ns>/<route>/rule/<n>` and the other kinds of the Gateway API. */
function parseRoute(text: string): ClusterName | null {
  return /^(?:http|grpc|tcp|tls|udp)route\/[^/]+\/[^/]+\/rule\//.test(text)
    ? { ...NOTHING, form: 'route', direction: 'gateway' }
    : null
}

/** `<ns>/<service>/<port>/<hash of 10 hex digits>`. */
function parseContour(text: string): ClusterName | null {
  const match = /^([a-z0-9-]+)\/([a-z0-9-]+)\/([a-z0-9-]+)\/[0-9a-f]{10}$/.exec(text)
  if (match === null) return null
  const [, namespace, service, port] = match as unknown as [string, string, string, string]
  return { ...NOTHING, form: 'contour', direction: 'gateway', service, namespace, port: Number(port) || 0 }
}

/**
 * `cds_egress_<mesh>_<virtual node>_<protocol>_<port>`, `cds_ingress_…` for the workload behind the proxy;
 * `…_mesh-allow-all` and `…_amazonaws` leave the mesh.
 */
function parseAppMesh(text: string, mesh: string): ClusterName | null {
  const match = /^(?:cds|app)_(egress|ingress)_(.+)$/.exec(text)
  if (match === null) return null
  const direction = match[1] === 'egress' ? 'outbound' : 'inbound'
  let rest = match[2]!
  if (/_(?:mesh-allow-all|amazonaws)$/.test(rest)) return { ...NOTHING, form: 'passthrough', direction }
  let port = 0
  const ending = /^(.+)_(?:http|http2|grpc|tcp)_(\d{1,5})$/.exec(rest)
  if (ending !== null) {
    rest = ending[1]!
    port = Number(ending[2])
  }
  const known = mesh !== '' && rest.startsWith(`${mesh}_`)
  const cut = known ? mesh.length : rest.indexOf('_')
  if (cut < 1 || cut === rest.length - 1) return null
  return { ...NOTHING, form: 'app-mesh', direction, service: rest.slice(cut + 1), port, cluster: rest.slice(0, cut) }
}

/** `<service>_<ns>_svc[_<port>]`; 16 hex digits behind it split one service over several clusters. */
function parseKuma(text: string): ClusterName | null {
  const match = /^([^_{}]+)_([^_{}]+)_svc(?:_(\d{1,5}))?(?:-[0-9a-f]{16})?(?:\{mesh=([^}]*)\})?$/.exec(text)
  if (match === null) return null
  const [, service, namespace, port = '0', cluster = ''] = match as unknown as [string, string, string]
  return { ...NOTHING, form: 'kuma', direction: 'outbound', service, namespace, port: Number(port), cluster }
}

/**
 * `<ns>-<service>-<port>_<ns of the Upstream>`, the last being Gloo's own. Both names may contain `-`: only when they do
 * not can they be told apart, else the name of the Upstream stands for the service.
 */
function parseGloo(text: string): ClusterName | null {
  const match = /^([a-z0-9-]+-(\d{1,5}))_[a-z0-9-]*gloo[a-z0-9-]*$/.exec(text)
  if (match === null) return null
  const parts = match[1]!.split('-')
  const named = parts.length === 3 ? { namespace: parts[0]!, service: parts[1]! } : { service: match[1]! }
  return { ...NOTHING, ...named, form: 'gloo', direction: 'gateway', port: Number(match[2]) }
}
