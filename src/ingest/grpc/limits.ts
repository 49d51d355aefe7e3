/** Bounds of the gRPC port. */
export interface GrpcLimits {
  /** Largest message as it comes. MetricsService messages of a large proxy reach tens of MiB; Envoy's ALS sends 16 KiB. */
  readonly messageBytesMax: number
  /** Largest message after gunzip. Lower, since 1 KiB can become 1 MiB and inflating blocks all others. */
  readonly decompressedBytesMax: number
  /** All incomplete messages together. */
  readonly assemblyBytesMax: number
  readonly connectionsMax: number
  readonly streamsMax: number
  readonly streamsPerConnectionMax: number
  /**
   * Flow-control window of a stream: what one sender may have under way. 256 KiB at a round trip of 1 ms are 256 MB/s.
   * It is also what a stream can leave unread with us while the gate is closed.
   */
  readonly streamWindowBytes: number
  readonly connectionWindowBytes: number
  /** Bytes left unread over all streams while the gate is closed; past it the streams with most are cut off, counted. */
  readonly unreadBytesMax: number
  /** Bytes of one sender read in one turn of the event loop: about 2 000 entries of Envoy's, 5 ms. */
  readonly turnBytes: number
  /** Of one whom nobody is read beside, in this turn or the one before: for timers and answers alone, 40 ms. */
  readonly turnBytesAlone: number
  /** Calls held until the next turn; past it they are read as they come, for each holds a window of memory. */
  readonly turnCallsMax: number
  /** Request headers of one stream. */
  readonly headerBytesMax: number
  readonly headerPairsMax: number
  /** From accept to a whole preface and SETTINGS. */
  readonly handshakeMs: number
  /** A connection without a stream is told to go after this. */
  readonly idleConnectionMs: number
  /** How long a stream that we have ended is still read: what was under way then is not lost. */
  readonly lingerMs: number
}

export const GRPC_LIMITS: GrpcLimits = {
  messageBytesMax: 64 * 1024 * 1024,
  decompressedBytesMax: 16 * 1024 * 1024,
  assemblyBytesMax: 256 * 1024 * 1024,
  connectionsMax: 10_000,
  streamsMax: 20_000,
  streamsPerConnectionMax: 10_000,
  streamWindowBytes: 256 * 1024,
  connectionWindowBytes: 4 * 1024 * 1024,
  unreadBytesMax: 256 * 1024 * 1024,
  turnBytes: 1024 * 1024,
  turnBytesAlone: 8 * 1024 * 1024,
  turnCallsMax: 256,
  headerBytesMax: 16 * 1024,
  headerPairsMax: 100,
  handshakeMs: 10_000,
  idleConnectionMs: 5 * 60_000,
  lingerMs: 5_000,
}
