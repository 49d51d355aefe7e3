import type { Origin } from '../../../model/batch.ts'
import { workloadOfPod } from '../../als/workload.ts'
import type { Hints } from './envelope.ts'

/**
 * What kind of proxy wrote a line, by the names that control planes give their own pods and containers. A name that
 * nobody's control plane gives tells nothing.
 */
export function nodeTypeOf({ pod, container, app }: Hints): Origin['nodeType'] {
  const workload = workloadOfPod(pod) || app
  if (workload === 'ztunnel') return 'ztunnel'
  if (/^istio-(?:ingress|egress)gateway\b/.test(workload)) return 'router'
  if (container === 'istio-proxy') {
    // Deployments of the Gateway API: `<gateway>-istio`; waypoints: `waypoint`, `<name>-waypoint`, earlier `<name>-istio-waypoint`.
    if (/(?:^|-)waypoint$/.test(workload)) return 'waypoint'
    return /.-istio$/.test(workload) ? 'router' : 'sidecar'
  }
  return SIDECARS.has(container) ? 'sidecar' : 'unknown'
}

/** Kuma, Linkerd, Open Service Mesh. Consul's gateways and sidecars run in containers of one name. */
const SIDECARS: ReadonlySet<string> = new Set(['kuma-sidecar', 'linkerd-proxy', 'osm-envoy'])
