import type { FastifyReply, FastifyRequest } from 'fastify'
import { isLoopback } from '../lib/units.ts'
import { Problem } from './problem.ts'

/**
 * Nothing of the page is loaded from, sent to, or shown inside another site. Styles are set by script through the
 * object model, which this allows, and never as text.
 */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
} as const

export function setSecurityHeaders(_request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  reply.headers(HEADERS)
  done()
}

const READING: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

export interface WriteGuard {
  /** Host the server listens on. */
  readonly host: string
  /** Further host names, without port, under which a browser may write to it. */
  readonly names: readonly string[]
}

/**
 * Keeps web pages of others from writing here. A browser says where a request comes from (Origin, Sec-Fetch-Site) and
 * under which name it found us (Host): a page of another site has another origin, and one whose name was made to point
 * here (DNS rebinding) brings that name. Programs send no Origin and are let through, on loopback under a known name.
 */
export function createWriteGuard(guard: WriteGuard): (request: FastifyRequest) => Promise<void> {
  const names = new Set(['localhost', guard.host, ...guard.names].map((name) => name.toLowerCase()))
  const isOurs = (name: string) => names.has(name) || isAddress(name)
  return async (request) => {
    if (READING.has(request.method)) return
    const { origin, host = '', 'sec-fetch-site': site } = request.headers
    const name = hostName(host)
    const refuse = (detail: string) =>
      new Problem('forbidden_origin', detail, { help: 'send it from a program, or from the page of this server' })
    if (site !== undefined && site !== 'same-origin' && site !== 'none') {
      throw refuse(`a web page of another site (${String(site)}) sent this`)
    }
    if (origin !== undefined) {
      if (origin !== `http://${host}` && origin !== `https://${host}`) {
        throw refuse('the Origin is not this server')
      }
      if (!isOurs(name)) throw refuse('the Host is not a name of this server')
    } else if (isLoopback(guard.host) && !isOurs(name)) throw refuse('the Host is not a name of this server')
  }
}

function hostName(host: string): string {
  return host.replace(/:\d+$/, '').toLowerCase()
}

/** An IP address, which no name server can make point elsewhere. */
function isAddress(name: string): boolean {
  return /^\d{1,3}(?:\.\d{1,3}){3}$/.test(name) || /^\[[0-9a-f:.]+\]$/.test(name)
}
