import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { createPostJson } from '../../src/alerts/post.ts'
import { type ClientTlsConfig, clientTls } from '../../src/lib/tls.ts'
import { type CertificateName, type Certificates, makeCertificates } from '../support/certificates.ts'

let certificates: Certificates
beforeAll(() => {
  certificates = makeCertificates()
})
afterAll(() => certificates?.remove())

/** What becomes of alerts sent with these options to an Alertmanager with TLS that wants a certificate of its authority. */
async function post(config: (certificates: Certificates) => ClientTlsConfig) {
  const { ca, read, pair } = certificates
  const { cert, key } = pair('server')
  const options = { cert: read(cert), key: read(key), ca: read(ca), requestCert: true, rejectUnauthorized: true }
  const server = createServer(options, (request, response) => {
    request.resume()
    request.on('end', () => response.end('{"status":"success"}'))
  })
  server.on('tlsClientError', () => {})
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const send = createPostJson({
    url: new URL(`https://localhost:${(server.address() as AddressInfo).port}/api/v2/alerts`),
    headers: {},
    tls: clientTls(config(certificates), 'alertmanager.tls'),
    timeoutMs: 5000,
  })
  onTestFinished(() => {
    send.close()
    server.closeAllConnections()
    server.close()
  })
  return send('[]', new AbortController().signal)
}

const as = (name: CertificateName) => (certificates: Certificates) => ({
  ca: certificates.ca,
  ...certificates.pair(name),
})

test('an Alertmanager with TLS is told by a client that it knows', async () => {
  expect(await post(as('client'))).toMatchObject({ answered: true, status: 200 })
})

test.each<[string, (certificates: Certificates) => ClientTlsConfig]>([
  ['that is not of the authority', as('stranger')],
  ['that has expired', as('expired')],
  ['that is none', ({ ca }) => ({ ca })],
])('a certificate %s is refused by it, and alerts wait', async (_, config) => {
  expect(await post(config)).toMatchObject({ answered: false })
})

test.each<[string, (certificates: Certificates) => ClientTlsConfig]>([
  ['of another authority', ({ path, pair }) => ({ ca: path('other-ca.pem'), ...pair('client') })],
  ['of another name', ({ ca, pair }) => ({ ca, ...pair('client'), allowedSans: ['alertmanager.example'] })],
])('one whose certificate is %s is told nothing', async (_, config) => {
  expect(await post(config)).toMatchObject({ answered: false })
})
