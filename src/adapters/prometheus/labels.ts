import type { Identity, Origin, Party } from '../../model/batch.ts'
import { FLAGS, type Flag, OVERFLOW } from '../../model/schema.ts'

/**
 * Label sets of Istio's standard metrics, names and texts as its proxies write them
 * (istio.io/latest/docs/reference/config/metrics), so that dashboards made for Istio work as they are.
 */

export type Labels = readonly (readonly [name: string, value: string])[]

export const UNKNOWN = 'unknown'
const LATEST = 'latest'

/** The labels that say who talked to whom. The other ones (`requestLabels`) follow them. */
export function identityLabels(identity: Identity, origin: Origin | undefined): Labels {
  const { destination } = identity
  // A gateway is the source of what it sends on; whoever called it is not in Istio's labels.
  const source = identity.reporter === 'gateway' && origin !== undefined ? origin.self : identity.source
  const service = serviceLabels(identity)
  return [
    ['reporter', reporterLabel(identity.reporter)],
    ...partyLabels('source', source),
    ...partyLabels('destination', destination),
    ['destination_service', service.host],
    ['destination_service_name', service.name],
    ['destination_service_namespace', service.namespace],
  ]
}

/** Identities with different labels have different keys. Much cheaper than the labels, which are made once for a key. */
export function identityKey(identity: Identity, origin: Origin | undefined): string {
  const { destination } = identity
  const source = identity.reporter === 'gateway' && origin !== undefined ? origin.self : identity.source
  // Joined, and not added up: a sum of texts keeps its parts.
  return [
    reporterLabel(identity.reporter),
    ...partyTexts(source),
    ...partyTexts(destination),
    identity.destinationHost,
  ].join('\0')
}

const partyTexts = ({ workload, namespace, principal, app, version, service, cluster }: Party): string[] => [
  workload,
  namespace,
  principal,
  app,
  version,
  service,
  cluster,
]

/** Values of labels as one text, and back: label sets are kept so, at a fifth of the memory. */
export function packValues(labels: Labels): string {
  return labels.map(([, value]) => (value.includes('\0') ? value.replaceAll('\0', '\ufffd') : value)).join('\0')
}

export function unpackValues(names: readonly string[], text: string): Labels {
  const values = text.split('\0')
  return names.map((name, k) => [name, values[k]!])
}

/** The same labels of the series that take what the budget does not let in: `overflow` everywhere but in `reporter`. */
export function overflowLabels(reporter: Identity['reporter']): Labels {
  return ALL_IDENTITY_LABELS.map((name) => [name, name === 'reporter' ? reporterLabel(reporter) : OVERFLOW])
}

/** Gateways report as the source of the requests they send on. */
export function reporterLabel(reporter: Identity['reporter']): string {
  return reporter === 'gateway' ? 'source' : reporter
}

const PARTY_LABELS = [
  'workload',
  'workload_namespace',
  'principal',
  'app',
  'version',
  'canonical_service',
  'canonical_revision',
  'cluster',
] as const

function partyLabels(side: 'source' | 'destination', party: Party): Labels {
  const values = [
    party.workload,
    party.namespace,
    party.principal,
    party.app,
    party.version,
    party.service,
    party.version || LATEST,
    party.cluster,
  ]
  return PARTY_LABELS.map((name, k) => [`${side}_${name}`, values[k]! || UNKNOWN])
}

export const ALL_IDENTITY_LABELS: readonly string[] = [
  'reporter',
  ...PARTY_LABELS.map((name) => `source_${name}`),
  ...PARTY_LABELS.map((name) => `destination_${name}`),
  'destination_service',
  'destination_service_name',
  'destination_service_namespace',
]

const KUBERNETES_HOST = /^([^.]+)\.([^.]+)\.svc(?:\.|$)/

export function serviceLabels(identity: Identity): { host: string; name: string; namespace: string } {
  const { destination, destinationHost } = identity
  const namespace = destination.namespace || UNKNOWN
  if (destinationHost === '') {
    const name = destination.service || UNKNOWN
    return { host: name, name, namespace }
  }
  const parts = KUBERNETES_HOST.exec(destinationHost)
  if (parts === null) return { host: destinationHost, name: destinationHost, namespace }
  return { host: destinationHost, name: parts[1]!, namespace: parts[2]! }
}

/** How a request or connection went, as numbers: the part of a label set that differs within one identity. */
export interface Answer {
  readonly protocol: Protocol
  /** −1: none was sent, which Istio writes as 0. */
  readonly code: number
  /** −1: not gRPC. */
  readonly grpcStatus: number
  readonly flags: number
  readonly policy: Policy
}
export const PROTOCOLS = ['http', 'grpc', 'tcp'] as const
export type Protocol = (typeof PROTOCOLS)[number]
export const POLICIES = ['unknown', 'none', 'mutual_tls'] as const
export type Policy = (typeof POLICIES)[number]

export function answerLabels(answer: Answer): Labels {
  const tcp = answer.protocol === 'tcp'
  return [
    ['request_protocol', answer.protocol],
    ...(tcp
      ? []
      : ([
          ['response_code', String(Math.max(answer.code, 0))],
          ['grpc_response_status', answer.grpcStatus < 0 ? '' : String(answer.grpcStatus)],
        ] as const)),
    ['response_flags', flagsText(answer.flags)],
    ['connection_security_policy', answer.policy],
  ]
}

export function overflowAnswerLabels(protocol: Protocol): Labels {
  const names = protocol === 'tcp' ? [] : ['response_code', 'grpc_response_status']
  return [
    ['request_protocol', protocol],
    ...[...names, 'response_flags', 'connection_security_policy'].map((name) => [name, OVERFLOW] as const),
  ]
}

/** Envoy's own order (`CoreResponseFlag`) differs from the bits at the end: DR stands after DO. */
const FLAG_ORDER: readonly Flag[] = [...FLAGS.filter((flag) => flag !== 'DR' && flag !== 'UDO'), 'DR', 'UDO']
const FLAG_BITS = FLAG_ORDER.map((flag) => [flag, 1 << FLAGS.indexOf(flag)] as const)

/** Short names joined by commas, `-` when there are none. */
export function flagsText(flags: number): string {
  if (flags === 0) return '-'
  return FLAG_BITS.filter(([, bit]) => (flags & bit) !== 0)
    .map(([flag]) => flag)
    .join(',')
}
