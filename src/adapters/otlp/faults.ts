import type { Config } from '../../config-schema.ts'
import { parseDuration } from '../../lib/units.ts'
import { parseEndpoint } from '../../otlp/endpoint.ts'

export type OtlpConfig = Config['adapters']['otlp']

/** What is wrong with `adapters.otlp`, for `check-config` and at the start. `path` is below `adapters.otlp`. */
export interface OtlpFault {
  readonly path: readonly string[]
  readonly message: string
  readonly help: string
}

/** Shorter intervals are more points than anybody stores. */
const INTERVAL_MS_MIN = 100

/** `ownAddress`: where this process takes OTLP over gRPC. Nothing is wrong with what is not configured. */
export function otlpFaults(config: OtlpConfig, ownAddress: string): OtlpFault[] {
  const { endpoint, headers, metrics } = config
  if (endpoint === '') return []
  const faults: OtlpFault[] = []
  const fault = (key: string, message: string, help: string) =>
    faults.push({ path: key.split('.'), message: `adapters.otlp.${key}: ${message}`, help })
  const target = parseEndpoint(endpoint)?.target
  if (target === undefined) {
    const help = 'host:port, http://host:port or https://host:port; the port of OTLP over gRPC is 4317'
    fault('endpoint', JSON.stringify(endpoint), help)
  } else if (onLoopback(target) === onLoopback(ownAddress)) {
    fault('endpoint', `${endpoint} is this process itself`, 'what is sent would come in again, for ever')
  }
  for (const [name, value] of Object.entries(headers)) {
    if (isHeader(name, value)) continue
    const help = 'letters, digits, - _ . and a value of printable ASCII; no grpc-… and no …-bin'
    fault('headers', `${JSON.stringify(name)} cannot be a header of gRPC`, help)
  }
  const intervalMs = parseDuration(metrics.interval)!
  if (intervalMs < INTERVAL_MS_MIN) {
    fault('metrics.interval', metrics.interval, `write ${INTERVAL_MS_MIN}ms or more; 1m is usual`)
  }
  return faults
}

/** An address of this machine by the one name that all of them have here. */
const onLoopback = (address: string): string => address.replace(/^(?:localhost|0\.0\.0\.0|\[::1?\]):/, '127.0.0.1:')

/** What gRPC takes as metadata; a later failure would be one of every request. */
function isHeader(name: string, value: string): boolean {
  return /^[0-9A-Za-z_.-]+$/.test(name) && !/-bin$/i.test(name) && !/^grpc-/i.test(name) && /^[ -~]*$/.test(value)
}
