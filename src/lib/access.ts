import { createSenders, NO_SENDER_LIMITS, type Senders } from './senders.ts'
import type { TlsGuard } from './tls-guard.ts'
import { createTokens, type Tokens } from './tokens.ts'

/** Who may come to a listener, and how much of it. Tokens and senders are those of the whole process. */
export interface Access {
  /** Null: without TLS. */
  readonly tls: TlsGuard | null
  readonly tokens: Tokens
  readonly senders: Senders
}

/** Everybody, everything. For tests and tools. */
export function openAccess(): Access {
  return { tls: null, tokens: createTokens([]), senders: createSenders(NO_SENDER_LIMITS) }
}
