import { describe, expect, test } from 'vitest'
import { answerOfFailure, answerOfResponse } from '../../../src/adapters/otlp/answer.ts'
import { parseEndpoint } from '../../../src/otlp/endpoint.ts'
import { encodeResponse } from '../../support/otlp-proto.ts'
import { statusDetails } from '../../support/otlp-status.ts'

describe('what a target answers, as the specification has it', () => {
  test.each([
    [1, 'CANCELLED'],
    [4, 'DEADLINE_EXCEEDED'],
    [10, 'ABORTED'],
    [11, 'OUT_OF_RANGE'],
    [14, 'UNAVAILABLE'],
    [15, 'DATA_LOSS'],
  ])('%i (%s) is tried again', (code, name) => {
    const answer = answerOfFailure({ code, details: 'x' })
    expect(answer).toMatchObject({ status: 'retry', error: new Error(`${name}: x`) })
    expect('afterMs' in answer).toBe(false)
  })

  test.each([2, 3, 5, 6, 9, 13])('%i is never sent again', (code) => {
    expect(answerOfFailure({ code, details: 'x' })).toMatchObject({ status: 'refused', because: 'other' })
  })

  test('what the target does not implement, and what we may not do, are told apart', () => {
    expect(answerOfFailure({ code: 12, details: '' })).toMatchObject({ status: 'refused', because: 'unimplemented' })
    expect(answerOfFailure({ code: 7, details: '' })).toMatchObject({ status: 'refused', because: 'not-allowed' })
    expect(answerOfFailure({ code: 16, details: '' })).toMatchObject({ status: 'refused', because: 'not-allowed' })
  })

  test.each([
    [12, 'Received HTTP status code 404'],
    [8, 'Bandwidth exhausted or memory limit exceeded'],
    [13, 'Received RST_STREAM with code 2 (Internal server error)'],
    [13, 'Received RST_STREAM with code 0 (Call ended without gRPC status)'],
  ])('what is no answer of the target is tried again: %i %s', (code, details) => {
    expect(answerOfFailure({ code, details }).status).toBe('retry')
  })

  test('RESOURCE_EXHAUSTED is tried again only with RetryInfo, after what it says', () => {
    const exhausted = { code: 8, details: 'quota' }
    expect(answerOfFailure(exhausted)).toMatchObject({ status: 'refused' })
    expect(answerOfFailure({ ...exhausted, statusDetails: statusDetails(8, { retryDelayMs: 2500 }) })).toMatchObject({
      status: 'retry',
      afterMs: 2500,
    })
    expect(answerOfFailure({ ...exhausted, statusDetails: statusDetails(8, {}) })).toMatchObject({ status: 'refused' })
    expect(answerOfFailure({ ...exhausted, statusDetails: Buffer.from('8899aabb', 'hex') }).status).toBe('refused')
  })

  test('RetryInfo counts for other codes that are tried again, before a Retry-After', () => {
    const details = statusDetails(14, { retryDelayMs: 40 })
    expect(answerOfFailure({ code: 14, details: '', statusDetails: details, retryAfterMs: 7000 })).toMatchObject({
      afterMs: 40,
    })
    expect(answerOfFailure({ code: 14, details: '', retryAfterMs: 7000 })).toMatchObject({ afterMs: 7000 })
    expect(answerOfFailure({ code: 3, details: '', statusDetails: details })).toMatchObject({ status: 'refused' })
  })

  test.each([
    'grpc: received message larger than max (5000000 vs. 4194304)',
    'Received message larger than max (5000000 vs 4194304)',
    'gRPC message exceeds maximum size 4194304: 5000000',
    'Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes',
  ])('too large, as libraries say it: %s', (details) => {
    expect(answerOfFailure({ code: 8, details }).status).toBe('too-large')
  })

  test('a partial success is a success, with what was rejected', () => {
    expect(answerOfResponse(Buffer.alloc(0))).toEqual({ status: 'ok', rejected: 0, message: '' })
    for (const signal of ['traces', 'metrics', 'logs'] as const) {
      expect(answerOfResponse(encodeResponse(signal, 3, 'too old'))).toEqual({
        status: 'ok',
        rejected: 3,
        message: 'too old',
      })
    }
    expect(answerOfResponse(encodeResponse('traces', 0, 'deprecated'))).toMatchObject({
      rejected: 0,
      message: 'deprecated',
    })
    expect(answerOfResponse(encodeResponse('traces', -5, ''))).toMatchObject({ rejected: 0 })
    expect(answerOfResponse(Buffer.from('0aff', 'hex'))).toEqual({ status: 'ok', rejected: 0, message: '' })
  })
})

test.each([
  ['collector:4317', { secure: false, target: 'collector:4317' }],
  ['http://collector', { secure: false, target: 'collector:4317' }],
  ['https://api.example:443/', { secure: true, target: 'api.example:443' }],
  ['[::1]:4317', { secure: false, target: '[::1]:4317' }],
  ['ftp://x', null],
  ['host:99999', null],
  ['https://user:secret@host', null],
  ['host/v1/traces', null],
])('endpoint %s', (text, endpoint) => {
  expect(parseEndpoint(text)).toEqual(endpoint)
})
