/**
 * What must not reach a disk: values of query strings, credentials in headers, and, when asked for, client addresses.
 * Decoders call this on wire bytes before anything is interned or written. Everything works on bytes; JavaScript
 * strings are made only where path rules are configured.
 */
export interface RedactionRules {
  /** `values`: `?a=1&b` becomes `?a=*&b`. `all`: everything after the `?` becomes `*`. `none`: kept as it is. */
  readonly query: 'values' | 'all' | 'none'
  /** Query keys whose values are kept under `values`. */
  readonly queryKeep: readonly string[]
  /** Headers, trailers, tags and metadata keys (in lower case) whose whole value becomes `*`. */
  readonly headers: readonly string[]
  /** Applied in order to the path of a URL, before the query rule. `pattern` is a JavaScript regular expression. */
  readonly paths: readonly { readonly pattern: string; readonly replace: string }[]
  /** Client addresses lose their host part: IPv4 to /24, IPv6 to /48. */
  readonly maskAddresses: boolean
}

export const REDACTION_DEFAULTS: RedactionRules = {
  query: 'values',
  queryKeep: [],
  headers: [
    'authorization',
    'proxy-authorization',
    'cookie',
    'set-cookie',
    'x-api-key',
    'api-key',
    'apikey',
    'x-auth-token',
    'x-access-token',
    'x-amz-security-token',
    'x-csrf-token',
    'x-xsrf-token',
    'x-goog-iap-jwt-assertion',
    'x-vault-token',
    'x-forwarded-client-cert',
  ],
  paths: [],
  maskAddresses: false,
}

/** What happens to the value that stands under a name. */
export const HEADER_KEEP = 0
export const HEADER_SECRET = 1
export const HEADER_URL = 2
export const HEADER_ADDRESS = 3

/** Headers whose value is a URL or a path, and so has a query string. */
const URL_HEADERS = new Set([
  ':path',
  'referer',
  'location',
  'content-location',
  'x-envoy-original-path',
  'x-original-url',
  'x-original-uri',
  'x-rewrite-url',
  'x-forwarded-uri',
  'x-forwarded-path',
])
const ADDRESS_HEADERS = new Set([
  'x-forwarded-for',
  'x-real-ip',
  'x-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'x-envoy-external-address',
  'forwarded',
])

export interface Redaction {
  readonly maskAddresses: boolean
  /** True when a URL without `?` and `#` is kept as it is, so that no call is needed for it. */
  readonly plainUrlsPass: boolean
  /** What to do with the value of a header, trailer, tag or metadata key; one of the `HEADER_…` constants. */
  header(name: string): number
  /**
   * Writes a URL or path without its secrets to `out[0 …]` and returns its length. `out` must hold twice the input and
   * `PATH_RULE_ROOM` more; a path rule's result is cut there.
   */
  url(bytes: Uint8Array, start: number, length: number, out: Uint8Array): number
  /** Writes a list of addresses with their host parts masked; same room as `url`. */
  addresses(bytes: Uint8Array, start: number, length: number, out: Uint8Array): number
}

export const PATH_RULE_ROOM = 1024

const QUESTION = 63
const HASH = 35
const EQUALS = 61
const AND = 38
const STAR = 42
const COMMA = 44
const SPACE = 32
const DOT = 46
const COLON = 58
const OPEN = 91
const CLOSE = 93
const ZERO = 48

/** Throws a `SyntaxError` when the pattern of a path rule is no regular expression: a bad start, found by config. */
export function createRedaction(rules: RedactionRules = REDACTION_DEFAULTS): Redaction {
  const secrets = new Set(rules.headers.map((name) => name.toLowerCase()))
  const kept = rules.queryKeep.map((key) => Buffer.from(key))
  const paths = rules.paths.map(({ pattern, replace }) => ({ pattern: new RegExp(pattern, 'gu'), replace }))
  return {
    maskAddresses: rules.maskAddresses,
    plainUrlsPass: paths.length === 0,
    header(name) {
      const lower = name.toLowerCase()
      if (secrets.has(lower)) return HEADER_SECRET
      if (URL_HEADERS.has(lower)) return HEADER_URL
      return rules.maskAddresses && ADDRESS_HEADERS.has(lower) ? HEADER_ADDRESS : HEADER_KEEP
    },
    url(bytes, start, length, out) {
      const end = start + length
      let cut = start
      while (cut < end && bytes[cut] !== QUESTION && bytes[cut] !== HASH) cut++
      const at = paths.length === 0 ? copy(bytes, start, cut, out, 0) : rulesApplied(paths, bytes, start, cut, out)
      if (cut === end) return at
      if (rules.query === 'none') return copy(bytes, cut, end, out, at)
      if (rules.query === 'values' && kept.length === 0) return allValues(bytes, cut, end, out, at)
      if (rules.query === 'all') {
        out[at] = bytes[cut]!
        out[at + 1] = STAR
        return at + 2
      }
      return valuesExcept(bytes, cut, end, out, at, kept)
    },
    addresses: (bytes, start, length, out) => maskList(bytes, start, start + length, out),
  }
}

function copy(bytes: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  for (let i = from; i < to; i++) out[at++] = bytes[i]!
  return at
}

function rulesApplied(
  paths: readonly { readonly pattern: RegExp; readonly replace: string }[],
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
): number {
  let text = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString()
  for (const { pattern, replace } of paths) text = text.replace(pattern, replace)
  // A rule that makes the path longer than there is room for is cut, at a character.
  return new TextEncoder().encodeInto(text, out.subarray(0, 2 * (end - start) + PATH_RULE_ROOM)).written
}

/** From the `?` or `#` on: what stands after an `=` up to the next `&` becomes `*`. A fragment is treated as a query. */
function allValues(bytes: Uint8Array, from: number, end: number, out: Uint8Array, at: number): number {
  let i = from
  while (i < end) {
    const byte = bytes[i++]!
    out[at++] = byte
    if (byte !== EQUALS) continue
    out[at++] = STAR
    while (i < end && bytes[i] !== AND) i++
  }
  return at
}

/** The same, but the values of the keys in `kept` stay. */
function valuesExcept(
  bytes: Uint8Array,
  from: number,
  end: number,
  out: Uint8Array,
  at: number,
  kept: readonly Uint8Array[],
): number {
  out[at++] = bytes[from]!
  let i = from + 1
  let key = i
  while (i < end) {
    const byte = bytes[i++]!
    out[at++] = byte
    if (byte === AND || byte === QUESTION || byte === HASH) key = i
    if (byte !== EQUALS) continue
    const keep = kept.some((name) => sameBytes(name, bytes, key, i - 1))
    if (!keep) out[at++] = STAR
    while (i < end && bytes[i] !== AND) {
      if (keep) out[at++] = bytes[i]!
      i++
    }
  }
  return at
}

function sameBytes(name: Uint8Array, bytes: Uint8Array, from: number, to: number): boolean {
  if (name.length !== to - from) return false
  for (let i = 0; i < name.length; i++) if (name[i] !== bytes[from + i]) return false
  return true
}

function maskList(bytes: Uint8Array, start: number, end: number, out: Uint8Array): number {
  let at = 0
  let i = start
  while (i < end) {
    const byte = bytes[i]!
    if (byte === COMMA || byte === SPACE) {
      out[at++] = byte
      i++
      continue
    }
    let to = i
    while (to < end && bytes[to] !== COMMA && bytes[to] !== SPACE) to++
    at = maskOne(bytes, i, to, out, at)
    i = to
  }
  return at
}

/** `10.1.2.3` → `10.1.2.0`, `2001:db8:1:2::3` → `2001:db8:1::`; ports and brackets stay; what is no address stays. */
function maskOne(bytes: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  let dots = 0
  let colons = 0
  let lastDot = -1
  for (let i = from; i < to; i++) {
    if (bytes[i] === DOT) {
      dots++
      lastDot = i
    } else if (bytes[i] === COLON) colons++
  }
  if (dots === 3 && isDigit(bytes[lastDot + 1])) {
    let rest = lastDot + 1
    while (rest < to && isDigit(bytes[rest])) rest++
    at = copy(bytes, from, lastDot + 1, out, at)
    out[at++] = ZERO
    return copy(bytes, rest, to, out, at)
  }
  if (colons < 2) return copy(bytes, from, to, out, at)
  let open = from
  while (open < to && bytes[open] !== OPEN) open++
  const first = open === to ? from : open + 1
  let last = first
  while (last < to && bytes[last] !== CLOSE) last++
  at = copy(bytes, from, first, out, at)
  const groups = Buffer.from(bytes.buffer, bytes.byteOffset + first, last - first)
    .toString('latin1')
    .split(':')
  at = writeLatin1(networkOf(groups), out, at)
  return copy(bytes, last, to, out, at)
}

/** The first three groups of an IPv6 address in text, with `::` expanded. */
function networkOf(groups: readonly string[]): string {
  const gap = groups.indexOf('', groups[0] === '' ? 1 : 0)
  const full =
    gap < 0
      ? groups
      : [
          ...groups.slice(0, gap).filter((group) => group !== ''),
          ...new Array<string>(Math.max(0, 8 - groups.filter((group) => group !== '').length)).fill('0'),
          ...groups.slice(gap + 1).filter((group) => group !== ''),
        ]
  const network = full.slice(0, 3)
  while (network.length > 0 && /^0*$/.test(network.at(-1)!)) network.pop()
  return `${network.join(':')}::`
}

function writeLatin1(text: string, out: Uint8Array, at: number): number {
  for (let i = 0; i < text.length; i++) out[at++] = text.charCodeAt(i)
  return at
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= 48 && byte <= 57
