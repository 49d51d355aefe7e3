import type { Identity, IdentityResolver, Origin, Party } from '../../src/model/batch.ts'

export const NOBODY: Party = {
  workload: '',
  namespace: '',
  service: '',
  version: '',
  principal: '',
  app: '',
  cluster: '',
}

export const ORIGIN: Origin = {
  source: 'als',
  nodeId: 'sidecar~10.0.12.1~web-1.shop~shop.svc.cluster.local',
  nodeCluster: 'web.shop',
  mesh: 'mesh1',
  region: 'region-1',
  zone: 'zone-a',
  subZone: '',
  envoyVersion: '1.40.0',
  logName: 'http_envoy_accesslog',
  precisionNs: 1,
  self: { ...NOBODY, workload: 'web', namespace: 'shop', service: 'web', version: 'v1' },
  nodeType: 'sidecar',
}

/** Names the destination after the cluster: a resolver that costs little, to measure what lies around it. */
export function plainResolver(): IdentityResolver {
  const known = new Map<string, Identity>()
  return {
    needs: () => 0,
    resolve({ origin, cluster }) {
      let identity = known.get(cluster)
      if (identity === undefined) {
        const host = cluster.split('|')[3] ?? cluster
        const [service = '', namespace = ''] = host.split('.')
        identity = {
          id: known.size + 1,
          mesh: origin.mesh,
          reporter: 'source',
          source: origin.self,
          destination: { ...NOBODY, service, namespace },
          destinationHost: host,
        }
        known.set(cluster, identity)
      }
      return identity
    },
  }
}
