import { describe, expect, test } from 'vitest'
import { farewell, recognise } from '../../../src/ingest/grpc/preface.ts'

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

describe('what a client speaks', () => {
  test.each([
    ['http2', PREFACE],
    ['http2', Buffer.concat([PREFACE, Buffer.from([0, 0, 0, 4])])],
    ['tls', Buffer.from([0x16, 3, 1, 2, 0, 1])],
    ['tls', Buffer.from([0x16, 3])],
    ['http1', Buffer.from('GET / HTTP/1.1\r\n')],
    ['http1', Buffer.from('POST /x HTTP/1.1\r\n')],
    ['http1', Buffer.from('OPTIONS * HTTP/1.1')],
    ['http1', Buffer.from('PRI * HTTP/1.1\r\n')],
    ['other', Buffer.from([0x16, 9])],
    ['other', Buffer.from('SSH-2.0-OpenSSH_9.2\r\n')],
    ['other', Buffer.from([0, 0, 0, 4, 0])],
    ['other', Buffer.alloc(24, 0x41)],
  ])('%s is recognised', (spoken, first) => {
    expect(recognise(first)).toBe(spoken)
  })

  test('too few bytes say nothing yet, 24 always do', () => {
    for (let length = 0; length < PREFACE.length; length++) expect(recognise(PREFACE.subarray(0, length))).toBeNull()
    for (const start of ['G', 'GET', 'GET ', 'POST', 'DELETE ']) expect(recognise(Buffer.from(start))).toBeNull()
    expect(recognise(Buffer.from([0x16]))).toBeNull()
    for (let byte = 0; byte < 256; byte++) expect(recognise(Buffer.alloc(24, byte))).not.toBeNull()
  })

  test('is told what is wrong in its own language', () => {
    expect(farewell('http1').toString()).toMatch(/^HTTP\/1\.1 400 [\s\S]+gRPC over HTTP\/2/)
    expect(farewell('tls')[0]).toBe(0x15)
    expect(farewell('other')).toHaveLength(0)
  })
})
