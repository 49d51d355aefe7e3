import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Scope, Tokens } from '../lib/tokens.ts'
import { Problem } from './problem.ts'

/** For orchestrators, which have no token and learn nothing but `ok`. */
const OPEN: ReadonlySet<string> = new Set(['/healthz', '/readyz'])
const READING: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])
/** Questions that are long enough to be posted; everything else that is not a GET changes something. */
const POSTED_QUESTIONS =
  /^\/prometheus\/api\/v1\/(?:query|query_range|query_exemplars|series|labels|format_query|parse_query)$/
const INGEST = /^\/(?:ingest\/|prometheus\/api\/v1\/write$)/

/** What a token must allow for a route, by its pattern: what is not known here needs `admin`. Null: no token. */
export function scopeOf(method: string, route: string): Scope | null {
  if (OPEN.has(route)) return null
  if (INGEST.test(route)) return 'ingest'
  return READING.has(method) || POSTED_QUESTIONS.test(route) ? 'read' : 'admin'
}

/** Browsers are asked for a name and a password, where the token is the password: the page then works without more. */
const CHALLENGE = 'Bearer realm="sidecast", Basic realm="sidecast: any name, token as password", charset="UTF-8"'

export function createTokenGuard(tokens: Tokens) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    if (!tokens.required) return
    // The route and not the address: one of a thousand ways to write the address must not lead around this.
    const scope = scopeOf(request.method, request.routeOptions.url ?? '')
    if (scope === null) return
    const verdict = tokens.check(request.headers.authorization, scope)
    if (verdict === 'ok') return
    if (!request.raw.complete) reply.header('connection', 'close')
    if (verdict === 'scope') {
      throw new Problem('forbidden_scope', `the token has not the scope ${scope}`, { figures: { scope } })
    }
    reply.header('www-authenticate', CHALLENGE)
    throw new Problem('unauthorized', verdict === 'missing' ? 'a token is needed' : 'the token is not known', {
      help: `send Authorization: Bearer TOKEN, of a token with the scope ${scope}`,
    })
  }
}
