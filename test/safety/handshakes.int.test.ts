import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CertificateName, type Certificates, makeCertificates } from '../support/certificates.ts'
import {
  dialTls,
  type SafeSidecast,
  startSafeSidecast,
  TLS_LISTENERS,
  type TlsListener,
} from '../support/safe-sidecast.ts'
import { waitUntil } from '../support/wait.ts'

let certificates: Certificates
let sidecast: SafeSidecast

beforeAll(async () => {
  certificates = makeCertificates()
  sidecast = await startSafeSidecast(certificates)
})
afterAll(async () => {
  await sidecast?.close()
  certificates?.remove()
})

const WAITS = { timeout: 60_000, interval: 50 }
const ALPN: Partial<Record<TlsListener, string[]>> = { grpc: ['h2'] }
const refused = (listener: TlsListener, reason: string) =>
  sidecast.metric('sidecast_tls_refused_total', { listener, reason })

describe.each(TLS_LISTENERS)('%s', (listener) => {
  const dial = (as: CertificateName | null) =>
    dialTls(sidecast.addresses[listener], certificates, { as, alpn: ALPN[listener] ?? [] })

  test('lets in who has a certificate of the authority with an allowed name', async () => {
    const before = await sidecast.metric('sidecast_tls_accepted_total', { listener })
    expect(await dial('client')).toEqual({ open: true, server: 'server' })
    // What asks for the metrics comes in by HTTP as well.
    expect(await sidecast.metric('sidecast_tls_accepted_total', { listener })).toBeGreaterThan(before)
  })

  test.each([
    ['no certificate', null, 'no_certificate'],
    ['a certificate of another authority', 'stranger', 'unknown_ca'],
    ['a certificate with another name', 'other-name', 'wrong_san'],
    ['an expired certificate', 'expired', 'expired'],
  ] as const)('%s: refused and counted', async (_, as, reason) => {
    expect((await dial(as)).open).toBe(false)
    await waitUntil(async () => (await refused(listener, reason)) === 1, WAITS)
  })

  test('no TLS at all: refused and counted', async () => {
    const [host, port] = sidecast.addresses[listener].split(':')
    const socket = connect(Number(port), host)
    const closed = new Promise((resolve) => socket.on('close', resolve))
    socket.on('error', () => {})
    socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n')
    socket.resume()
    await closed
    await waitUntil(async () => (await refused(listener, 'plaintext')) === 1, WAITS)
  })
})
