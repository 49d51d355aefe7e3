import type { Origin } from '../../model/batch.ts'

/**
 * One access log entry, whatever protocol brought it: everything that a row can have, as a receiver knows it.
 *
 * There is one object of this class for each writer. A receiver sets what the entry has and calls `writer.add(origin)`,
 * which reads it and makes it empty again. Nothing in it is redacted, cut or classified: the decoder behind the writer
 * does that, the same way for every protocol.
 *
 * Absent is `''` for texts, −1 for numbers where 0 means something, 0 for counts. `-`, as Envoy prints what is missing,
 * is a text like any other here: readers of log lines must not set it.
 */
export class AccessEntry {
  /** A connection (TCP, UDP) and not an HTTP request. */
  tcp = false
  /** Number of the `AccessLogType`; 0: not set, the final entry of a request or a connection. */
  type = 0
  /** An entry of a stream that was not complete. */
  intermediate = false

  /** When it began: Unix seconds and the nanoseconds within. 0 and 0: not known. */
  startSeconds = 0
  startNanos = 0
  /** When it ended, for sources that say this instead; read only where there is no start. */
  endSeconds = 0
  endNanos = 0
  /** ns. */
  durationNs = -1
  /** The seven time points, ns after the start. */
  rxEndNs = -1
  upTxBeginNs = -1
  upTxEndNs = -1
  upRxBeginNs = -1
  upRxEndNs = -1
  downTxBeginNs = -1
  downTxEndNs = -1

  /** HTTP status; 0 or less: nothing was sent to the client. */
  code = -1
  /** gRPC status, where a source says it outside of headers and trailers. */
  grpcStatus = -1
  /** Short names of response flags joined with commas, as Envoy prints them: `UF,URX`. Names that are not known are kept. */
  flags = ''
  responseCodeDetails = ''
  connectionTerminationDetails = ''
  upstreamTransportFailure = ''
  downstreamTransportFailure = ''
  /** Attempts at the upstream; 0: none. */
  attempts = 0
  /** An answer came from the upstream. For sources that have neither response code details nor the point of its first byte. */
  answered = false
  /** The source has no way to say whether the service or the proxy answered: neither details, nor points, nor `answered`. */
  untold = false

  /** Any method; one that ALS has no number for is kept as the request header `:method`. */
  method = ''
  /** `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`, `HTTP/3`. */
  protocol = ''
  scheme = ''
  authority = ''
  /** With the query. */
  path = ''
  /** The client's path, where a rewrite changed it. */
  originalPath = ''
  pathTemplate = ''
  userAgent = ''
  referer = ''
  forwardedFor = ''
  requestId = ''
  /** Unique id of the stream; TCP: of the connection. */
  streamId = ''
  /** 32 (or 16) hex digits. */
  traceId = ''
  /** 16 hex digits. */
  spanId = ''

  route = ''
  listener = ''
  upstreamCluster = ''
  /** `ip:port`, `[ip]:port`, `ip`, the path of a pipe, or `envoy://listener/endpoint`. */
  upstreamHost = ''
  upstreamLocal = ''
  downstreamRemote = ''
  downstreamDirect = ''
  downstreamLocal = ''

  /** Bytes. TCP: `requestBodyBytes` is received from the client, `responseBodyBytes` sent to it. */
  requestHeadersBytes = 0
  requestBodyBytes = 0
  responseHeadersBytes = 0
  responseBodyBytes = 0
  downstreamWireReceived = 0
  downstreamWireSent = 0
  upstreamWireReceived = 0
  upstreamWireSent = 0
  downstreamHeaderReceived = 0
  downstreamHeaderSent = 0
  upstreamHeaderReceived = 0
  upstreamHeaderSent = 0

  /** `TLSv1.2`, `TLSv1.3` … */
  tlsVersion = ''
  /** IANA number of the cipher suite; 0: none. `tlsCipherNumber` has it by name. */
  tlsCipher = 0
  sni = ''
  ja3 = ''
  tlsSession = ''
  /** URI SANs, joined with commas. */
  peerSan = ''
  peerSubject = ''
  peerIssuer = ''
  localSan = ''
  localSubject = ''
  localIssuer = ''

  /** Header names are lower case. */
  readonly requestHeaders = new Pairs()
  readonly responseHeaders = new Pairs()
  readonly responseTrailers = new Pairs()
  readonly customTags = new Pairs()
  /** Filter state objects: key and JSON text. Istio's `downstream_peer` and `upstream_peer` name the peers. */
  readonly filterState = new Pairs()
  /** Dynamic metadata as the JSON text of an object: namespace → Struct. */
  metadata = ''

  /** What the source itself says of the two ends; it goes before everything that is worked out. */
  readonly source = new EntryParty()
  readonly destination = new EntryParty()
  /** Which side wrote the entry, where the source says so: `source`, `destination`, `gateway`, `waypoint`. */
  reporter: EntryReporter = ''

  /** Makes it empty. */
  reset(): void {
    this.tcp = false
    this.type = 0
    this.intermediate = false
    this.startSeconds = 0
    this.startNanos = 0
    this.endSeconds = 0
    this.endNanos = 0
    this.durationNs = -1
    this.rxEndNs = -1
    this.upTxBeginNs = -1
    this.upTxEndNs = -1
    this.upRxBeginNs = -1
    this.upRxEndNs = -1
    this.downTxBeginNs = -1
    this.downTxEndNs = -1
    this.code = -1
    this.grpcStatus = -1
    this.flags = ''
    this.responseCodeDetails = ''
    this.connectionTerminationDetails = ''
    this.upstreamTransportFailure = ''
    this.downstreamTransportFailure = ''
    this.attempts = 0
    this.answered = false
    this.untold = false
    this.method = ''
    this.protocol = ''
    this.scheme = ''
    this.authority = ''
    this.path = ''
    this.originalPath = ''
    this.pathTemplate = ''
    this.userAgent = ''
    this.referer = ''
    this.forwardedFor = ''
    this.requestId = ''
    this.streamId = ''
    this.traceId = ''
    this.spanId = ''
    this.route = ''
    this.listener = ''
    this.upstreamCluster = ''
    this.upstreamHost = ''
    this.upstreamLocal = ''
    this.downstreamRemote = ''
    this.downstreamDirect = ''
    this.downstreamLocal = ''
    this.requestHeadersBytes = 0
    this.requestBodyBytes = 0
    this.responseHeadersBytes = 0
    this.responseBodyBytes = 0
    this.downstreamWireReceived = 0
    this.downstreamWireSent = 0
    this.upstreamWireReceived = 0
    this.upstreamWireSent = 0
    this.downstreamHeaderReceived = 0
    this.downstreamHeaderSent = 0
    this.upstreamHeaderReceived = 0
    this.upstreamHeaderSent = 0
    this.tlsVersion = ''
    this.tlsCipher = 0
    this.sni = ''
    this.ja3 = ''
    this.tlsSession = ''
    this.peerSan = ''
    this.peerSubject = ''
    this.peerIssuer = ''
    this.localSan = ''
    this.localSubject = ''
    this.localIssuer = ''
    this.requestHeaders.count = 0
    this.responseHeaders.count = 0
    this.responseTrailers.count = 0
    this.customTags.count = 0
    this.filterState.count = 0
    this.metadata = ''
    if (this.source.known) this.source.reset()
    if (this.destination.known) this.destination.reset()
    this.reporter = ''
  }
}

export type EntryReporter = '' | 'source' | 'destination' | 'gateway' | 'waypoint'

/** Names with texts, in order. The arrays are kept from entry to entry; `count` of them counts. */
export class Pairs {
  count = 0
  readonly names: string[] = []
  readonly values: string[] = []

  add(name: string, value: string): void {
    this.names[this.count] = name
    this.values[this.count++] = value
  }
}

/** One end of a request, as a source names it. Empty: it does not say. Set with `set`, which notes that something is known. */
export class EntryParty {
  known = false
  workload = ''
  namespace = ''
  service = ''
  version = ''
  /** A SPIFFE id, with or without `spiffe://`. */
  principal = ''
  app = ''
  cluster = ''

  set(field: PartyField, value: string): void {
    if (value === '') return
    this.known = true
    this[field] = value
  }

  reset(): void {
    this.known = false
    this.workload = ''
    this.namespace = ''
    this.service = ''
    this.version = ''
    this.principal = ''
    this.app = ''
    this.cluster = ''
  }
}

export type PartyField = 'workload' | 'namespace' | 'service' | 'version' | 'principal' | 'app' | 'cluster'

/**
 * How every receiver but ALS makes rows: it fills `entry`, calls `add`, and after a chunk of its input `commit`.
 *
 *     entry ─ add(origin) ─► buffer of ALS messages ─ full, or commit() ─► AlsDecoder ─► builders ─ full ─► flush
 *
 * Entries leave in the order they were added. While the journal takes nothing (`flush` said no), everything stays in the
 * buffer, exactly where the decoder stopped: nothing is lost and nothing doubled, and the next `commit` goes on there. A
 * receiver then stops reading until the gate opens; `pending` says how much waits.
 */
export interface EntryWriter {
  /** To be filled by the receiver; empty after every `add`. */
  readonly entry: AccessEntry
  /**
   * Takes over what `entry` holds, as a row of this sender. Origins are compared by reference: one object per sender.
   * False, and the entry is counted as rejected (`no_room`), when more waits than the writer may hold: the receiver did
   * not stop reading while the gate was closed.
   */
  add(origin: Origin): boolean
  /** Makes rows of everything added. What happened since the last commit; one object, valid until the next one. */
  commit(): Readonly<CommitResult>
  /** Entries added that are not rows yet. Above 0 after a commit: the gate is closed. */
  readonly pending: number
  /** Entries taken over since the beginning; those refused at once, for their size, are not among them. */
  readonly added: number
  /**
   * Of these, in the same order, how many have become rows or been rejected. Exact whenever `flush` is called, in the middle
   * of a commit too: a receiver that can read its source again knows by it what the builders hold.
   */
  readonly taken: number
}

export interface CommitResult {
  /** Rows by table. */
  requests: number
  attempts: number
  progress: number
  connections: number
  /** Sum of the four. */
  added: number
  /** Entries refused, and why. */
  rejected: number
  readonly reasons: Map<string, number>
  /** Strings cut, map entries and nested values left out because of limits. */
  cut: number
  /** Rows without a usable time: they end when they arrived. */
  untimed: number
  /** Entries that wait for the gate to open. */
  pending: number
}
