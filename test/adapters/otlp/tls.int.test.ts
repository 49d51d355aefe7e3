import { copyFileSync, readFileSync } from 'node:fs'
import { ServerCredentials } from '@grpc/grpc-js'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createOtlpClient, type OtlpClient } from '../../../src/adapters/otlp/client.ts'
import { createSelfTraces } from '../../../src/adapters/otlp/self-traces.ts'
import { type ClientTlsConfig, clientTls } from '../../../src/lib/tls.ts'
import { parseEndpoint } from '../../../src/otlp/endpoint.ts'
import { type Certificates, makeCertificates } from '../../support/certificates.ts'
import { spansOf } from '../../support/otlp-proto.ts'
import { startOtlpTarget } from '../../support/otlp-target.ts'

const never = new AbortController().signal
const EMPTY = Buffer.alloc(0)

function authority(): Certificates {
  const certificates = makeCertificates()
  onTestFinished(() => certificates.remove())
  return certificates
}

/** A target that wants a certificate of our authority. */
async function mutualTarget(certificates: Certificates) {
  const { cert, key } = certificates.pair('server')
  const pair = { private_key: readFileSync(key), cert_chain: readFileSync(cert) }
  const credentials = ServerCredentials.createSsl(readFileSync(certificates.ca), [pair], true)
  const target = await startOtlpTarget({ credentials })
  onTestFinished(() => target.close())
  return target
}

function open(address: string, config: ClientTlsConfig): OtlpClient {
  const client = createOtlpClient({
    endpoint: parseEndpoint(`https://${address}`)!,
    headers: {},
    gzip: true,
    timeoutMs: 3000,
    userAgent: 'test',
    tls: clientTls(config, 'adapters.otlp.tls', { lookMs: 0 }),
  })
  onTestFinished(() => client.close())
  return client
}

describe('TLS to the target', () => {
  test('with a certificate of ours, and by name or address', async () => {
    const certificates = authority()
    const target = await mutualTarget(certificates)
    const config = { ca: certificates.ca, ...certificates.pair('client') }
    const port = target.address.split(':')[1]
    for (const address of [target.address, `localhost:${port}`]) {
      expect(await open(address, config).export('traces', EMPTY, never)).toEqual({
        status: 'ok',
        rejected: 0,
        message: '',
      })
    }
    expect(target.calls.traces).toBe(2)
  })

  test.each([
    ['no certificate of ours', /UNAVAILABLE/, (of: Certificates) => ({ ca: of.ca })],
    ['one of a strange authority', /UNAVAILABLE/, (of: Certificates) => ({ ca: of.ca, ...of.pair('stranger') })],
    ['one that has expired', /UNAVAILABLE/, (of: Certificates) => ({ ca: of.ca, ...of.pair('expired') })],
    [
      'an authority that the target is not of',
      /self-signed|unable to verify|signature|issuer/i,
      (of: Certificates) => ({ ca: of.path('other-ca.pem'), ...of.pair('client') }),
    ],
    [
      'names that the target has not',
      /allowed names|altnames/,
      (of: Certificates) => ({ ca: of.ca, ...of.pair('client'), allowedSans: ['a.example'] }),
    ],
    [
      'another name than the target’s',
      /b\.example/,
      (of: Certificates) => ({ ca: of.ca, ...of.pair('client'), serverName: 'b.example' }),
    ],
    ['a file that is not there', /cannot be read: ENOENT/, () => ({ ca: '/nowhere/ca.pem' })],
  ])('%s: nothing is sent, and it is tried again', async (_, why, config) => {
    const certificates = authority()
    const target = await mutualTarget(certificates)
    const answer = await open(target.address, config(certificates)).export('traces', EMPTY, never)
    if (answer.status !== 'retry') throw new Error(`it was ${answer.status}`)
    expect(answer.error.message).toMatch(why)
    expect(target.calls.traces).toBe(0)
  })

  test('files that are replaced count for the next request', async () => {
    const certificates = authority()
    const target = await mutualTarget(certificates)
    const own = { cert: certificates.path('own.pem'), key: certificates.path('own.key') }
    const become = (name: 'stranger' | 'client') => {
      const { cert, key } = certificates.pair(name)
      copyFileSync(cert, own.cert)
      copyFileSync(key, own.key)
    }
    become('stranger')
    const client = open(target.address, { ca: certificates.ca, ...own })
    expect((await client.export('logs', EMPTY, never)).status).toBe('retry')
    become('client')
    expect(await client.export('logs', EMPTY, never)).toMatchObject({ status: 'ok' })
  })

  test('the traces of our own deliveries go the same way', async () => {
    const certificates = authority()
    const target = await mutualTarget(certificates)
    const traces = createSelfTraces({
      endpoint: parseEndpoint(`https://${target.address}`)!,
      headers: { 'x-key': 'k' },
      gzip: true,
      timeoutMs: 3000,
      userAgent: 'test',
      tls: clientTls({ ca: certificates.ca, ...certificates.pair('client') }, 'adapters.otlp.tls'),
      host: 'host-1',
      version: '1.2.3',
    })
    await traces.start()
    traces.segment({ id: '0-e1-7', worker: 0, epoch: 'e1', seq: 7, openedMs: 1000, sealedMs: 2000, tables: [] })
    await traces.stop(never)
    expect(traces.counters).toEqual({ ended: 1, exported: 1, failed: 0 })
    const [sent] = target.accepted
    expect(sent!.metadata.get('x-key')).toEqual(['k'])
    expect(spansOf(sent!.bytes, false)).toMatchObject([
      { name: 'segment', resource: { 'service.name': 'sidecast' }, start: 1_000_000_000n, end: 2_000_000_000n },
    ])
  })
})
