/**
 * What stands around a log line when it arrives, and what it tells of the proxy that wrote the line: a container
 * runtime's head, a collector's JSON, `kubectl logs`, `docker compose`, syslog.
 */
export interface Hints {
  readonly pod: string
  readonly namespace: string
  readonly container: string
  /** Node of the cluster that the pod runs on, or the host of a syslog sender. */
  readonly node: string
  /** Kubernetes cluster, where the envelope names it. */
  readonly cluster: string
  /** Program or service: syslog's tag, a compose service, the pod's label `app`. */
  readonly app: string
  /** Labels `service.istio.io/canonical-name`, `app.kubernetes.io/name`; and of the version. */
  readonly service: string
  readonly version: string
}

export const NO_HINTS: Hints = {
  pod: '',
  namespace: '',
  container: '',
  node: '',
  cluster: '',
  app: '',
  service: '',
  version: '',
}

/** A line without what stood around it. One object, reused by the unwrapper for every line. */
export interface Unwrapped {
  text: string
  /** Equal hints are the same object while they are remembered: they may be keys. */
  hints: Hints
  /** When the envelope says the line was written: Unix seconds and nanoseconds; −1 and 0 when it does not say. */
  seconds: number
  nanos: number
}

/** What one layer adds: fields of hints, and a time. Inner layers win over outer ones only where those are silent. */
export interface Layer {
  /** The rest of the line. */
  text: string
  hints: Partial<Hints> | null
  seconds: number
  nanos: number
  /** `part`: more of the line follows. `end`: the line is whole, or its last part. */
  part: 'part' | 'end'
  /** Tells streams apart whose parts may be interleaved; '' where they cannot be. */
  stream: string
}

export function layer(text: string, hints: Partial<Hints> | null = null, seconds = -1, nanos = 0): Layer {
  return { text, hints, seconds, nanos, part: 'end', stream: '' }
}
