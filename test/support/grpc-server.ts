import { onTestFinished } from 'vitest'
import {
  createGrpcServer,
  type Gate,
  type GrpcServer,
  type GrpcServerOptions,
  type GrpcService,
  type StreamHandler,
} from '../../src/ingest/grpc/index.ts'
import { silentLog } from '../../src/telemetry/log.ts'

export const STREAM = '/test.Service/Stream'
export const UNARY = '/test.Service/Unary'

/** A gate that a test opens and closes. */
export interface TestGate extends Gate {
  close(): void
  open(): void
}

export function createTestGate(): TestGate {
  let closed = false
  const listeners: (() => void)[] = []
  return {
    get closed() {
      return closed
    },
    onOpen: (listener) => listeners.push(listener),
    close() {
      closed = true
    },
    open() {
      closed = false
      for (const listener of listeners) listener()
    },
  }
}

export interface TestServer {
  readonly server: GrpcServer
  readonly gate: TestGate
  /** Messages in the order they were handed on. */
  readonly messages: Buffer[]
  readonly opened: number
  readonly ended: number
  readonly closed: number
}

/** A server on a free port, stopped when the test is over, that keeps every message. */
export async function startTestServer(
  options: Partial<GrpcServerOptions> & { handler?: Partial<StreamHandler> } = {},
): Promise<TestServer> {
  const gate = createTestGate()
  const messages: Buffer[] = []
  const seen = { opened: 0, ended: 0, closed: 0 }
  const service: GrpcService = {
    name: 'test.Service',
    gate,
    methods: {
      Stream: {
        kind: 'streaming',
        open() {
          seen.opened++
          return {
            onMessage(bytes, start, end) {
              messages.push(Buffer.from(bytes.subarray(start, end)))
              return null
            },
            onEnd() {
              seen.ended++
              return Buffer.from('done')
            },
            onClose() {
              seen.closed++
            },
            ...options.handler,
          }
        },
      },
      Unary: {
        kind: 'unary',
        handle: (_call, bytes, start, end) => Buffer.from(bytes.subarray(start, end)).reverse(),
      },
    },
  }
  const server = createGrpcServer({
    listen: '127.0.0.1:0',
    log: silentLog,
    sweepMs: 10,
    ...options,
    services: [service, ...(options.services ?? [])],
  })
  await server.start()
  onTestFinished(() => server.stop(AbortSignal.abort()))
  return {
    server,
    gate,
    messages,
    get opened() {
      return seen.opened
    },
    get ended() {
      return seen.ended
    },
    get closed() {
      return seen.closed
    },
  }
}
