import { createGrpcServer, type GrpcServer, type StreamHandler } from '../../src/ingest/grpc/index.ts'
import { createLog } from '../../src/telemetry/log.ts'

export const ALS_PATH = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'

/** The gRPC port alone, started, with nothing behind it but what looks at each message. */
export async function startAlsPort(onMessage: StreamHandler['onMessage']): Promise<GrpcServer> {
  const open = (): StreamHandler => ({ onMessage, onEnd: () => new Uint8Array(0), onClose() {} })
  const [, name, method] = ALS_PATH.split('/') as [string, string, string]
  const services = [{ name, methods: { [method]: { kind: 'streaming' as const, open } } }]
  const server = createGrpcServer({ listen: '127.0.0.1:0', log: createLog(), services })
  await server.start()
  return server
}
