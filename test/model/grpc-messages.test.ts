import { expect, test } from 'vitest'
import { createEntryWriter } from '../../src/ingest/entry/writer.ts'
import { createDecoding, originOf } from '../support/als-decoding.ts'

const KEY = 'envoy.filters.http.grpc_stats'

test('messages of rows that tell them, −1 of others; null where none does', () => {
  const { builders, decoder } = createDecoding()
  const writer = createEntryWriter({ decoder, flush: () => false })
  const add = (filterState: Readonly<Record<string, string>>) => {
    writer.entry.code = 200
    writer.entry.method = 'POST'
    writer.entry.durationNs = 1e6
    for (const [key, json] of Object.entries(filterState)) writer.entry.filterState.add(key, json)
    writer.add(originOf('edge-1'))
  }
  add({ other: '{"request_message_count":"9"}' })
  writer.commit()
  expect(builders.requests.seal().grpcMessages()).toBeNull()
  add({})
  add({ other: '1', [KEY]: '{"request_message_count":"3","response_message_count":"12"}' })
  add({ [KEY]: '{"request_message_count":"3","response_message_count":"12"}', more: '"x"' })
  add({ [KEY]: '"no object"' })
  writer.commit()
  const messages = builders.requests.seal().grpcMessages()
  expect([...messages!.requests]).toEqual([-1, -1, 3, 3, -1])
  expect([...messages!.responses]).toEqual([-1, -1, 12, 12, -1])
})
