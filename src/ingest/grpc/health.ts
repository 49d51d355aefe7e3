import type { GrpcService, Writer } from './service.ts'
import { type Status, status } from './status.ts'

/**
 * `grpc.health.v1.Health`: `Check` answers now, `Watch` at every change.
 * https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 */
export interface Health {
  readonly service: GrpcService
  /** `''` is the server as a whole. */
  set(name: string, serving: boolean): void
}

const SERVING = 1
const NOT_SERVING = 2
const SERVICE_UNKNOWN = 3

/** More watchers than this are refused: each is held in memory. */
const WATCHERS_MAX = 1000

export function createHealthService(names: readonly string[]): Health {
  const states = new Map<string, number>(['', ...names].map((name) => [name, NOT_SERVING]))
  const watchers = new Set<{ readonly name: string; readonly writer: Writer }>()
  const stateOf = (name: string): number => states.get(name) ?? SERVICE_UNKNOWN
  return {
    service: {
      name: 'grpc.health.v1.Health',
      scope: null,
      methods: {
        Check: {
          kind: 'unary',
          handle(_call, bytes, start, end) {
            const name = readName(bytes, start, end)
            if (name === null) return MALFORMED
            return states.has(name) ? encodeState(stateOf(name)) : status('notFound', `unknown service ${name}`)
          },
        },
        Watch: {
          kind: 'watch',
          watch(_call, bytes, start, end, writer) {
            const name = readName(bytes, start, end)
            if (name === null || watchers.size >= WATCHERS_MAX) {
              writer.finish(name === null ? MALFORMED : status('resourceExhausted', 'too many watchers'))
              return () => {}
            }
            const watcher = { name, writer }
            watchers.add(watcher)
            writer.send(encodeState(stateOf(name)))
            return () => watchers.delete(watcher)
          },
        },
      },
    },
    set(name, serving) {
      const state = serving ? SERVING : NOT_SERVING
      if (states.get(name) === state) return
      states.set(name, state)
      for (const watcher of watchers) if (watcher.name === name) watcher.writer.send(encodeState(state))
    },
  }
}

const MALFORMED: Status = status('invalidArgument', 'malformed HealthCheckRequest')

/** HealthCheckResponse: `status` #1. */
function encodeState(state: number): Uint8Array {
  return Uint8Array.of(0x08, state)
}

/** HealthCheckRequest: `service` #1. Names here are short: one length byte. Null when it is anything else. */
function readName(bytes: Uint8Array, start: number, end: number): string | null {
  if (start === end) return ''
  const length = bytes[start + 1]
  if (bytes[start] !== 0x0a || length === undefined || length > 127 || start + 2 + length !== end) return null
  return Buffer.from(bytes.buffer, bytes.byteOffset + start + 2, length).toString('utf8')
}
