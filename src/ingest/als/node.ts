import { createGenerations } from '../../lib/generations.ts'
import type { Origin, Party } from '../../model/batch.ts'
import { eachField, eachStructField, eachValueString, LEN, readText, valueText } from './protobuf.ts'
import { canonicalRevision, canonicalService, NOBODY, workloadOfOwner, workloadOfPod } from './workload.ts'

/**
 * Reads `StreamAccessLogsMessage.Identifier` into an `Origin`: which proxy, and what it says of itself.
 *
 * Identifier: `node` #1, `log_name` #2. Node: `id` #1, `cluster` #2, `metadata` #3 (Struct), `locality` #4,
 * `user_agent_version` #7, `user_agent_build_version` #8; `extensions` #9, tens of kilobytes, is stepped over.
 */
export interface NodeReader {
  /** Never throws: what cannot be read is empty. Equal content gives the same object, while it is remembered. */
  read(bytes: Uint8Array, start: number, end: number): Origin
}

export interface NodeReaderOptions {
  /** Origins remembered; past it the older half is forgotten, and streams that come again get new objects. */
  readonly originsMax?: number
}

export function createNodeReader(options: NodeReaderOptions = {}): NodeReader {
  const origins = createGenerations<string, Origin>(options.originsMax ?? 20_000)
  return {
    read(bytes, start, end) {
      const origin = readOrigin(bytes, start, end)
      const key = JSON.stringify(origin)
      const known = origins.get(key)
      if (known !== undefined) return known
      origins.set(key, origin)
      return origin
    },
  }
}

/** An origin for entries of a stream that never said who it is. */
export const UNKNOWN_ORIGIN: Origin = {
  source: 'als',
  nodeId: '',
  nodeCluster: '',
  mesh: '',
  region: '',
  zone: '',
  subZone: '',
  envoyVersion: '',
  logName: '',
  precisionNs: 1,
  self: NOBODY,
  nodeType: 'unknown',
}

/** What mesh, workload and type of a node are worked out from. */
export interface NodeFacts {
  readonly id: string
  readonly cluster: string
  /** String values of the metadata. */
  readonly metadata: ReadonlyMap<string, string>
  readonly labels: ReadonlyMap<string, string>
}

interface Node extends NodeFacts {
  id: string
  cluster: string
  region: string
  zone: string
  subZone: string
  version: string
  readonly metadata: Map<string, string>
  readonly labels: Map<string, string>
}

type Described = Pick<Origin, 'mesh' | 'self' | 'nodeType'>

function readOrigin(bytes: Uint8Array, start: number, end: number): Origin {
  const node: Node = {
    id: '',
    cluster: '',
    region: '',
    zone: '',
    subZone: '',
    version: '',
    metadata: new Map(),
    labels: new Map(),
  }
  let logName = ''
  eachField(bytes, start, end, (field, wireType, from, to) => {
    if (wireType !== LEN) return
    if (field === 1) readNode(node, bytes, from, to)
    else if (field === 2) logName = readText(bytes, from, to)
  })
  const istioVersion = node.metadata.get('ISTIO_VERSION') ?? ''
  return {
    source: 'als',
    nodeId: node.id,
    nodeCluster: node.cluster,
    region: node.region,
    zone: node.zone,
    subZone: node.subZone,
    envoyVersion: node.version,
    ...(istioVersion === '' ? {} : { istioVersion }),
    logName,
    precisionNs: 1,
    ...describeNode(node),
  }
}

function readNode(node: Node, bytes: Uint8Array, start: number, end: number): void {
  eachField(bytes, start, end, (field, wireType, from, to) => {
    if (wireType !== LEN) return
    if (field === 1) node.id = readText(bytes, from, to)
    else if (field === 2) node.cluster = readText(bytes, from, to)
    else if (field === 3) readMetadata(node, bytes, from, to)
    else if (field === 4) readLocality(node, bytes, from, to)
    else if (field === 7) node.version = readText(bytes, from, to)
    else if (field === 8) node.version = readVersion(bytes, from, to)
  })
}

/** More keys than any control plane sets; the rest of a hostile Struct is left unread. */
const METADATA_KEYS_MAX = 256

function readMetadata(node: Node, bytes: Uint8Array, start: number, end: number): void {
  eachStructField(bytes, start, end, (key, from, to) => {
    if (node.metadata.size >= METADATA_KEYS_MAX) return
    if (key === 'LABELS') {
      eachValueString(bytes, from, to, (label, text) => {
        if (node.labels.size < METADATA_KEYS_MAX) node.labels.set(label, text)
      })
    } else {
      node.metadata.set(key, valueText(bytes, from, to))
    }
  })
}

function readLocality(node: Node, bytes: Uint8Array, start: number, end: number): void {
  eachField(bytes, start, end, (field, wireType, from, to) => {
    if (wireType !== LEN) return
    if (field === 1) node.region = readText(bytes, from, to)
    else if (field === 2) node.zone = readText(bytes, from, to)
    else if (field === 3) node.subZone = readText(bytes, from, to)
  })
}

/** BuildVersion: `version` #1 SemanticVersion with `major_number` #1, `minor_number` #2, `patch` #3. */
function readVersion(bytes: Uint8Array, start: number, end: number): string {
  const numbers = [0, 0, 0]
  let found = false
  eachField(bytes, start, end, (field, wireType, from, to) => {
    if (field !== 1 || wireType !== LEN) return
    found = true
    eachField(bytes, from, to, (part, partWireType, _from, _to, value) => {
      if (partWireType === 0 && part >= 1 && part <= 3) numbers[part - 1] = value
    })
  })
  return found ? numbers.join('.') : ''
}

/** What a node says of itself, in the ways of the meshes that are known. */
export function describeNode(node: NodeFacts): Described {
  return (
    describeIstio(node) ??
    describeAppMesh(node) ??
    describeKuma(node) ??
    describeGloo(node) ??
    describeConsul(node) ??
    describeEnvoyGateway(node) ??
    describeContour(node) ?? { mesh: '', self: NOBODY, nodeType: 'unknown' }
  )
}

const ISTIO_TYPES: Readonly<Record<string, Origin['nodeType']>> = {
  sidecar: 'sidecar',
  router: 'router',
  ingress: 'router', // Before 1.1.
  waypoint: 'waypoint',
  ztunnel: 'ztunnel',
}

/**
 * `<type>~<ip>~<pod>.<namespace>~<dns domain>`, with metadata of 1.2 and later (NAME, NAMESPACE, WORKLOAD_NAME, LABELS …)
 * or the flat one of 1.0 and 1.1 (`app`, `version`, POD_NAME …).
 */
function describeIstio(node: NodeFacts): Described | null {
  const parts = node.id.split('~')
  if (parts.length !== 4) return null
  const { metadata, labels } = node
  const said = (key: string): string => metadata.get(key) ?? ''
  const label = (name: string): string | undefined => labels.get(name) ?? metadata.get(name)
  const [type = '', , proxy = '', domain = ''] = parts
  // A pod's name may contain dots, a namespace may not.
  const dot = proxy.lastIndexOf('.')
  const pod = said('NAME') || said('POD_NAME') || (dot < 0 ? proxy : proxy.slice(0, dot))
  const namespace =
    said('NAMESPACE') || (dot < 0 ? said('CONFIG_NAMESPACE') || (domain.split('.')[0] ?? '') : proxy.slice(dot + 1))
  const workload = said('WORKLOAD_NAME') || workloadOfOwner(said('OWNER')) || workloadOfPod(pod)
  const cluster = said('CLUSTER_ID')
  return {
    mesh: said('MESH_ID') || cluster,
    nodeType: ISTIO_TYPES[type] ?? 'unknown',
    self: {
      workload,
      namespace,
      service: canonicalService(label) || workload,
      version: canonicalRevision(label),
      principal: '',
      app: label('app') ?? '',
      cluster,
    },
  }
}

/** `[arn:aws:appmesh:<region>:<account>:]mesh/<mesh>/virtualNode|virtualGateway/<name>`. */
function describeAppMesh(node: NodeFacts): Described | null {
  const match = /^(?:arn:[^/]*:)?mesh\/([^/]+)\/(virtualNode|virtualGateway)\/([^/]+)\/?$/.exec(node.id)
  if (match === null) return null
  const [, mesh, kind, name] = match as unknown as [string, string, string, string]
  return {
    mesh,
    nodeType: kind === 'virtualNode' ? 'sidecar' : 'router',
    self: party({ workload: name, service: name }),
  }
}

/**
 * Node id `<mesh>.<data plane>`, on Kubernetes `<mesh>.<pod>.<namespace>`; cluster is the tag `kuma.io/service`,
 * `<service>_<namespace>_svc_<port>`. `dataplane.proxyType` is `dataplane`, `ingress` or `egress`.
 */
function describeKuma(node: NodeFacts): Described | null {
  const type = node.metadata.get('dataplane.proxyType')
  if (type === undefined && !node.metadata.has('dataplane.admin.port')) return null
  const [mesh = '', ...rest] = node.id.split('.')
  const tag = /^(.+)_([^_]+)_svc(?:_\d+)?$/.exec(node.cluster)
  const onKubernetes = tag !== null || rest.length >= 2
  const pod = onKubernetes && rest.length >= 2 ? rest.slice(0, -1).join('.') : rest.join('.')
  return {
    mesh,
    nodeType: type === 'ingress' || type === 'egress' ? 'router' : 'sidecar',
    self: party({
      workload: onKubernetes ? workloadOfPod(pod) : pod,
      namespace: tag?.[2] ?? (onKubernetes ? (rest.at(-1) ?? '') : ''),
      service: tag?.[1] ?? node.cluster,
    }),
  }
}

/** Metadata `role`: `<namespace>~<proxy>`. */
function describeGloo(node: NodeFacts): Described | null {
  const role = node.metadata.get('role')?.split('~') ?? []
  if (role.length < 2) return null
  // The newer gateway writes `<implementation>~<namespace>~<name>`.
  const [namespace, workload] = role.slice(-2) as [string, string]
  return { mesh: '', nodeType: 'router', self: party({ workload, namespace, service: workload }) }
}

/** Node id is the id of the proxy's service, cluster the service; metadata `namespace` and `partition`. */
function describeConsul(node: NodeFacts): Described | null {
  const { metadata } = node
  const namespace = metadata.get('namespace')
  if (namespace === undefined || !metadata.has('partition')) return null
  return {
    mesh: '',
    nodeType: CONSUL_GATEWAYS.has(node.cluster) ? 'router' : 'sidecar',
    self: party({ workload: node.cluster, namespace, service: node.cluster }),
  }
}

/** Names that Consul gives gateways when nobody chooses another. */
const CONSUL_GATEWAYS = new Set(['mesh-gateway', 'ingress-gateway', 'terminating-gateway', 'api-gateway'])

/** Pod `envoy-<namespace>-<gateway>-<hash>-…`, cluster `<namespace>/<gateway>` (or the class, of merged gateways). */
function describeEnvoyGateway(node: NodeFacts): Described | null {
  if (!/^envoy-.+-[0-9a-f]{8}-[a-z0-9]{5,10}-[a-z0-9]{5}$/.test(node.id)) return null
  const [namespace, gateway] = node.cluster.includes('/') ? node.cluster.split('/') : ['', node.cluster]
  return {
    mesh: '',
    nodeType: 'router',
    self: party({ workload: workloadOfPod(node.id), namespace: namespace ?? '', service: gateway ?? '' }),
  }
}

/** Pod name as id, cluster always `projectcontour`. */
function describeContour(node: NodeFacts): Described | null {
  if (node.cluster !== 'projectcontour') return null
  return { mesh: '', nodeType: 'router', self: party({ workload: workloadOfPod(node.id) }) }
}

function party(known: Partial<Party>): Party {
  return { ...NOBODY, ...known }
}
