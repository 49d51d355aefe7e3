import { GRPC_CODES } from '../lib/grpc-codes.ts'
import { FLAGS } from '../model/schema.ts'

/**
 * What OpenTelemetry's semantic conventions call things. HTTP is stable, RPC a release candidate: `rpc.system.name`,
 * the whole `rpc.method`, and the status by its name.
 */
export const SCHEMA_URL = 'https://opentelemetry.io/schemas/1.44.0'

/** `rpc.status_code`. */
export const grpcStatusName = (status: number): string => GRPC_CODES[status] ?? String(status)

/** Statuses of gRPC that are errors of the server's span; for the client's all but OK are. */
export const GRPC_SERVER_ERRORS: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15])

/** `network.protocol.version` of `HTTP/1.1`, `HTTP/2` …. */
export const protocolVersion = (protocol: string): string =>
  protocol.startsWith('HTTP/') ? protocol.slice('HTTP/'.length) : ''

/** Host and port of an authority; the port is 0 when it has none. */
export function splitAuthority(authority: string): { readonly host: string; readonly port: number } {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(authority)
  if (match === null) return { host: authority, port: 0 }
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port: match[2] === undefined ? 0 : Number(match[2]) }
}

/** Envoy's short names, joined by commas. */
export function flagNames(flags: number, more: string): string {
  const names: string[] = FLAGS.filter((_, bit) => Math.floor(flags / 2 ** bit) % 2 === 1)
  if (more !== '') names.push(more)
  return names.join(',')
}
