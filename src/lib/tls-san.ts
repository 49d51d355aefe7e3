import { isIP } from 'node:net'

/** One subject alternative name of a certificate, as OpenSSL prints its type: `DNS`, `URI`, `IP Address`, `email`. */
export interface San {
  readonly type: string
  readonly value: string
}

/**
 * Reads Node's text of them, `DNS:a.example, URI:"spiffe://…"`. Values with a comma, a quote or a control character come
 * as JSON strings, so that no value can pretend to be two (CVE-2021-44532).
 */
export function parseSans(text: string): San[] {
  const sans: San[] = []
  const one = /\s*([A-Za-z ]+):(?:"((?:[^"\\]|\\.)*)"|([^,"]*))(?:,|$)/y
  while (one.lastIndex < text.length) {
    const match = one.exec(text)
    if (match === null) return [] // Not to be understood: nobody is let in by half of it.
    const [, type = '', quoted, plain = ''] = match
    const value = quoted === undefined ? plain : unquoted(quoted)
    if (value === null) return []
    sans.push({ type, value })
  }
  return sans
}

function unquoted(text: string): string | null {
  try {
    return JSON.parse(`"${text}"`) as string
  } catch {
    return null
  }
}

/**
 * Whether one of the names is in the list. An entry is a name as it stands in the certificate; its look says its type:
 * with `://` a URI, with `@` an e-mail address, an IP address, else a host name. `*` at the end of a URI stands for
 * anything (`spiffe://mesh/ns/prod/*`), `*.` before a host name for one label.
 */
export function sanAllowed(sans: readonly San[], allowed: readonly string[]): boolean {
  return allowed.some((entry) => {
    const type = typeOf(entry)
    return sans.some((san) => san.type === type && matches(type, san.value, entry))
  })
}

function typeOf(entry: string): string {
  if (entry.includes('://')) return 'URI'
  if (entry.includes('@')) return 'email'
  return isIP(entry) === 0 ? 'DNS' : 'IP Address'
}

function matches(type: string, value: string, entry: string): boolean {
  if (type === 'URI') return entry.endsWith('*') ? value.startsWith(entry.slice(0, -1)) : value === entry
  if (type === 'IP Address') return canonical(value) === canonical(entry)
  const [name, wanted] = [value.toLowerCase(), entry.toLowerCase()]
  if (type !== 'DNS' || !wanted.startsWith('*.')) return name === wanted
  const dot = name.indexOf('.')
  return dot > 0 && name.slice(dot) === wanted.slice(1)
}

/** Certificates print `0:0:0:0:0:0:0:1` where people write `::1`. */
function canonical(address: string): string {
  return isIP(address) === 6 ? new URL(`http://[${address}]`).hostname : address
}
