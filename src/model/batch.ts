import type { GrpcMessages } from './grpc-messages.ts'
import type { RowTable } from './schema.ts'

/**
 * What flows: a set of columns with the same number of rows. A batch is decoded straight from wire bytes into typed
 * arrays; there is no object per row. A sealed batch is immutable, and valid only until its builder is reset: whoever
 * wants to keep something copies it. Everything that takes a batch takes it synchronously.
 */
export interface Batch {
  readonly table: RowTable
  readonly rows: number
  /** Proxies (streams) that rows of this batch come from; `stream[i]` indexes it. */
  readonly streams: readonly Origin[]
  /** Who talked to whom; `identity[i]` indexes it. */
  readonly identities: readonly Identity[]

  readonly stream: Uint16Array
  readonly identity: Uint16Array
  /** End of the request: Unix seconds and the nanoseconds within the second. */
  readonly endSeconds: Uint32Array
  readonly endNanos: Uint32Array
  /** ns; the last known point where the source has no duration. Always ≥ 0. */
  readonly duration: Float64Array
  /** The seven time points in the order of `POINTS`; ns after the start, −1 when missing. */
  readonly points: readonly Float64Array[]
  /** HTTP status, −1 when missing. */
  readonly code: Int32Array
  /** gRPC status, −1 when missing. */
  readonly grpcStatus: Int16Array
  /** Flags, bits 0 to 29. */
  readonly flags: Uint32Array
  /** Index into `CLASSES` and `OUTCOMES`. */
  readonly responseClass: Uint8Array
  readonly outcome: Uint8Array
  readonly attempts: Uint32Array
  /** Wire bytes of the downstream connection: what Istio calls request and response bytes. */
  readonly downstreamReceived: Float64Array
  readonly downstreamSent: Float64Array
  /** Index into `KINDS`: 0 http, 1 tcp, 2 udp. */
  readonly kind: Uint8Array
  /** 1 when the downstream connection was TLS with a verified peer certificate (mutual). */
  readonly mutualTls: Uint8Array
  /** 1 for rows that do not count: their proxy told the same request in a better way. Null when all count. */
  readonly secondary: Uint8Array | null

  /** A dictionary column: one code per row, and the dictionary of this batch. */
  column(name: DictionaryColumn): { readonly codes: Uint16Array; readonly dictionary: DictionaryView }

  /** The trace id of a row as 32 hex digits, '' when it has none. Builds a string: for exemplars, not for every row. */
  traceId(row: number): string

  /** gRPC messages of each row where the proxy told them; null where it told of none. Made anew at each call. */
  grpcMessages(): GrpcMessages | null

  /** The batch as one ClickHouse Native block of its table, `segment` as the value of that column. */
  encode(segment: string): NativeBlock
}

export const KINDS = ['http', 'tcp', 'udp'] as const

/** Dictionary columns that others than the encoder read. Code 0 is always the empty string. */
export type DictionaryColumn =
  | 'route'
  | 'method'
  | 'upstream_cluster'
  | 'authority'
  | 'response_code_details'
  | 'protocol'

export interface DictionaryView {
  /** Number of codes; valid codes are 0 … count − 1. */
  readonly count: number
  /** Text of a code. Makes a string: call it once per distinct value and batch, never per row. */
  text(code: number): string
}

/** One Native block, as buffers that are valid until the builder is reset. Write them with one `writev`. */
export interface NativeBlock {
  readonly buffers: readonly Uint8Array[]
  readonly rows: number
  /** Rows by day of `end_time` (days since the epoch): one entry per partition of the store. */
  readonly days: ReadonlyMap<number, number>
  /** Rows by node id, for the ledger. */
  readonly nodes: ReadonlyMap<string, number>
}

/** What is constant on one stream of one proxy. One object per stream; compared by reference. */
export interface Origin {
  readonly source: 'als' | 'otlp' | 'json' | 'text' | 'kafka'
  readonly nodeId: string
  readonly nodeCluster: string
  readonly mesh: string
  readonly region: string
  readonly zone: string
  readonly subZone: string
  readonly envoyVersion: string
  /** Of Istio's proxies: `ISTIO_VERSION` of their metadata. */
  readonly istioVersion?: string
  readonly logName: string
  /** 1 for ALS, 1 000 000 for sources in ms. */
  readonly precisionNs: number
  /** What the node says of its own workload; empty strings where it says nothing. */
  readonly self: Party
  readonly nodeType: 'sidecar' | 'router' | 'waypoint' | 'ztunnel' | 'unknown'
}

/** One side of a request. Empty string: not known. */
export interface Party {
  readonly workload: string
  readonly namespace: string
  readonly service: string
  readonly version: string
  readonly principal: string
  /** Istio's `app` and `cluster` labels; empty outside Istio. */
  readonly app: string
  readonly cluster: string
}

/** Who talked to whom, resolved once per distinct combination, not per row. One object per combination. */
export interface Identity {
  /** Grows for the life of the process; equal texts can come with two ids after a cache was emptied. */
  readonly id: number
  readonly mesh: string
  readonly reporter: 'source' | 'destination' | 'gateway' | 'waypoint' | 'unknown'
  readonly source: Party
  readonly destination: Party
  /** Host name behind `destination.service`, where one is known (Istio's `destination_service` label). */
  readonly destinationHost: string
}

/** What an identity is resolved from. Texts come from dictionaries, peers as the raw bytes of the `Any`. */
export interface IdentityInput {
  readonly origin: Origin
  readonly cluster: string
  readonly route: string
  readonly authority: string
  readonly sni: string
  readonly peerSan: string
  readonly localSan: string
  /** `filter_state_objects` values: the serialized `google.protobuf.Any`; null when absent. */
  readonly downstreamPeer: Uint8Array | null
  readonly upstreamPeer: Uint8Array | null
}

export interface IdentityResolver {
  /** Never throws: what cannot be read counts as absent. Called once per distinct input and batch. */
  resolve(input: IdentityInput): Identity
  /**
   * Whether rows of this cluster need `authority` and `route` (bit 0) or `sni` (bit 1) to be told apart. Lets the
   * decoder leave them out of the key where the cluster alone names the destination.
   */
  needs(origin: Origin, cluster: string): number
}
