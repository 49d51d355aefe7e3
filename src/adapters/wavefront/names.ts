import { STRICT_LIMITS, TAG_MAX } from './limits.ts'
import {
  isBlank,
  sanitiseName,
  sanitiseSource,
  sanitiseSpanName,
  sanitiseTags,
  sanitiseValue,
  type Tags,
} from './text.ts'

/**
 * Names and tags of what is sent: those of Istio's former Mixer adapter for Wavefront, so that dashboards made for it go
 * on working, and those of the metrics that Wavefront derives from spans.
 */
export interface NameOptions {
  /** In front of every metric but those derived from spans. */
  readonly prefix: string
  readonly source: string
  readonly application: string
  readonly cluster: string
  readonly shard: string
  /** Columns of the schema that become tags beside Mixer's. */
  readonly tags: readonly string[]
}

export interface MeshSeries {
  readonly tcp: boolean
  readonly tags: Tags
}

export interface RedSeries {
  /** `tracing.derived.<application>.<service>.<operation>`, cut so that every suffix fits. */
  readonly name: string
  readonly tags: Tags
  readonly error: boolean
  readonly service: string
}

export interface Described<S> {
  readonly key: string
  readonly series: S
}

/** Mixer's tags by column; what is missing is `unknown`. */
const MIXER_TAGS = [
  ['source_service', 'source_service'],
  ['source_namespace', 'source_service_namespace'],
  ['source_version', 'source_version'],
  ['destination_service', 'destination_service'],
  ['destination_namespace', 'destination_service_namespace'],
  ['destination_version', 'destination_version'],
] as const
const UNKNOWN = 'unknown'
export const NONE = 'none'
/** Tag of the spans that Envoy itself makes. */
export const COMPONENT = 'proxy'

export const MESH_COLUMNS: readonly string[] = [
  'kind',
  'reporter',
  'response_code',
  ...MIXER_TAGS.map(([column]) => column),
]

/** Mixer knew two kinds of reporters. */
function reporterTag(reporter: string): string {
  if (reporter === 'destination' || reporter === 'waypoint') return 'server'
  return reporter === 'source' || reporter === 'gateway' ? 'client' : reporter
}

/** By the texts of `MESH_COLUMNS` and of `options.tags`. Null for datagrams, which Mixer had no metric for. */
export function createMeshSeries(options: NameOptions): (texts: readonly string[]) => Described<MeshSeries> | null {
  const constant: Tags = [
    ['application', options.application],
    ['service', 'sidecast'],
    ['cluster', options.cluster],
    ['shard', options.shard],
  ]
  return (texts) => {
    const [kind, reporter, code] = texts as [string, string, string]
    if (kind === 'udp') return null
    const tcp = kind === 'tcp'
    const tags = sanitiseTags([
      ...constant,
      ['reporter', reporterTag(reporter) || UNKNOWN],
      ...MIXER_TAGS.map(([, tag], k) => [tag, textOr(texts[3 + k]!, UNKNOWN)] as const),
      // Mixer wrote 200 where no code was sent; a request without an answer is no success.
      ...(tcp ? [] : [['response_code', code || '0'] as const]),
      ...options.tags.map((tag, k) => [tag, texts[MESH_COLUMNS.length + k]!] as const),
    ])
    return { key: keyOf(kind === 'tcp' ? 'tcp' : 'http', tags), series: { tcp, tags } }
  }
}

/** `kind` and `class` first: overflow series keep them apart. */
export const RED_COLUMNS = [
  'kind',
  'class',
  'reporter',
  'source_service',
  'source_workload',
  'node_cluster',
  'destination_service',
  'method',
  'route',
  'path_template',
  'response_code',
] as const
type RedColumn = (typeof RED_COLUMNS)[number]

/** What a request is as a span. */
export interface SpanWho {
  /** Whose span it is: the caller's where the caller's proxy or a gateway reports, else the one called. */
  readonly service: string
  readonly kind: 'client' | 'server'
  readonly operation: string
}

/** Method and route, as Wavefront shows operations of HTTP; neither is high in number. */
export function spanWho(of: {
  readonly reporter: string
  readonly sourceService: string
  readonly sourceWorkload: string
  readonly nodeCluster: string
  readonly destinationService: string
  readonly method: string
  readonly route: string
  readonly pathTemplate: string
}): SpanWho {
  const client = of.reporter === 'source' || of.reporter === 'gateway'
  const where = of.pathTemplate || of.route
  // Callers that nobody names are at least told apart by the cluster of their proxies.
  const caller = [of.sourceService, of.sourceWorkload, of.nodeCluster].find((text) => !isBlank(text)) ?? ''
  const service = client ? caller : of.destinationService
  return {
    service: sanitiseValue(textOr(service, UNKNOWN), STRICT_LIMITS.spanTagValue),
    kind: client ? 'client' : 'server',
    operation: sanitiseSpanName(`${of.method} ${where}`.trim() || UNKNOWN),
  }
}

/** Longest of what is put behind the name of a series. */
const RED_SUFFIX_MAX = '.total_time.millis.count'.length

/** By the texts of `RED_COLUMNS`. Null for what is no request. */
export function createRedSeries(options: NameOptions): (texts: readonly string[]) => Described<RedSeries> | null {
  const { application, cluster, shard } = options
  return (texts) => {
    const text = (column: RedColumn): string => texts[RED_COLUMNS.indexOf(column)]!
    if (text('kind') !== 'http') return null
    const who = spanWho({
      reporter: text('reporter'),
      sourceService: text('source_service'),
      sourceWorkload: text('source_workload'),
      nodeCluster: text('node_cluster'),
      destinationService: text('destination_service'),
      method: text('method'),
      route: text('route'),
      pathTemplate: text('path_template'),
    })
    const error = isError(text('class'))
    const tags = sanitiseTags([
      ['application', application],
      ['service', who.service],
      ['cluster', cluster],
      ['shard', shard],
      ['operationName', who.operation],
      ['component', COMPONENT],
      ['span.kind', who.kind],
      ['http.status_code', text('response_code')],
    ])
    const { service } = who
    const name = redName(application, service, who.operation)
    return { key: keyOf(`${error}\0${name}`, tags), series: { name, tags, error, service } }
  }
}

/** Failed, as a span says it: `error=true`. */
export function isError(responseClass: string): boolean {
  return responseClass === 'server_error' || responseClass === 'aborted'
}

/** As the Java SDK names them: slashes are no part of a name there. */
function redName(application: string, service: string, operation: string): string {
  const path = `${application}.${service}.${operation}`.replaceAll('/', '-')
  return sanitiseName(`tracing.derived.${path}`, STRICT_LIMITS.metricName - RED_SUFFIX_MAX)
}

/** Config made fit to be sent: what is left of a text, or what stands for it. */
export function fitOptions(options: NameOptions): NameOptions {
  const tagValue = (text: string): string =>
    sanitiseValue(text, Math.min(STRICT_LIMITS.spanTagValue, TAG_MAX - 16)) || NONE
  return {
    ...options,
    prefix: sanitiseName(options.prefix, 64),
    source: sanitiseSource(options.source) || 'sidecast',
    application: tagValue(options.application),
    cluster: tagValue(options.cluster),
    shard: tagValue(options.shard),
  }
}

function textOr(text: string, other: string): string {
  return isBlank(text) ? other : text
}

function keyOf(head: string, tags: Tags): string {
  return `${head}\0${tags.map(([key, value]) => `${key}\0${value}`).join('\0')}`
}
