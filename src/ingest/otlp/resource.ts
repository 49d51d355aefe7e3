import { createGenerations } from '../../lib/generations.ts'
import { hostOf } from '../../lib/units.ts'
import type { Origin } from '../../model/batch.ts'
import type { Origins } from '../entry/origins.ts'
import { type AnyValueReader, createAnyValueReader } from './any-value.ts'
import { Fields, LEN } from './fields.ts'
import { lenientText } from './text.ts'

/**
 * Who sends: a Resource of OTLP, and where from. Envoy's access logger says `node_name`, `cluster_name`, `zone_name` and
 * `log_name`; others use the semantic conventions (`service.*`, `k8s.*`, `cloud.*`, `host.*`).
 */
export interface Resource {
  readonly attributes: ReadonlyMap<string, string>
  /** By Envoy's own labels of access logs, or its SDK name. */
  readonly envoy: boolean
  /** Whether the start times of its cumulative values are what they should be: not from an Envoy before 1.37. */
  readonly startTimes: boolean
  /** Node id, or what stands for it: the pod, the host, or the address it sends from. */
  readonly instance: string
  /** `namespace/service`, or `service`; '' when it does not say. */
  readonly job: string
  /** The origin of rows whose durations are exact to `precisionNs`: one object for each. */
  origin(precisionNs: number): Origin
}

/** What the transport knows of a sender. */
export interface Sender {
  /** `address:port`. */
  readonly peer: string
  /** Value of the header `x-sidecast-node`: names a node whose resource does not. '' without. */
  readonly node: string
}

export interface ResourceReader {
  /** The same object for the same bytes and sender, while it is remembered. Never throws. */
  read(bytes: Uint8Array, start: number, end: number, sender: Sender): Resource
}

/** Header by which a sender without any id can be given one: `initial_metadata`, `request_headers_to_add`. */
export const NODE_HEADER = 'x-sidecast-node'

const RESOURCES_MAX = 20_000
const ATTRIBUTES_MAX = 128
/** Resources with more bytes are read anew each time. */
const CACHED_BYTES_MAX = 4096
const KEY_BYTES_MAX = 256
const VALUE_BYTES_MAX = 512

export function createResourceReader(options: { readonly origins: Origins }): ResourceReader {
  const known = createGenerations<string, Resource>(RESOURCES_MAX)
  const any = createAnyValueReader({ depthMax: 8, bytesMax: VALUE_BYTES_MAX })
  return {
    read(bytes, start, end, sender) {
      const content = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start)
      const cached = content.length <= CACHED_BYTES_MAX
      const key = cached ? `${hostOf(sender.peer)}\n${sender.node}\n${content.toString('latin1')}` : ''
      const found = cached ? known.get(key) : undefined
      if (found !== undefined) return found
      const resource = resourceOf(readAttributes(bytes, start, end, any), sender, options.origins)
      if (cached) known.set(key, resource)
      return resource
    },
  }
}

/** `attributes` #1 of a Resource. */
function readAttributes(bytes: Uint8Array, start: number, end: number, any: AnyValueReader): Map<string, string> {
  const attributes = new Map<string, string>()
  const fields = new Fields().enter(bytes, start, end)
  const pair = new Fields()
  while (fields.next()) {
    if (fields.number !== 1 || fields.wireType !== LEN || attributes.size >= ATTRIBUTES_MAX) continue
    const [key, from, to] = readPair(pair.into(fields))
    attributes.set(key, any.text(bytes, from, to))
  }
  return attributes
}

/** Key and the range of the value of a KeyValue. */
export function readPair(pair: Fields): [key: string, from: number, to: number] {
  let key = ''
  let from = 0
  let to = 0
  while (pair.next()) {
    if (pair.wireType !== LEN) continue
    if (pair.number === 1) key = lenientText(pair.bytes, pair.from, Math.min(pair.to, pair.from + KEY_BYTES_MAX))
    else if (pair.number === 2) {
      from = pair.from
      to = pair.to
    }
  }
  return [key, from, to]
}

function resourceOf(attributes: Map<string, string>, sender: Sender, all: Origins): Resource {
  const get = (...names: string[]): string => {
    for (const name of names) {
      const value = attributes.get(name)
      if (value !== undefined && value !== '') return value
    }
    return ''
  }
  const service = get('service.name').replace(/^unknown_service(?::.*)?$/, '')
  const namespace = get('service.namespace')
  const instance =
    sender.node ||
    get('node_name', 'envoy.node.id', 'service.instance.id', 'k8s.pod.name', 'host.name', 'container.id') ||
    hostOf(sender.peer)
  const origins = new Map<number, Origin>()
  const envoy = attributes.has('node_name') || attributes.has('log_name') || get('telemetry.sdk.name') === 'envoy'
  return {
    attributes,
    envoy,
    startTimes: !envoy || isSince137(get('telemetry.sdk.version')),
    instance,
    job: namespace === '' ? service : `${namespace}/${service}`,
    origin(precisionNs) {
      const found = origins.get(precisionNs)
      if (found !== undefined) return found
      const origin = originOf({ get, instance, service, precisionNs, origins: all })
      origins.set(precisionNs, origin)
      return origin
    },
  }
}

/** `<commit>/1.40.0/Clean/RELEASE/BoringSSL`. */
function isSince137(version: string): boolean {
  const [, major = '0', minor = '0'] = /(?:^|\/)(\d+)\.(\d+)\.\d+/.exec(version) ?? []
  return Number(major) > 1 || (Number(major) === 1 && Number(minor) >= 37)
}

function originOf(known: {
  readonly get: (...names: string[]) => string
  readonly instance: string
  readonly service: string
  readonly precisionNs: number
  readonly origins: Origins
}): Origin {
  const { get, instance, service, precisionNs, origins } = known
  return origins.of({
    source: 'otlp',
    precisionNs,
    nodeId: instance,
    nodeCluster: get('cluster_name', 'envoy.cluster.name') || service,
    region: get('cloud.region'),
    zone: get('zone_name', 'cloud.availability_zone'),
    logName: get('log_name', 'envoy.log_name'),
    mesh: get('k8s.cluster.name'),
    self: {
      workload: get(
        'k8s.deployment.name',
        'k8s.statefulset.name',
        'k8s.daemonset.name',
        'k8s.cronjob.name',
        'k8s.job.name',
        'k8s.replicaset.name',
      ),
      namespace: get('k8s.namespace.name', 'service.namespace'),
      service,
      version: get('service.version'),
    },
  })
}
