import { isIP } from 'node:net'
import { checkServerIdentity } from 'node:tls'
import type { ChannelCredentials, Client, Metadata, ServiceError } from '@grpc/grpc-js'
import type { ClientTls, ClientTlsOptions } from '../../lib/tls.ts'
import type { Endpoint } from '../../otlp/endpoint.ts'
import { answerOfFailure, answerOfResponse, type ExportAnswer } from './answer.ts'

/**
 * OTLP over gRPC: one channel to one target, for any of the three signals. Requests are bytes that are encoded already.
 * The library is loaded with the first request.
 */
export interface OtlpClient {
  /** One export, once: whoever calls decides on trying again. Never rejects. `signal` ends it as a retry. */
  export(signal: OtlpSignal, request: Uint8Array, abort: AbortSignal): Promise<ExportAnswer>
  /** Closes the channel; calls under way end. Safe to call twice. */
  close(): void
}

export type OtlpSignal = 'traces' | 'metrics' | 'logs'

export const METHODS: Readonly<Record<OtlpSignal, string>> = {
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
}

export interface OtlpClientOptions {
  readonly endpoint: Endpoint
  /** Sent with every request: keys of an API, tenants. */
  readonly headers: Readonly<Record<string, string>>
  readonly gzip: boolean
  /** Of one export. */
  readonly timeoutMs: number
  readonly userAgent: string
  /** Where the endpoint is `https`. */
  readonly tls: ClientTls
}

/** `grpc.default_compression_algorithm`. */
const GZIP = 2
/** An answer has nothing but a count and a message. OTLP's limit for clients. */
const ANSWER_BYTES_MAX = 4 << 20
/** A target that is back is found within this, whatever gRPC's own back-off (up to 2 min) would be. */
const RECONNECT_MS_MAX = 5000

export function createOtlpClient(options: OtlpClientOptions): OtlpClient {
  return new GrpcClient(options)
}

type Grpc = typeof import('@grpc/grpc-js')

class GrpcClient implements OtlpClient {
  readonly #options: OtlpClientOptions
  #channel: { readonly client: Client; readonly tls: ClientTlsOptions | null; readonly metadata: Metadata } | null =
    null
  #closed = false

  constructor(options: OtlpClientOptions) {
    this.#options = options
  }

  async export(signal: OtlpSignal, request: Uint8Array, abort: AbortSignal): Promise<ExportAnswer> {
    if (abort.aborted || this.#closed) return { status: 'retry', error: new Error('the export was stopped') }
    try {
      const { client, metadata } = this.#open(await import('@grpc/grpc-js'))
      return await this.#call(client, metadata, METHODS[signal], request, abort)
    } catch (error) {
      // Files of TLS that cannot be read.
      return { status: 'retry', error: error instanceof Error ? error : new Error(String(error)) }
    }
  }

  close(): void {
    this.#closed = true
    this.#channel?.client.close()
    this.#channel = null
  }

  /** The channel; a new one when the files of TLS have changed. Calls of the old one go on to their end. */
  #open(grpc: Grpc): { readonly client: Client; readonly metadata: Metadata } {
    const { endpoint, tls, gzip, userAgent, headers } = this.#options
    const files = endpoint.secure ? tls.options() : null
    if (this.#channel !== null && this.#channel.tls === files) return this.#channel
    this.#channel?.client.close()
    const metadata = new grpc.Metadata()
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value)
    const client = new grpc.Client(endpoint.target, credentialsOf(grpc, endpoint, files), {
      'grpc.primary_user_agent': userAgent,
      'grpc.max_receive_message_length': ANSWER_BYTES_MAX,
      'grpc.max_send_message_length': -1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': RECONNECT_MS_MAX,
      // Retries are ours: the library's own would count against no one's back-off.
      'grpc.enable_retries': 0,
      // A target behind a connection that died silently is noticed.
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 10_000,
      ...(gzip ? { 'grpc.default_compression_algorithm': GZIP } : {}),
    })
    this.#channel = { client, tls: files, metadata }
    return this.#channel
  }

  #call(
    client: Client,
    metadata: Metadata,
    method: string,
    request: Uint8Array,
    abort: AbortSignal,
  ): Promise<ExportAnswer> {
    const deadline = Date.now() + this.#options.timeoutMs
    return new Promise((resolve) => {
      const call = client.makeUnaryRequest(
        method,
        asBuffer,
        (bytes: Buffer) => bytes,
        request,
        metadata,
        { deadline },
        (error: ServiceError | null, response?: Buffer) => {
          abort.removeEventListener('abort', cancel)
          resolve(error === null ? answerOfResponse(response!) : answerOfFailure(failureOf(error)))
        },
      )
      const cancel = () => call.cancel()
      abort.addEventListener('abort', cancel, { once: true })
    })
  }
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

/** Where a target has an address alone: a name of TLS cannot be an address, and grpc-js would ask for it by one. */
const NO_NAME = 'address.invalid'

/** Credentials of a channel. `files` are null without TLS. */
export function credentialsOf(grpc: Grpc, { target }: Endpoint, files: ClientTlsOptions | null): ChannelCredentials {
  if (files === null) return grpc.credentials.createInsecure()
  const { ca, cert, key, checkServerIdentity: check = checkServerIdentity, rejectUnauthorized, servername = '' } = files
  const host = target.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  const credentials = grpc.credentials.createSsl(ca as Buffer | null, key as Buffer | null, cert as Buffer | null, {
    checkServerIdentity: (_, certificate) => check(servername || host, certificate),
    ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
  })
  const name = servername || (isIP(host) === 0 ? host : NO_NAME)
  // Here and not as an option of the channel, because OpenTelemetry's exporter takes credentials, but no options.
  const create = credentials._createSecureConnector.bind(credentials)
  credentials._createSecureConnector = (to, options, calls) =>
    create(to, { ...options, 'grpc.ssl_target_name_override': name }, calls)
  return credentials
}

function failureOf({ code, details, metadata }: ServiceError) {
  const binary = metadata?.get('grpc-status-details-bin')[0]
  const pushback = Number(metadata?.get('grpc-retry-pushback-ms')[0] ?? Number.NaN)
  const after = Number(metadata?.get('retry-after')[0] ?? Number.NaN) * 1000
  const retryAfterMs = pushback >= 0 ? pushback : after >= 0 ? after : undefined
  return {
    code,
    details,
    ...(binary instanceof Uint8Array ? { statusDetails: binary } : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  }
}
