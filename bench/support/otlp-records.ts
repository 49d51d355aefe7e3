import { jsonToProtobuf } from '../../src/ingest/otlp/json.ts'
import { seededRandom } from '../../src/lib/random.ts'

/**
 * Requests of Envoy's OTLP access logger as one proxy of a shop would send them: 16 attributes, as its documentation and
 * the semantic conventions name them, about 700 B a record.
 */
export interface OtlpRecords {
  /** One `ExportLogsServiceRequest` with `records` records. */
  request(records: number): Buffer
}

const SERVICES = ['checkout', 'cart', 'catalogue', 'payment', 'users', 'shipping', 'search', 'ads']
const AGENTS = [
  'curl/8.5.0',
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36',
  'okhttp/4.12.0',
]
const START_NS = 1_767_225_600_000_000_000n

export function createOtlpRecords(seed: number, node = 'edge-1'): OtlpRecords {
  const random = seededRandom(seed)
  const below = (most: number): number => Math.floor(random() * most)
  const hex = (digits: number): string => Array.from({ length: digits }, () => below(16).toString(16)).join('')
  const text = (key: string, stringValue: string) => ({ key, value: { stringValue } })
  let time = START_NS

  function record() {
    time += BigInt(1000 * (1 + below(2000)))
    const service = SERVICES[below(SERVICES.length)]!
    const failed = random() < 0.02
    const ms = 1 + Math.floor(Math.exp(1 + 2.2 * random()))
    const id = `${hex(8)}-${hex(4)}-4${hex(3)}-9${hex(3)}-${hex(12)}`
    return {
      timeUnixNano: String(time),
      body: { stringValue: 'access' },
      attributes: [
        text('http.request.method', random() < 0.8 ? 'GET' : 'POST'),
        text('url.path', `/api/v1/${service}/${below(100_000)}`),
        text('http.response.status_code', failed ? '503' : '200'),
        text(
          'envoy.response_code_details',
          failed ? 'upstream_reset_before_response_started{connection_termination}' : 'via_upstream',
        ),
        text('envoy.response_flags', failed ? 'UC' : '-'),
        text('envoy.duration_ms', String(ms)),
        text('envoy.upstream_service_time_ms', failed ? '-' : String(ms - 1)),
        text('envoy.upstream_cluster', `outbound|8080||${service}.shop.svc.cluster.local`),
        text('envoy.upstream_host', `10.4.${below(8)}.${below(32)}:8080`),
        text('envoy.route_name', 'default'),
        text('envoy.access_log_type', 'DownstreamEnd'),
        text('network.protocol.name', 'http'),
        text('network.protocol.version', '1.1'),
        text('user_agent.original', AGENTS[below(AGENTS.length)]!),
        text('bytes_sent', String(below(20_000))),
        text('x-request-id', id),
      ],
      traceId: hex(32),
      spanId: hex(16),
    }
  }

  const resource = {
    attributes: [
      text('log_name', 'edge_otel'),
      text('zone_name', 'z1'),
      text('cluster_name', 'edge'),
      text('node_name', node),
      text('service.name', 'edge'),
    ],
  }
  return {
    request(records) {
      const logRecords = Array.from({ length: records }, record)
      const made = jsonToProtobuf('logs', JSON.stringify({ resourceLogs: [{ resource, scopeLogs: [{ logRecords }] }] }))
      if (!made.ok) throw new Error(made.message)
      return made.bytes
    },
  }
}
