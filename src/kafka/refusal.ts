/**
 * Whether a broker and we do not trust each other, from whatever a client library made of it: the reasons are in codes of
 * Node and of OpenSSL, and in names of the libraries, somewhere under the error that they give.
 */
export type KafkaRefusal = 'tls' | 'sasl'

export function refusalOf(error: unknown): KafkaRefusal | null {
  for (const [depth, one] of chain(error).entries()) {
    if (depth === DEPTH_MAX) return null
    const { code, name } = one as { code?: unknown; name?: unknown }
    if (typeof code === 'string' && TLS_CODE.test(code)) return 'tls'
    if (code === 'PLT_KFK_AUTHENTICATION' || name === 'KafkaJSSASLAuthenticationError') return 'sasl'
  }
  return null
}

/** Of verification (`UNABLE_TO_GET_ISSUER_CERT`, `CERT_HAS_EXPIRED`), of handshakes (`ERR_TLS_…`), and alerts (`ERR_SSL_…`). */
const TLS_CODE = /^ERR_(TLS|SSL)_|CERT|ISSUER|SELF_SIGNED|UNABLE_TO_VERIFY|HOSTNAME_MISMATCH/
const DEPTH_MAX = 32

/** The error, and what is under it. */
function chain(error: unknown): object[] {
  const found: object[] = []
  const rest: unknown[] = [error]
  while (rest.length > 0 && found.length <= DEPTH_MAX) {
    const one = rest.shift()
    if (typeof one !== 'object' || one === null || found.includes(one)) continue
    found.push(one)
    const { cause, errors } = one as { cause?: unknown; errors?: unknown }
    rest.push(cause, ...(Array.isArray(errors) ? errors : []))
  }
  return found
}
