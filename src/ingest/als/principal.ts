import { parseClusterName } from './cluster-name.ts'

/** Who a certificate belongs to, by its URI or DNS name. */
export interface Principal {
  /** SPIFFE id with its scheme, or whatever else the certificate says; '' when it says nothing. */
  readonly id: string
  readonly namespace: string
  readonly service: string
}

const NOBODY: Principal = { id: '', namespace: '', service: '' }

/**
 * Reads the names of a certificate, joined with commas: the SPIFFE id counts first. Forms:
 * `spiffe://<td>/ns/<ns>/sa/<account>` (Istio), `spiffe://<td>[/ap/<partition>]/ns/<ns>/dc/<dc>/svc/<service>` (Consul),
 * `spiffe://<mesh>/<service tag>` (Kuma). Older entries leave `spiffe://` out.
 */
export function parsePrincipal(names: string): Principal {
  if (names === '') return NOBODY
  const all = names.split(',', 16).map((name) => name.trim())
  const found = all.find((name) => name.startsWith('spiffe://')) ?? all[0]!
  const bare = found.startsWith('spiffe://') ? found.slice('spiffe://'.length) : found
  const istio = /^[^/]+\/ns\/([^/]+)\/sa\/[^/]+$/.exec(bare)
  if (istio !== null) return { id: `spiffe://${bare}`, namespace: istio[1]!, service: '' }
  const consul = /^[^/]+(?:\/ap\/[^/]+)?\/ns\/([^/]+)\/dc\/[^/]+\/svc\/([^/]+)$/.exec(bare)
  if (consul !== null) return { id: `spiffe://${bare}`, namespace: consul[1]!, service: consul[2]! }
  const kuma = found === bare ? null : /^[^/]+\/([^/]+_svc(?:_\d+)?)$/.exec(bare)
  if (kuma !== null) {
    const { namespace, service } = parseClusterName(kuma[1]!)
    return { id: found, namespace, service }
  }
  return { id: found, namespace: '', service: '' }
}
