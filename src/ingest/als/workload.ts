import type { Party } from '../../model/batch.ts'

/** A side of which nothing is known. */
export const NOBODY: Party = {
  workload: '',
  namespace: '',
  service: '',
  version: '',
  principal: '',
  app: '',
  cluster: '',
}

/** Letters that Kubernetes makes random names of: no vowels, nothing that looks like another. */
const RANDOM = 'bcdfghjklmnpqrstvwxz2456789'
const DEPLOYMENT_POD = new RegExp(`^(.+)-(?:[${RANDOM}]{5,10}|\\d{6,10})-[${RANDOM}]{5}$`)
const STATEFUL_SET_POD = /^(.+)-\d{1,4}$/
const DAEMON_SET_POD = new RegExp(`^(.+)-[${RANDOM}]{5}$`)

/**
 * The workload of a pod by the pod's name: `web-v1-6d5f7c9b8-x2k4j` → `web-v1`, `mysql-0` → `mysql`, `agent-x2k4j` →
 * `agent`. A guess, for proxies that do not say it: a name without a random ending is kept.
 */
export function workloadOfPod(pod: string): string {
  const match = DEPLOYMENT_POD.exec(pod) ?? DAEMON_SET_POD.exec(pod) ?? STATEFUL_SET_POD.exec(pod)
  return match === null ? pod : match[1]!
}

/** `kubernetes://apis/apps/v1/namespaces/<ns>/deployments/<name>` → `<name>`. */
export function workloadOfOwner(owner: string): string {
  return /\/namespaces\/[^/]+\/[a-z]+s\/([^/]+)$/.exec(owner)?.[1] ?? ''
}

/** Labels that make Istio's canonical service and revision, best first. */
export function canonicalService(label: (name: string) => string | undefined): string {
  return first(label, ['service.istio.io/canonical-name', 'app.kubernetes.io/name', 'app'])
}

/** '' where Istio says `latest`: that is its word for "none". */
export function canonicalRevision(label: (name: string) => string | undefined): string {
  return first(label, ['service.istio.io/canonical-revision', 'app.kubernetes.io/version', 'version'])
}

function first(label: (name: string) => string | undefined, names: readonly string[]): string {
  for (const name of names) {
    const text = label(name)
    if (text !== undefined && text !== '' && text !== 'latest') return text
  }
  return ''
}
