import { isRecord } from '../../../lib/json.ts'
import { type Hints, type Layer, layer } from './envelope.ts'
import { type Instant, instantOfEpoch, parseInstant } from './time.ts'

/**
 * JSON that collectors put around a line: Docker's json-file (`{"log":"…\n","stream":"stdout","time":"…"}`), Fluent Bit and
 * Fluentd (`log`), Filebeat and other senders of ECS (`message`), Vector, journald (`MESSAGE`), Google Cloud Logging
 * (`textPayload`, `jsonPayload`). Access logs are JSON themselves, so an object is an envelope only if it has Docker's keys,
 * or its payload is a text of more than one word (or an object); and no key is one that only an access log has.
 */
const PAYLOAD_KEYS = ['log', 'message', 'MESSAGE', 'textPayload', 'jsonPayload', 'line', 'msg'] as const
const MAYBE = /"(?:log|message|MESSAGE|textPayload|jsonPayload|line|msg)"\s*:\s*["{]/
const ACCESS_KEYS: ReadonlySet<string> = new Set([
  'response_code',
  'responseCode',
  'response_flags',
  'duration',
  'upstream_cluster',
  'upstreamCluster',
  'upstream_host',
  'upstreamHost',
  ':authority',
  'method',
  'path',
  'src.addr',
  'DownstreamStatus',
  'latencies',
  'request_time',
])

/** Whether an object with these keys is an access log line, whatever its values are. */
export function isAccessLog(keys: readonly string[]): boolean {
  return keys.some((key) => ACCESS_KEYS.has(key))
}

export function jsonEnvelope(text: string): Layer | null {
  if (!MAYBE.test(text)) return null
  const value = parseObject(text)
  if (value === null) return null
  for (const key of Object.keys(value)) if (ACCESS_KEYS.has(key)) return null
  for (const key of PAYLOAD_KEYS) {
    const payload = value[key]
    const inner = isRecord(payload) ? JSON.stringify(payload) : payload
    if (typeof inner !== 'string') continue
    const docker = key === 'log' && typeof value.stream === 'string' && typeof value.time === 'string'
    if (!docker && !/\s|^[{[]/.test(inner.trim())) continue
    // ztunnel's and Mixer's own JSON: `"message":"connection complete"` beside the values.
    if (value.scope === 'access') return null
    return layerOf(value, inner, docker)
  }
  return null
}

type Json = Readonly<Record<string, unknown>>

function parseObject(text: string): Json | null {
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}

/** Docker splits lines at this many bytes; a chunk without the line's end goes on in the next entry. */
const DOCKER_CHUNK_BYTES = 16 * 1024

function layerOf(value: Json, payload: string, docker: boolean): Layer {
  const at = timeOf(value)
  const ended = payload.endsWith('\n')
  const found = layer(
    ended ? payload.replace(/\r?\n$/, '') : payload,
    hintsOf(value),
    at?.seconds ?? -1,
    at?.nanos ?? 0,
  )
  found.stream = textOf(value.stream) || textOf(value.source)
  if (docker && !ended && Buffer.byteLength(payload) >= DOCKER_CHUNK_BYTES && value.partial_message === undefined) {
    found.part = 'part'
  }
  // Docker's fluentd driver says so.
  if (String(value.partial_message) === 'true') {
    found.part = String(value.partial_last) === 'true' ? 'end' : 'part'
    found.stream = textOf(value.partial_id) || found.stream
  }
  return found
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

function timeOf(value: Json): Instant | null {
  for (const key of ['time', '@timestamp', 'timestamp', 'ts', 'date', '__REALTIME_TIMESTAMP']) {
    const said = value[key]
    const at =
      typeof said === 'number'
        ? instantOfEpoch(said)
        : typeof said === 'string'
          ? (parseInstant(said) ?? (/^\d{10,19}(?:\.\d+)?$/.test(said) ? instantOfEpoch(Number(said)) : null))
          : null
    if (at !== null) return at
  }
  return null
}

/** Where envelopes say these things; the first text found is taken. */
const PLACES: Readonly<Record<keyof Hints, readonly string[]>> = {
  pod: [
    'kubernetes.pod_name',
    'kubernetes.pod.name',
    'resource.labels.pod_name',
    'attrs.io.kubernetes.pod.name',
    'k8s.pod.name',
    'pod_name',
    'pod',
  ],
  namespace: [
    'kubernetes.namespace_name',
    'kubernetes.pod_namespace',
    'kubernetes.namespace',
    'resource.labels.namespace_name',
    'attrs.io.kubernetes.pod.namespace',
    'k8s.namespace.name',
    'namespace_name',
    'namespace',
  ],
  container: [
    'kubernetes.container_name',
    'kubernetes.container.name',
    'resource.labels.container_name',
    'attrs.io.kubernetes.container.name',
    'container.name',
    'k8s.container.name',
    'container_name',
  ],
  node: [
    'kubernetes.host',
    'kubernetes.node.name',
    'kubernetes.pod_node_name',
    'kubernetes.node_name',
    'labels.compute.googleapis.com/resource_name',
    'host.name',
    'hostname',
    '_HOSTNAME',
    'host',
  ],
  cluster: [
    'kubernetes.cluster_name',
    'resource.labels.cluster_name',
    'orchestrator.cluster.name',
    'k8s.cluster.name',
    'cluster_name',
    'ecs_cluster',
  ],
  app: [
    'kubernetes.labels.app',
    'kubernetes.pod_labels.app',
    'labels.k8s-pod/app',
    'attrs.com.docker.compose.service',
    'SYSLOG_IDENTIFIER',
    'ident',
    'tag',
  ],
  service: [
    'kubernetes.labels.service.istio.io/canonical-name',
    'kubernetes.pod_labels.service.istio.io/canonical-name',
    'labels.k8s-pod/service_istio_io/canonical-name',
    'kubernetes.labels.service_istio_io/canonical-name',
    'kubernetes.labels.app.kubernetes.io/name',
    'kubernetes.pod_labels.app.kubernetes.io/name',
    'kubernetes.labels.app_kubernetes_io/name',
  ],
  version: [
    'kubernetes.labels.service.istio.io/canonical-revision',
    'kubernetes.pod_labels.service.istio.io/canonical-revision',
    'labels.k8s-pod/service_istio_io/canonical-revision',
    'kubernetes.labels.app.kubernetes.io/version',
    'kubernetes.pod_labels.app.kubernetes.io/version',
    'kubernetes.labels.version',
    'kubernetes.pod_labels.version',
    'labels.k8s-pod/version',
  ],
}
/** A place, taken apart at every dot once: each part may be a key that itself contains dots. */
interface Place {
  readonly key: string
  readonly splits: readonly (readonly [head: string, rest: Place])[]
}

const FIELDS = (Object.keys(PLACES) as (keyof Hints)[]).map(
  (field) => [field, PLACES[field].map((path) => placeOf(path))] as const,
)

function placeOf(key: string): Place {
  const splits: (readonly [string, Place])[] = []
  for (let dot = key.indexOf('.'); dot > 0; dot = key.indexOf('.', dot + 1)) {
    splits.push([key.slice(0, dot), placeOf(key.slice(dot + 1))])
  }
  return { key, splits }
}

function hintsOf(value: Json): Partial<Hints> {
  const hints: { -readonly [Key in keyof Hints]?: string } = {}
  for (const [field, places] of FIELDS) {
    for (const place of places) {
      const text = textAt(value, place)
      if (text === '') continue
      // Docker's names begin with `/`.
      hints[field] = field === 'container' && text.startsWith('/') ? text.slice(1) : text
      break
    }
  }
  return hints
}

function textAt(value: Json, { key, splits }: Place): string {
  const whole = value[key]
  if (typeof whole === 'string') return whole
  for (const [head, rest] of splits) {
    const inner = value[head]
    if (!isRecord(inner)) continue
    const found = textAt(inner, rest)
    if (found !== '') return found
  }
  return ''
}
