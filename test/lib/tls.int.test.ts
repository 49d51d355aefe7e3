import { copyFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type ClientTlsConfig, clientTls } from '../../src/lib/tls.ts'
import { type CertificateName, type Certificates, makeCertificates } from '../support/certificates.ts'

// What every client of the product takes its options from, against servers that are what they should not be.

let certificates: Certificates
beforeAll(() => {
  certificates = makeCertificates()
})
afterAll(() => certificates.remove())

/** A server that asks for a certificate and answers with the name in it. */
async function serverWith(name: CertificateName): Promise<number> {
  const { cert, key } = certificates.pair(name)
  const read = certificates.read
  const options = { cert: read(cert), key: read(key), ca: read(certificates.ca), requestCert: true }
  const server = createServer({ ...options, rejectUnauthorized: false }, (request, response) => {
    const peer = (request.socket as import('node:tls').TLSSocket).getPeerCertificate()
    response.end(String(peer.subject?.CN ?? 'nobody'))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

function dial(port: number, options: object): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, ...options })
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.on('secureConnect', () => {
      socket.write('GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n')
    })
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    socket.on('end', () =>
      resolve(
        text
          .trim()
          .split(/\s/)
          .findLast((word) => /^[a-z]/.test(word)) ?? '',
      ),
    )
  })
}

const config = (more: ClientTlsConfig): ClientTlsConfig => ({
  ca: certificates.ca,
  ...certificates.pair('client'),
  ...more,
})

describe('a client', () => {
  test.each([
    ['shows its certificate to the server it trusts', 'server', {}, /client/],
    ['knows the server by another name', 'server', { serverName: 'localhost' }, /client/],
    ['refuses a server of another authority', 'stranger', {}, /UNABLE_TO_VERIFY_LEAF_SIGNATURE/],
    ['refuses a server without its name', 'client', {}, /ERR_TLS_CERT_ALTNAME_INVALID/],
    ['refuses an expired certificate', 'expired', { allowedSans: ['spiffe://mesh/*'] }, /CERT_HAS_EXPIRED/],
    [
      'takes a server by the names in a list, in place of its host',
      'client',
      { allowedSans: ['spiffe://mesh/*'] },
      /client/,
    ],
    [
      'refuses one with other names',
      'other-name',
      { allowedSans: ['spiffe://mesh/*'] },
      /ERR_TLS_CERT_ALTNAME_INVALID/,
    ],
    ['takes any certificate where that is asked for', 'stranger', { insecure: true }, /client/],
  ] as const)('%s', async (_, server, more, outcome) => {
    const port = await serverWith(server)
    expect(await dial(port, clientTls(config(more), 'test').options())).toMatch(outcome)
  })

  test('takes its files as they are now, for objects that libraries keep too; broken ones leave the old', async () => {
    const port = await serverWith('server')
    for (const part of ['pem', 'key'] as const)
      copyFileSync(certificates.path(`client.${part}`), certificates.path(`own.${part}`))
    const own = { cert: certificates.path('own.pem'), key: certificates.path('own.key') }
    let now = 0
    const tls = clientTls(config(own), 'test', { clock: () => now })
    const [before, kept] = [tls.options(), tls.live()]
    expect(tls.options()).toBe(before)
    expect(await dial(port, { ...kept })).toContain('client')
    copyFileSync(certificates.path('other-name.pem'), own.cert)
    now += 5000
    // The key does not fit yet.
    expect([tls.options() === before, String(tls.lastError)]).toEqual([
      true,
      expect.stringMatching(/key values mismatch/i),
    ])
    copyFileSync(certificates.path('other-name.key'), own.key)
    now += 5000
    expect(tls.options()).not.toBe(before)
    expect(tls.lastError).toBeNull()
    expect(await dial(port, { ...kept })).toContain('other-name')
  })

  test('says at once which file cannot be used', () => {
    const missing = clientTls({ ca: certificates.path('none.pem') }, 'adapters.x.tls')
    expect(() => missing.options()).toThrow(/^adapters\.x\.tls: .*none\.pem cannot be read: ENOENT$/)
    writeFileSync(certificates.path('no.pem'), 'no certificate')
    const wrong = clientTls(
      { cert: certificates.path('no.pem'), key: certificates.path('client.key') },
      'adapters.x.tls',
    )
    expect(() => wrong.options()).toThrow()
  })
})

test('an agent keeps no connection of older files for new requests', async () => {
  const port = await serverWith('server')
  const paths = { cert: certificates.path('agent.pem'), key: certificates.path('agent.key') }
  const put = (name: CertificateName): void => {
    copyFileSync(certificates.pair(name).cert, paths.cert)
    copyFileSync(certificates.pair(name).key, paths.key)
  }
  put('client')
  const tls = clientTls(config(paths), 'test', { lookMs: 0 })
  const agent = tls.agent({ keepAlive: true })
  onTestFinished(() => agent.destroy())
  const { request } = await import('node:https')
  const ask = () =>
    new Promise<string>((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, agent }, (answer) => {
        answer.setEncoding('utf8').on('data', resolve)
      })
      sent.on('error', reject).end()
    })
  expect([await ask(), await ask()]).toEqual(['client', 'client'])
  put('other-name')
  expect(await ask()).toBe('other-name')
})
