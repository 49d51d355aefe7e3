import { CLASSES, FLAGS, type Flag, OUTCOMES, type RequestOutcome, type ResponseClass } from './schema.ts'

/**
 * Who made the answer, and what kind of answer it was, from what an access log says. A missing or 0 code is never a
 * success, and neither is an answer that broke after its headers.
 *
 * `response_code_details` says what the proxy did (Envoy, `stream_info.h`, `ResponseCodeDetailValues`); it is read once
 * per distinct text and batch (`detailsKind`), flags and codes are looked at per row.
 */

/** Kinds of `response_code_details`, the low bits of what `detailsKind` returns. */
export const DETAILS_NONE = 0
/** The service's own answer. */
export const DETAILS_UPSTREAM = 1
/** The service's answer, broken off by the service or its connection. */
export const DETAILS_BROKEN = 2
/** The client left. */
export const DETAILS_CLIENT = 3
/** The proxy ended the request, perhaps after the headers of an answer had passed. */
export const DETAILS_CUT = 4
/** The proxy's own answer. */
export const DETAILS_LOCAL = 5
const DETAILS_MASK = 7

export const flagBit = (flag: Flag): number => 1 << FLAGS.indexOf(flag)
const bits = (...flags: Flag[]): number => flags.reduce((set, flag) => set | flagBit(flag), 0)

/** DO and UDO have no field in ALS: the details tell. They are bits of `detailsKind`, in their place of the flags. */
export const DETAILS_FLAGS = bits('DO', 'UDO')

const DETAILS_KINDS: Readonly<Record<string, number>> = {
  '': DETAILS_NONE,
  via_upstream: DETAILS_UPSTREAM,
  upstream_reset_after_response_started: DETAILS_BROKEN,
  downstream_remote_disconnect: DETAILS_CLIENT,
  'http1.remote_reset': DETAILS_CLIENT,
  'http2.remote_reset': DETAILS_CLIENT,
  'http3.remote_reset': DETAILS_CLIENT,
  downstream_local_disconnect: DETAILS_CUT,
  response_timeout: DETAILS_CUT,
  upstream_response_timeout: DETAILS_CUT,
  upstream_per_try_timeout: DETAILS_CUT,
  upstream_per_try_idle_timeout: DETAILS_CUT,
  upstream_max_stream_duration_reached: DETAILS_CUT,
  stream_idle_timeout: DETAILS_CUT,
  max_duration_timeout: DETAILS_CUT,
  request_overall_timeout: DETAILS_CUT,
  request_header_timeout: DETAILS_CUT,
  overload: DETAILS_CUT,
  drop_overload: DETAILS_LOCAL | flagBit('DO'),
  unconditional_drop_overload: DETAILS_LOCAL | flagBit('UDO'),
}

/** What a `response_code_details` means. Braces and brackets hold the particulars and are not looked at. */
export function detailsKind(details: string): number {
  const name = details.match(/^[^{([]*/)![0]
  return Object.hasOwn(DETAILS_KINDS, name) ? DETAILS_KINDS[name]! : DETAILS_LOCAL
}

const LEFT = bits('DC', 'DR')
/** The request was refused: with a code below 400 it is still the client's error. */
const REFUSED = bits('UAEX', 'RL', 'IH', 'DPE', 'NR')
/** Something behind or in the proxy failed. gRPC callers get 200 for most of these. */
const FAILED = bits(
  'LH',
  'UH',
  'UT',
  'LR',
  'UR',
  'UF',
  'UC',
  'UO',
  'FI',
  'RLSE',
  'SI',
  'UMSDR',
  'NFCF',
  'UPE',
  'NC',
  'OM',
  'DF',
  'DO',
  'UDO',
)
const RETRIES_EXHAUSTED = bits('URX')
const DURATION_TIMEOUT = bits('DT')
/** The proxy acted. These alone say so where there are no details. */
const PROXY = FAILED | REFUSED | DURATION_TIMEOUT | bits('RFCF')

const UNKNOWN = 0
const SUCCESS = 1
const CLIENT_ERROR = 2
const SERVER_ERROR = 3
const ABORTED = 4

const BY_UNKNOWN = 0
const BY_UPSTREAM = 8
const BY_PROXY = 16
const BY_CLIENT = 24
const UNFINISHED = 32

/** Class of a gRPC status: server errors as in OpenTelemetry's conventions for servers; CANCELLED means the caller left. */
const GRPC_CLASS = new Uint8Array(256).fill(SERVER_ERROR)
GRPC_CLASS[0] = SUCCESS
GRPC_CLASS[1] = ABORTED
for (const status of [3, 5, 6, 7, 8, 9, 10, 11, 16]) GRPC_CLASS[status] = CLIENT_ERROR

/**
 * Outcome and class of one row as one number; `outcomeOf` and `classOf` take it apart.
 *
 * `code` and `grpcStatus` are −1 when missing. `flags` includes the bits of the details. `details` is what `detailsKind`
 * said. `finished`: the row is an end, not a start or an interval. `http`: not a bare connection. `answered`: bytes of a
 * response came from the upstream.
 */
export function classify(
  code: number,
  flags: number,
  grpcStatus: number,
  details: number,
  finished: boolean,
  http: boolean,
  answered: boolean,
): number {
  if (!finished) return UNFINISHED | UNKNOWN
  const kind = details & DETAILS_MASK
  if (code === 200 && flags === 0 && kind === DETAILS_UPSTREAM && grpcStatus <= 0) return BY_UPSTREAM | SUCCESS
  if (!http && code <= 0) return connection(flags)
  if (code <= 0) return withoutCode(flags, kind)

  let by: number
  if ((flags & LEFT) !== 0 || kind === DETAILS_CLIENT || code === 499) by = BY_CLIENT
  else if (kind === DETAILS_UPSTREAM || kind === DETAILS_BROKEN) by = BY_UPSTREAM
  else if (kind !== DETAILS_NONE || (flags & PROXY) !== 0 || !answered) by = BY_PROXY
  else by = BY_UPSTREAM

  let answer = code < 400 ? SUCCESS : code < 500 ? CLIENT_ERROR : code < 600 ? SERVER_ERROR : UNKNOWN
  if (code === 499) answer = ABORTED
  if (grpcStatus > 0) answer = GRPC_CLASS[grpcStatus & 255]!
  if (answer === SUCCESS) {
    if ((flags & FAILED) !== 0) answer = SERVER_ERROR
    else if ((flags & REFUSED) !== 0) answer = CLIENT_ERROR
    else if (by === BY_CLIENT) answer = ABORTED
    else if (kind === DETAILS_BROKEN || kind === DETAILS_CUT) answer = SERVER_ERROR
    else if ((flags & RETRIES_EXHAUSTED) !== 0 && kind !== DETAILS_UPSTREAM && grpcStatus < 0) answer = SERVER_ERROR
  }
  return by | answer
}

/**
 * Of sources that cannot say whether the service answered, such as a line with nothing but a code: as `classify`, but
 * unknown where the absence of an answer from upstream alone would make it the proxy's own. A request without so much as
 * a code is unknown altogether.
 */
export function classifyUntold(
  code: number,
  flags: number,
  grpcStatus: number,
  details: number,
  finished: boolean,
  http: boolean,
): number {
  const kind = details & DETAILS_MASK
  if (finished && http && code < 0 && flags === 0 && kind === DETAILS_NONE && grpcStatus < 0)
    return BY_UNKNOWN | UNKNOWN
  const classified = classify(code, flags, grpcStatus, details, finished, http, true)
  return kind === DETAILS_NONE && classified >> 3 === BY_UPSTREAM >> 3 ? BY_UNKNOWN | classOf(classified) : classified
}

/** HTTP without a code: nothing was sent, so the client left, unless a flag says that the proxy gave up first. */
function withoutCode(flags: number, kind: number): number {
  if ((flags & LEFT) !== 0 || kind === DETAILS_CLIENT) return BY_CLIENT | ABORTED
  if ((flags & REFUSED) !== 0) return BY_PROXY | CLIENT_ERROR
  if ((flags & (FAILED | RETRIES_EXHAUSTED)) !== 0) return BY_PROXY | SERVER_ERROR
  if ((flags & DURATION_TIMEOUT) !== 0) return BY_PROXY | ABORTED
  return BY_CLIENT | ABORTED
}

/** TCP and UDP have no code: only a failure can be told. */
function connection(flags: number): number {
  if ((flags & REFUSED) !== 0) return BY_PROXY | CLIENT_ERROR
  if ((flags & (FAILED | RETRIES_EXHAUSTED)) !== 0) return BY_PROXY | SERVER_ERROR
  if ((flags & LEFT) !== 0) return BY_CLIENT | ABORTED
  if ((flags & DURATION_TIMEOUT) !== 0) return BY_PROXY | ABORTED
  return BY_UNKNOWN | UNKNOWN
}

/** Index into `OUTCOMES` and `CLASSES`. */
export const outcomeOf = (classified: number): number => classified >> 3
export const classOf = (classified: number): number => classified & 7

export const outcomeText = (classified: number): RequestOutcome => OUTCOMES[outcomeOf(classified)]!
export const classText = (classified: number): ResponseClass => CLASSES[classOf(classified)]!
