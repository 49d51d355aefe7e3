import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Certificates for handshakes that are real: an authority with servers and clients, and clients that must not come in.
 * Made by openssl, about 10 ms each.
 */
export interface Certificates {
  readonly dir: string
  path(name: string): string
  read(path: string): Buffer
  /** Files of `name`: certificate and key. */
  pair(name: CertificateName): { readonly cert: string; readonly key: string }
  /** Of the authority of servers and clients; `stranger` is of another one. */
  readonly ca: string
  remove(): void
}

/** `renewed` is another certificate of the same server. */
export type CertificateName = 'server' | 'renewed' | 'client' | 'other-name' | 'expired' | 'stranger'

const SANS: Readonly<Record<CertificateName, string>> = {
  server: 'DNS:localhost,IP:127.0.0.1',
  renewed: 'DNS:localhost,IP:127.0.0.1',
  client: 'URI:spiffe://mesh/ns/shop/sa/checkout',
  'other-name': 'URI:spiffe://elsewhere/ns/shop/sa/checkout',
  expired: 'URI:spiffe://mesh/ns/shop/sa/checkout',
  stranger: 'URI:spiffe://mesh/ns/shop/sa/checkout',
}

export function makeCertificates(): Certificates {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-certificates-'))
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  for (const name of ['ca', 'other-ca']) {
    openssl(
      'req',
      '-x509',
      ...key,
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
    )
  }
  for (const [name, sans] of Object.entries(SANS)) {
    const ca = name === 'stranger' ? 'other-ca' : 'ca'
    const days = name === 'expired' ? '-1' : '2'
    const request = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${sans}`, '-keyout', `${name}.key`]
    openssl('req', ...key, ...request, '-out', `${name}.csr`)
    const sign = ['-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-CAcreateserial', '-copy_extensions', 'copy']
    openssl('x509', '-req', '-in', `${name}.csr`, ...sign, '-days', days, '-out', `${name}.pem`)
  }
  const path = (name: string): string => join(dir, name)
  return {
    dir,
    path,
    read: (file) => readFileSync(file),
    pair: (name) => ({ cert: path(`${name}.pem`), key: path(`${name}.key`) }),
    ca: path('ca.pem'),
    remove: () => rmSync(dir, { recursive: true, force: true }),
  }
}
