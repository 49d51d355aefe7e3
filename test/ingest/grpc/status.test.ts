import { expect, test } from 'vitest'
import { encodeStatusMessage, OK, status, statusTrailers } from '../../../src/ingest/grpc/status.ts'

test.each([
  ['plain text.', 'plain text.'],
  ['100 % sure', '100 %25 sure'],
  ['two\nlines', 'two%0Alines'],
  ['Grüße', 'Gr%C3%BC%C3%9Fe'],
  ['\u0000\u007f', '%00%7F'],
])('the message %j travels as %s', (text, encoded) => {
  expect(encodeStatusMessage(text)).toBe(encoded)
  expect(decodeURIComponent(encoded)).toBe(text)
})

test('an empty message is left out', () => {
  expect(statusTrailers(OK)).toEqual({ 'grpc-status': '0' })
  expect(statusTrailers(status('unimplemented', 'no'))).toEqual({ 'grpc-status': '12', 'grpc-message': 'no' })
})
