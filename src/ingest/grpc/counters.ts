/** What the port has seen since it started. Plain numbers: read when a metric page or `status` is asked for. */
export interface GrpcCounters {
  connectionsOpen: number
  connectionsAccepted: number
  /** Over `connectionsMax`, or over the connections of one sender. */
  connectionsRefused: number
  /** By what they spoke instead of HTTP/2 with prior knowledge. */
  connectionsTls: number
  connectionsHttp1: number
  connectionsOther: number
  /** Closed without a byte: port checks. */
  connectionsEmpty: number
  /** No whole preface and SETTINGS in time. */
  connectionsSlow: number
  /** Two PINGs unanswered. */
  connectionsDead: number
  /** Ended by us because of their age. */
  connectionsAged: number
  /** Violations of HTTP/2, floods, broken sockets. */
  connectionsFailed: number
  streamsOpen: number
  streamsOpened: number
  /** Without a token that allows them. */
  streamsUnauthorized: number
  /** Over `streamsMax`, or over the streams of one sender. */
  streamsRefused: number
  /** Unknown service or method. */
  streamsUnimplemented: number
  /** Not gRPC: wrong method or content type. */
  streamsNotGrpc: number
  /** The client ended it with END_STREAM. */
  streamsEnded: number
  /** The client or its connection went away: the usual end when a proxy exits. */
  streamsCut: number
  /** A handler threw. A bug, contained. */
  streamsFailed: number
  messages: number
  messageBytes: number
  messagesTooLarge: number
  /** Bad framing or compression. */
  messagesMalformed: number
  /** Began and never ended, because the stream did. */
  messagesCut: number
  /** Streams whose unread bytes were given up, and those bytes. */
  streamsShed: number
  unreadBytesLost: number
  /** Times that a stream was held back: by a closed gate, its sender's bytes a second, or for its next turn. */
  pauses: number
  /** Those for its next turn: its sender had had its share of one. */
  turnsWaited: number
}

export function createGrpcCounters(): GrpcCounters {
  return {
    connectionsOpen: 0,
    connectionsAccepted: 0,
    connectionsRefused: 0,
    connectionsTls: 0,
    connectionsHttp1: 0,
    connectionsOther: 0,
    connectionsEmpty: 0,
    connectionsSlow: 0,
    connectionsDead: 0,
    connectionsAged: 0,
    connectionsFailed: 0,
    streamsOpen: 0,
    streamsOpened: 0,
    streamsUnauthorized: 0,
    streamsRefused: 0,
    streamsUnimplemented: 0,
    streamsNotGrpc: 0,
    streamsEnded: 0,
    streamsCut: 0,
    streamsFailed: 0,
    messages: 0,
    messageBytes: 0,
    messagesTooLarge: 0,
    messagesMalformed: 0,
    messagesCut: 0,
    streamsShed: 0,
    unreadBytesLost: 0,
    pauses: 0,
    turnsWaited: 0,
  }
}
