import { isIP } from 'node:net'
import { createGenerations } from '../../lib/generations.ts'
import type { Identity, IdentityInput, IdentityResolver, Origin, Party } from '../../model/batch.ts'
import { type ClusterName, parseClusterName, parseIstioSni, serviceOfHost } from './cluster-name.ts'
import { applyRules, compileRules, type IdentityRule } from './identity-rules.ts'
import { parsePeer, parseSaid, type Said } from './peer.ts'
import { parsePrincipal } from './principal.ts'
import { NOBODY } from './workload.ts'

/**
 * Who talked to whom. Sources, best first: peer metadata in filter state, what the proxy's node says of itself,
 * certificates, the name of the cluster, the SNI, and rules of the configuration for what is still unknown.
 *
 * Source and destination are the two ends. The proxy that reports is one of them when it is a sidecar; a gateway or a
 * waypoint is a hop between them, named by `origin.self` and not in the identity.
 */
export interface IdentityResolverOptions {
  readonly rules?: readonly IdentityRule[]
  /** Inputs and identities remembered, each. About 1 KiB an entry: 20 000 are 40 MB at the very worst, 14 when names are as long as usual. */
  readonly entriesMax?: number
}

/** Destination of requests that nothing names. */
export const NO_SERVICE = '(none)'

export function createIdentityResolver(options: IdentityResolverOptions = {}): IdentityResolver {
  const entriesMax = options.entriesMax ?? 20_000
  const rules = compileRules(options.rules ?? [])
  const byInput = createGenerations<string, Identity>(entriesMax)
  const byContent = createGenerations<string, Identity>(entriesMax)
  const clusters = createGenerations<string, ClusterName>(entriesMax)
  const originIds = new WeakMap<Origin, number>()
  let origins = 0
  let identities = 0

  const clusterName = (origin: Origin, name: string): ClusterName => {
    const key = `${origin.mesh}\0${name}`
    const known = clusters.get(key)
    if (known !== undefined) return known
    const parsed = parseClusterName(name, { mesh: origin.mesh })
    clusters.set(key, parsed)
    return parsed
  }
  const originId = (origin: Origin): number => {
    const known = originIds.get(origin)
    if (known !== undefined) return known
    originIds.set(origin, ++origins)
    return origins
  }
  const intern = (draft: Draft): Identity => {
    const key = JSON.stringify(draft)
    const known = byContent.get(key)
    if (known !== undefined) return known
    const identity = { id: ++identities, ...draft }
    byContent.set(key, identity)
    return identity
  }

  return {
    resolve(input) {
      const key = `${originId(input.origin)}\0${input.cluster}\0${input.route}\0${input.authority}\0${input.sni}\0${input.peerSan}\0${input.localSan}\0${bytesKey(input.downstreamPeer)}\0${bytesKey(input.upstreamPeer)}`
      const known = byInput.get(key)
      if (known !== undefined) return known
      const { draft, standIn } = draftOf(input, clusterName(input.origin, input.cluster))
      const identity = intern(applyRules(rules, input, draft, standIn))
      byInput.set(key, identity)
      return identity
    },
    needs(origin, cluster) {
      return rules.needs | needsOf(origin, clusterName(origin, cluster))
    },
  }
}

export type Draft = Omit<Identity, 'id'>

/** Longer peers are not looked at: Istio's are below 2 KiB, and the key holds them. */
const PEER_BYTES_MAX = 16 * 1024

function bytesKey(bytes: Uint8Array | null): string {
  if (bytes === null || bytes.length > PEER_BYTES_MAX) return ''
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

function peerOf(bytes: Uint8Array | null): Party | null {
  return bytes === null || bytes.length > PEER_BYTES_MAX ? null : parsePeer(bytes)
}

/** `standIn`: nothing named the destination's service, something else stands in its place. */
function draftOf(input: IdentityInput, cluster: ClusterName): { readonly draft: Draft; readonly standIn: boolean } {
  const { origin } = input
  const sni = parseIstioSni(input.sni)
  const downstream = peerOf(input.downstreamPeer)
  const upstream = peerOf(input.upstreamPeer)
  const saidSource = saidOf(input.downstreamPeer)
  const saidDestination = saidOf(input.upstreamPeer)
  const reporter =
    reporterSaid(saidSource) ?? reporterOf(origin, cluster, sni !== null, downstream !== null, upstream !== null)
  const source = sourceOf(input, reporter, downstream)
  const { standIn, destination, destinationHost } = destinationOf(input, reporter, cluster, sni, upstream)
  if (saidSource === null && saidDestination === null) {
    return { draft: { mesh: origin.mesh, reporter, source, destination, destinationHost }, standIn }
  }
  const named = overlaid(standIn ? { ...destination, service: '' } : destination, saidDestination?.party ?? NOBODY)
  const service = named.service || destination.service
  return {
    draft: {
      mesh: origin.mesh,
      reporter,
      source: overlaid(source, saidSource?.party ?? NOBODY),
      destination: { ...named, service },
      destinationHost: (saidDestination && hostOfService(saidDestination.party.service)) || destinationHost,
    },
    standIn: named.service === '',
  }
}

function saidOf(bytes: Uint8Array | null): Said | null {
  return bytes === null || bytes.length > PEER_BYTES_MAX ? null : parseSaid(bytes)
}

const REPORTERS: ReadonlySet<string> = new Set(['source', 'destination', 'gateway', 'waypoint'])

function reporterSaid(said: Said | null): Identity['reporter'] | null {
  return said !== null && REPORTERS.has(said.reporter) ? (said.reporter as Identity['reporter']) : null
}

/** What was said over what was worked out. A host as service is its service and namespace; a workload stands in for one. */
function overlaid(party: Party, said: Party): Party {
  const principal = parsePrincipal(said.principal)
  const called = hostOfService(said.service) === '' ? null : serviceOfHost(said.service)
  return {
    workload: said.workload || party.workload,
    namespace: said.namespace || (called?.namespace ?? '') || party.namespace || principal.namespace,
    service: (called?.service ?? said.service) || party.service || principal.service || said.app || said.workload,
    version: said.version || party.version,
    principal: principal.id || party.principal,
    app: said.app || party.app,
    cluster: said.cluster || party.cluster,
  }
}

/** `reviews.shop.svc.cluster.local` is a host; `reviews` and `203.0.113.9` are not. */
function hostOfService(service: string): string {
  return serviceOfHost(service).namespace === '' ? '' : service
}

/** Cluster names that only a proxy of a mesh has, so that they tell its side even when its node says nothing. */
const FORMS_WITH_SIDE: ReadonlySet<string> = new Set([
  'istio',
  'passthrough',
  'blackhole',
  'consul',
  'kuma',
  'app-mesh',
])

function reporterOf(
  origin: Origin,
  cluster: ClusterName,
  istioSni: boolean,
  downstreamPeer: boolean,
  upstreamPeer: boolean,
): Identity['reporter'] {
  if (origin.nodeType === 'router') return 'gateway'
  if (origin.nodeType === 'waypoint') return 'waypoint'
  if (cluster.direction === 'waypoint' || cluster.direction === 'gateway') return cluster.direction
  if (origin.nodeType === 'sidecar' || FORMS_WITH_SIDE.has(cluster.form)) {
    if (cluster.direction === 'inbound') return 'destination'
    if (cluster.direction === 'outbound') return 'source'
  }
  if (cluster.form !== 'none') return 'unknown'
  // No cluster: answered before one was chosen, or none had a host. Mutual TLS and peers still tell the side.
  if (istioSni) return 'destination'
  if (downstreamPeer !== upstreamPeer && origin.nodeType === 'sidecar') return downstreamPeer ? 'destination' : 'source'
  return 'unknown'
}

function sourceOf(input: IdentityInput, reporter: Identity['reporter'], downstream: Party | null): Party {
  if (reporter === 'source') return input.origin.self
  const peer = downstream ?? NOBODY
  const principal = parsePrincipal(input.peerSan || peer.principal)
  return {
    ...peer,
    principal: principal.id,
    namespace: peer.namespace || principal.namespace,
    service: peer.service || principal.service,
  }
}

function destinationOf(
  input: IdentityInput,
  reporter: Identity['reporter'],
  cluster: ClusterName,
  sni: ClusterName | null,
  upstream: Party | null,
): Pick<Draft, 'destination' | 'destinationHost'> & { readonly standIn: boolean } {
  const itself = reporter === 'destination'
  const party = (itself ? input.origin.self : upstream) ?? NOBODY
  const principal = parsePrincipal((itself ? input.localSan : '') || party.principal)
  // The service that was called, by the name its callers use: what they address, before what the workload calls itself.
  const called = cluster.service !== '' ? cluster : isInbound(cluster) ? sni : null
  const standIn = called === null && party.service === ''
  const fallback = standIn ? fallbackOf(input, reporter, cluster) : NOTHING_CALLED
  return {
    destination: {
      workload: party.workload,
      namespace: (called?.namespace ?? '') || party.namespace || principal.namespace,
      service: (called?.service ?? '') || party.service || fallback.service,
      version: party.version || (called ?? cluster).versionHint,
      principal: principal.id,
      app: party.app,
      cluster: party.cluster || cluster.cluster,
    },
    destinationHost: called?.host || fallback.host || (itself && isInbound(cluster) ? ownHost(input.origin) : ''),
    standIn,
  }
}

/**
 * The host of an Istio sidecar's own service, for a request whose log does not hold it: without mutual TLS there is no SNI.
 * Its canonical service in the domain of its node id, `sidecar~ADDRESS~POD.NAMESPACE~NAMESPACE.svc.cluster.local`, which is what its
 * callers address wherever a service is called like what it runs.
 */
function ownHost({ nodeId, nodeType, self }: Origin): string {
  const domain = nodeType === 'sidecar' ? (nodeId.split('~')[3] ?? '') : ''
  return self.service !== '' && domain.startsWith(`${self.namespace}.svc.`) ? `${self.service}.${domain}` : ''
}

/** Whether a cluster leads to the workload behind the proxy, or may: its SNI then names the service. */
function isInbound(cluster: ClusterName): boolean {
  return cluster.direction === 'inbound' || cluster.direction === 'waypoint' || cluster.form === 'none'
}

const NOTHING_CALLED = { service: '', host: '' }

/** Cluster, route, authority, else `(none)`. What reaches a workload is never named by the authority: a health check may say anything. */
function fallbackOf(
  input: IdentityInput,
  reporter: Identity['reporter'],
  cluster: ClusterName,
): { readonly service: string; readonly host: string } {
  if (cluster.form === 'passthrough' && reporter === 'gateway' && isHostName(input.sni)) {
    return { service: input.sni, host: input.sni } // An egress gateway that routes by SNI.
  }
  if (reporter !== 'unknown' && (cluster.direction === 'inbound' || cluster.direction === 'waypoint')) {
    return { service: NO_SERVICE, host: '' }
  }
  if (cluster.form === 'passthrough' || cluster.form === 'blackhole') {
    const asked = byAuthority(input)
    // An address is no name of a service, and there are as many as a scanner tries.
    return isIP(asked.host.replace(/^\[|\]$/g, '')) === 0 ? asked : { service: NO_SERVICE, host: '' }
  }
  if (input.cluster !== '') return { service: input.cluster, host: '' }
  if (reporter === 'destination') return { service: NO_SERVICE, host: '' }
  if (input.route !== '' && !ISTIO_ROUTES.has(input.route)) return { service: input.route, host: '' }
  return byAuthority(input)
}

/** Route names that Istio gives to every route that nobody named. */
const ISTIO_ROUTES: ReadonlySet<string> = new Set(['default', 'allow_any', 'block_all'])

function byAuthority(input: IdentityInput): { readonly service: string; readonly host: string } {
  const host = input.authority.replace(/:\d{1,5}$/, '').toLowerCase()
  return { service: host || NO_SERVICE, host }
}

function isHostName(sni: string): boolean {
  return sni.includes('.') && !sni.includes('_.')
}

/** Bit 0: authority and route; bit 1: SNI. */
function needsOf(origin: Origin, cluster: ClusterName): number {
  if (cluster.service !== '') return 0
  const egress = cluster.form === 'passthrough' && origin.nodeType === 'router'
  const outside = (cluster.form === 'passthrough' || cluster.form === 'blackhole') && cluster.direction !== 'inbound'
  return (isInbound(cluster) || egress ? 2 : 0) | (cluster.form === 'none' || outside ? 1 : 0)
}
