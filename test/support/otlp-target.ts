import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import { METHODS, type OtlpSignal } from '../../src/adapters/otlp/client.ts'
import type { Behaviour, ContractTarget } from './sink-contract.ts'

/** A target of OTLP over gRPC, by grpc-js: another implementation than the one that receives in Sidecast. */
export interface OtlpTarget extends ContractTarget {
  /** `127.0.0.1:port`; the same after `away`. */
  readonly address: string
  /** What it said yes to, in order. */
  readonly accepted: readonly { readonly signal: OtlpSignal; readonly bytes: Buffer; readonly metadata: Metadata }[]
  /** Every call, also those that it failed. */
  readonly calls: Readonly<Record<OtlpSignal, number>>
  /** Decides each answer from now on, in place of a behaviour. */
  answer(by: (call: TargetCall) => TargetAnswer | Promise<TargetAnswer>): void
}

export interface TargetCall {
  readonly signal: OtlpSignal
  readonly bytes: Buffer
  readonly metadata: Metadata
}
export type TargetAnswer =
  | { readonly response: Buffer }
  | { readonly code: number; readonly details?: string; readonly trailers?: Readonly<Record<string, string | Buffer>> }
  | 'nothing'

const EMPTY = Buffer.alloc(0)
const ANSWERS: Readonly<Record<Exclude<Behaviour, 'away'>, () => Promise<TargetAnswer>>> = {
  accept: async () => ({ response: EMPTY }),
  retry: async () => ({ code: status.UNAVAILABLE, details: 'not now' }),
  reject: async () => ({ code: status.INVALID_ARGUMENT, details: 'never' }),
  slow: () => new Promise((resolve) => setTimeout(() => resolve({ response: EMPTY }), 200)),
  hang: async () => 'nothing',
}

export interface OtlpTargetOptions {
  /** What `taken` counts. */
  readonly count?: (accepted: OtlpTarget['accepted']) => number
  readonly credentials?: ServerCredentials
  /** Bytes of a message that the server takes: gRPC's own limit. */
  readonly messageMax?: number
}

export async function startOtlpTarget(options: OtlpTargetOptions = {}): Promise<OtlpTarget> {
  const {
    count = (accepted) => accepted.length,
    credentials = ServerCredentials.createInsecure(),
    messageMax,
  } = options
  const accepted: { signal: OtlpSignal; bytes: Buffer; metadata: Metadata }[] = []
  const calls = { traces: 0, metrics: 0, logs: 0 }
  let decide: (call: TargetCall) => TargetAnswer | Promise<TargetAnswer> = ANSWERS.accept
  let server: Server | null = null
  let port = 0

  const listen = async (): Promise<void> => {
    const next = new Server({ 'grpc.max_receive_message_length': messageMax ?? -1 })
    for (const [signal, path] of Object.entries(METHODS) as [OtlpSignal, string][]) {
      const bytes = (value: Buffer) => value
      next.addService(
        {
          Export: {
            path,
            requestStream: false,
            responseStream: false,
            requestSerialize: bytes,
            requestDeserialize: bytes,
            responseSerialize: bytes,
            responseDeserialize: bytes,
          },
        },
        {
          Export: async (
            call: { request: Buffer; metadata: Metadata },
            callback: (error: object | null, value?: Buffer) => void,
          ) => {
            calls[signal]++
            const got = { signal, bytes: call.request, metadata: call.metadata }
            const answer = await decide(got)
            if (answer === 'nothing') return
            if ('response' in answer) {
              accepted.push(got)
              callback(null, answer.response)
              return
            }
            const metadata = new Metadata()
            for (const [name, value] of Object.entries(answer.trailers ?? {})) metadata.set(name, value)
            callback({ code: answer.code, details: answer.details ?? '', metadata })
          },
        },
      )
    }
    port = await new Promise<number>((resolve, reject) => {
      next.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      )
    })
    server = next
  }
  await listen()
  return {
    get address() {
      return `127.0.0.1:${port}`
    },
    accepted,
    calls,
    taken: () => count(accepted),
    answer(by) {
      decide = by
    },
    async behave(how) {
      if (how === 'away') {
        server?.forceShutdown()
        server = null
        return
      }
      decide = ANSWERS[how]
      if (server === null) await listen()
    },
    async close() {
      server?.forceShutdown()
      server = null
    },
  }
}
