import { AuthenticationError, NetworkError } from '@platformatic/kafka'
import kafkajs from 'kafkajs'
import { expect, test } from 'vitest'
import { refusalOf } from '../../src/kafka/refusal.ts'

const coded = (code: string, more: object = {}) => Object.assign(new Error(code), { code, ...more })

test.each([
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'tls'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'tls'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'tls'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'tls'],
  ['CERT_HAS_EXPIRED', 'tls'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'tls'],
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'tls'],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'tls'],
  ['ECONNREFUSED', null],
  ['ECONNRESET', null],
  ['ETIMEDOUT', null],
])('%s', (code, refusal) => {
  expect(refusalOf(coded(code))).toBe(refusal)
})

test('the reason may lie deep under what a library says', () => {
  const reason = coded('CERT_HAS_EXPIRED')
  expect(refusalOf(new NetworkError('Connection to b:9093 failed.', { cause: reason }))).toBe('tls')
  expect(refusalOf(new AggregateError([coded('ECONNREFUSED'), new Error('x', { cause: reason })]))).toBe('tls')
  expect(refusalOf(new Error('x', { cause: new AuthenticationError('SASL authentication failed.') }))).toBe('sasl')
  // Its type knows of no message.
  expect(refusalOf(Reflect.construct(kafkajs.KafkaJSSASLAuthenticationError, ['wrong password']))).toBe('sasl')
})

test('what is no error, or leads to itself, is no refusal', () => {
  const loop = new Error('loop')
  loop.cause = loop
  for (const one of [loop, null, undefined, 'CERT_HAS_EXPIRED', 7]) expect(refusalOf(one)).toBe(null)
})
