import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

/**
 * Bearer tokens. The configuration has only their hashes; a token is 256 random bits, so a fast hash without salt gives
 * nothing away: there is no list of likely tokens to try.
 */
export const SCOPES = ['read', 'ingest', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

export interface TokenConfig {
  /** For people, and for logs. */
  readonly name: string
  /** As `hashToken` gives it. */
  readonly hash: string
  readonly scopes: readonly Scope[]
}

export type TokenVerdict = 'ok' | 'missing' | 'unknown' | 'scope'

export interface Tokens {
  /** False: no tokens are configured, and everybody may do everything. */
  readonly required: boolean
  /** `authorization`: the header's value. `Bearer TOKEN`, or `Basic` with the token as password, for browsers and Grafana. */
  check(authorization: string | undefined, scope: Scope): TokenVerdict
  /** Other tokens from now on. */
  replace(tokens: readonly TokenConfig[]): void
  /** Called after `replace`: who let somebody stay looks again. */
  onReplaced(listener: () => void): void
  readonly counters: Readonly<Record<TokenVerdict, number>>
}

export const HASH_PATTERN = '^sha256:[0-9a-f]{64}$'
const PREFIX = 'sha256:'
/** A header longer than this is no token of ours. */
const HEADER_CHARS_MAX = 1024

export function hashToken(token: string): string {
  return `${PREFIX}${createHash('sha256').update(token, 'utf8').digest('hex')}`
}

/** A new token. The prefix lets scanners of repositories find one that leaked. */
export function makeToken(): string {
  return `sidecast_${randomBytes(32).toString('base64url')}`
}

interface Known {
  readonly digest: Buffer
  readonly scopes: ReadonlySet<Scope>
}

export function createTokens(configured: readonly TokenConfig[]): Tokens {
  const counters: Record<TokenVerdict, number> = { ok: 0, missing: 0, unknown: 0, scope: 0 }
  const listeners: (() => void)[] = []
  let known: readonly Known[] = configured.map(read)

  function verdict(authorization: string | undefined, scope: Scope): TokenVerdict {
    if (known.length === 0) return 'ok'
    const token = tokenOf(authorization)
    if (token === null) return authorization === undefined ? 'missing' : 'unknown'
    const digest = createHash('sha256').update(token, 'utf8').digest()
    // All are compared, each in the same time, whichever it is.
    let found: Known | null = null
    for (const one of known) if (timingSafeEqual(one.digest, digest)) found = one
    if (found === null) return 'unknown'
    return found.scopes.has(scope) ? 'ok' : 'scope'
  }

  return {
    get required() {
      return known.length > 0
    },
    counters,
    check(authorization, scope) {
      const result = verdict(authorization, scope)
      counters[result]++
      return result
    },
    replace(tokens) {
      known = tokens.map(read)
      for (const listener of listeners) listener()
    },
    onReplaced(listener) {
      listeners.push(listener)
    },
  }
}

function read({ hash, scopes }: TokenConfig): Known {
  return { digest: Buffer.from(hash.slice(PREFIX.length), 'hex'), scopes: new Set(scopes) }
}

function tokenOf(authorization: string | undefined): string | null {
  if (authorization === undefined || authorization.length > HEADER_CHARS_MAX) return null
  const [, scheme = '', value = ''] = /^(\S+) +(\S+) *$/.exec(authorization) ?? []
  if (scheme.toLowerCase() === 'bearer') return value
  if (scheme.toLowerCase() !== 'basic') return null
  const pair = Buffer.from(value, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  return colon < 0 ? null : pair.slice(colon + 1)
}
