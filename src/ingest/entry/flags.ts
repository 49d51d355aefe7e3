import { FLAGS } from '../../model/schema.ts'

/** Response flags as they are encoded: the body of `ResponseFlags`, and what has no field there. */
export interface EncodedFlags {
  /** Serialized `ResponseFlags`; empty when there is none. */
  readonly message: Uint8Array
  /** Bits of DO and UDO. */
  readonly bits: number
  /** Flags that have no bit, joined with commas. */
  readonly text: string
}

/** Combinations remembered. There are a few dozen in life; a hostile sender may make up any number. */
const KNOWN_MAX = 1024
const TEXT_MAX = 256
/** Fields 1 to 28 of `ResponseFlags`; bit k is field k + 1. */
const FIELDS = 28
const UAEX = FLAGS.indexOf('UAEX')

/** Long names, as `%RESPONSE_FLAGS_LONG%` prints them (Envoy, `stream_info/utility.h`). */
const LONG_NAMES: Readonly<Record<string, string>> = {
  FailedLocalHealthCheck: 'LH',
  NoHealthyUpstream: 'UH',
  UpstreamRequestTimeout: 'UT',
  LocalReset: 'LR',
  UpstreamRemoteReset: 'UR',
  UpstreamConnectionFailure: 'UF',
  UpstreamConnectionTermination: 'UC',
  UpstreamOverflow: 'UO',
  NoRouteFound: 'NR',
  DelayInjected: 'DI',
  FaultInjected: 'FI',
  RateLimited: 'RL',
  UnauthorizedExternalService: 'UAEX',
  RateLimitServiceError: 'RLSE',
  DownstreamConnectionTermination: 'DC',
  UpstreamRetryLimitExceeded: 'URX',
  StreamIdleTimeout: 'SI',
  InvalidEnvoyRequestHeaders: 'IH',
  DownstreamProtocolError: 'DPE',
  UpstreamMaxStreamDurationReached: 'UMSDR',
  ResponseFromCacheFilter: 'RFCF',
  NoFilterConfigFound: 'NFCF',
  DurationTimeout: 'DT',
  UpstreamProtocolError: 'UPE',
  NoClusterFound: 'NC',
  OverloadManagerTerminated: 'OM',
  OverloadManager: 'OM',
  DnsResolutionFailed: 'DF',
  DownstreamRemoteReset: 'DR',
  DropOverLoad: 'DO',
  DropOverload: 'DO',
  UnconditionalDropOverload: 'UDO',
}

/** Reads `UF,URX` or `UpstreamConnectionFailure,UpstreamRetryLimitExceeded`; remembers combinations. */
export class FlagEncoder {
  readonly #known = new Map<string, EncodedFlags>()

  encode(text: string): EncodedFlags {
    const known = this.#known.get(text)
    if (known !== undefined) return known
    // A copy of its own: a part of a line would keep the line.
    const own = Buffer.from(text).toString()
    const encoded = encodeFlags(own)
    if (own.length > TEXT_MAX) return encoded
    if (this.#known.size >= KNOWN_MAX) this.#known.clear()
    this.#known.set(own, encoded)
    return encoded
  }
}

function encodeFlags(text: string): EncodedFlags {
  const bytes: number[] = []
  const set = new Set<number>()
  const others: string[] = []
  for (const part of text.split(',')) {
    const name = part.trim()
    if (name === '' || name === '-') continue
    const bit = (FLAGS as readonly string[]).indexOf(LONG_NAMES[name] ?? name)
    if (bit < 0) others.push(name)
    else set.add(bit)
  }
  let bits = 0
  for (const bit of [...set].sort((a, b) => a - b)) {
    if (bit >= FIELDS) bits |= 1 << bit
    // `unauthorized_details { reason: EXTERNAL_SERVICE }`: what Envoy always writes with this flag.
    else if (bit === UAEX) bytes.push(106, 2, 8, 1)
    else if (bit < 15) bytes.push((bit + 1) * 8, 1)
    else bytes.push((((bit + 1) * 8) & 127) | 128, ((bit + 1) * 8) >> 7, 1)
  }
  return { message: Uint8Array.from(bytes), bits, text: others.join(',') }
}
