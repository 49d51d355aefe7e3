import type { AccessEntry } from '../../entry/entry.ts'

/**
 * One function for each field that an operator sets, written out: an assignment by a name that is only known at run time
 * costs ten times as much, and there are twenty of them in a line.
 */

/** Texts. */
export const SET_TEXT = {
  method(entry: AccessEntry, value: string): void {
    entry.method = value
  },
  authority(entry: AccessEntry, value: string): void {
    entry.authority = value
  },
  scheme(entry: AccessEntry, value: string): void {
    entry.scheme = value
  },
  path(entry: AccessEntry, value: string): void {
    entry.path = value
  },
  originalPath(entry: AccessEntry, value: string): void {
    entry.originalPath = value
  },
  userAgent(entry: AccessEntry, value: string): void {
    entry.userAgent = value
  },
  referer(entry: AccessEntry, value: string): void {
    entry.referer = value
  },
  forwardedFor(entry: AccessEntry, value: string): void {
    entry.forwardedFor = value
  },
  requestId(entry: AccessEntry, value: string): void {
    entry.requestId = value
  },
  streamId(entry: AccessEntry, value: string): void {
    entry.streamId = value
  },
  route(entry: AccessEntry, value: string): void {
    entry.route = value
  },
  listener(entry: AccessEntry, value: string): void {
    entry.listener = value
  },
  responseCodeDetails(entry: AccessEntry, value: string): void {
    entry.responseCodeDetails = value
  },
  connectionTerminationDetails(entry: AccessEntry, value: string): void {
    entry.connectionTerminationDetails = value
  },
  upstreamTransportFailure(entry: AccessEntry, value: string): void {
    entry.upstreamTransportFailure = value
  },
  downstreamTransportFailure(entry: AccessEntry, value: string): void {
    entry.downstreamTransportFailure = value
  },
  sni(entry: AccessEntry, value: string): void {
    entry.sni = value
  },
  tlsVersion(entry: AccessEntry, value: string): void {
    entry.tlsVersion = value
  },
  tlsSession(entry: AccessEntry, value: string): void {
    entry.tlsSession = value
  },
  peerSan(entry: AccessEntry, value: string): void {
    entry.peerSan = value
  },
  peerSubject(entry: AccessEntry, value: string): void {
    entry.peerSubject = value
  },
  peerIssuer(entry: AccessEntry, value: string): void {
    entry.peerIssuer = value
  },
  localSan(entry: AccessEntry, value: string): void {
    entry.localSan = value
  },
  localSubject(entry: AccessEntry, value: string): void {
    entry.localSubject = value
  },
  ja3(entry: AccessEntry, value: string): void {
    entry.ja3 = value
  },
  pathTemplate(entry: AccessEntry, value: string): void {
    entry.pathTemplate = value
  },
  flags(entry: AccessEntry, value: string): void {
    entry.flags = value
  },
  upstreamCluster(entry: AccessEntry, value: string): void {
    entry.upstreamCluster = value
  },
}

/** Addresses. */
export const SET_ADDRESS = {
  upstreamHost(entry: AccessEntry, value: string): void {
    entry.upstreamHost = value
  },
  upstreamLocal(entry: AccessEntry, value: string): void {
    entry.upstreamLocal = value
  },
  downstreamRemote(entry: AccessEntry, value: string): void {
    entry.downstreamRemote = value
  },
  downstreamDirect(entry: AccessEntry, value: string): void {
    entry.downstreamDirect = value
  },
  downstreamLocal(entry: AccessEntry, value: string): void {
    entry.downstreamLocal = value
  },
}

/** Counts. */
export const SET_COUNT = {
  requestBodyBytes(entry: AccessEntry, value: number): void {
    entry.requestBodyBytes = value
  },
  responseBodyBytes(entry: AccessEntry, value: number): void {
    entry.responseBodyBytes = value
  },
  requestHeadersBytes(entry: AccessEntry, value: number): void {
    entry.requestHeadersBytes = value
  },
  responseHeadersBytes(entry: AccessEntry, value: number): void {
    entry.responseHeadersBytes = value
  },
  upstreamWireSent(entry: AccessEntry, value: number): void {
    entry.upstreamWireSent = value
  },
  upstreamWireReceived(entry: AccessEntry, value: number): void {
    entry.upstreamWireReceived = value
  },
  upstreamHeaderSent(entry: AccessEntry, value: number): void {
    entry.upstreamHeaderSent = value
  },
  upstreamHeaderReceived(entry: AccessEntry, value: number): void {
    entry.upstreamHeaderReceived = value
  },
  downstreamWireSent(entry: AccessEntry, value: number): void {
    entry.downstreamWireSent = value
  },
  downstreamWireReceived(entry: AccessEntry, value: number): void {
    entry.downstreamWireReceived = value
  },
  downstreamHeaderSent(entry: AccessEntry, value: number): void {
    entry.downstreamHeaderSent = value
  },
  downstreamHeaderReceived(entry: AccessEntry, value: number): void {
    entry.downstreamHeaderReceived = value
  },
  attempts(entry: AccessEntry, value: number): void {
    entry.attempts = value
  },
  code(entry: AccessEntry, value: number): void {
    entry.code = value
  },
  grpcStatus(entry: AccessEntry, value: number): void {
    entry.grpcStatus = value
  },
}

/** The duration and the points, ns. */
export const SET_NS = {
  durationNs(entry: AccessEntry, value: number): void {
    entry.durationNs = value
  },
  rxEndNs(entry: AccessEntry, value: number): void {
    entry.rxEndNs = value
  },
  upTxBeginNs(entry: AccessEntry, value: number): void {
    entry.upTxBeginNs = value
  },
  upTxEndNs(entry: AccessEntry, value: number): void {
    entry.upTxEndNs = value
  },
  upRxBeginNs(entry: AccessEntry, value: number): void {
    entry.upRxBeginNs = value
  },
  upRxEndNs(entry: AccessEntry, value: number): void {
    entry.upRxEndNs = value
  },
  downTxBeginNs(entry: AccessEntry, value: number): void {
    entry.downTxBeginNs = value
  },
  downTxEndNs(entry: AccessEntry, value: number): void {
    entry.downTxEndNs = value
  },
}
