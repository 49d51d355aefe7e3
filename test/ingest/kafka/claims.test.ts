import { expect, test } from 'vitest'
import {
  beginningOf,
  decodeClaim,
  decodeNote,
  decodeRelease,
  encodeClaim,
  encodeNote,
  encodeRelease,
} from '../../../src/ingest/kafka/claims.ts'

const AT = { topic: 't', partition: 3 }
const committed = (offset: bigint, metadata: string) => ({ ...AT, offset, metadata })
const MINE = encodeClaim({ owner: 'me', claim: 'life-7' })

test('a claim survives the metadata of a commit; anything else is none', () => {
  expect(decodeClaim(MINE)).toEqual({ owner: 'me', claim: 'life-7' })
  for (const metadata of [
    '',
    'sidecast',
    'sidecast me',
    'sidecast me life-7 more',
    'other me life-7',
    'sidecast m/e x',
  ]) {
    expect(decodeClaim(metadata)).toBeNull()
  }
})

test('a note and a release speak of their own claim alone', () => {
  const place = { offset: 9_007_199_254_740_993n, within: 4 }
  const note: unknown = JSON.parse(JSON.stringify(encodeNote('life-7', place)))
  expect(decodeNote(note, 'life-7')).toEqual(place)
  expect(decodeNote(note, 'life-8')).toBeNull()
  const release = encodeRelease(AT, 'life-7', place)
  expect(decodeRelease(release, 'life-7')).toEqual(place)
  expect(decodeRelease(release, 'life-6')).toBeNull()
})

test.each([
  null,
  7,
  {},
  { claim: 'life-7', offset: 7, within: 0 },
  { claim: 'life-7', offset: '-1', within: 0 },
  { claim: 'life-7', offset: '7', within: -1 },
  { claim: 'life-7', offset: '7' },
])('a note %j is not believed', (note) => {
  expect(decodeNote(note, 'life-7')).toBeNull()
})

test.each([
  { name: 'nothing was committed', committed: undefined, note: undefined, begin: { kind: 'default' } },
  {
    name: 'settled: where the commit says, whatever was noted before',
    committed: committed(90n, ''),
    note: encodeNote('life-6', { offset: 95n, within: 0 }),
    begin: { kind: 'at', place: { offset: 90n, within: 0 } },
  },
  {
    name: 'metadata of another program counts as settled',
    committed: committed(90n, 'app=1'),
    note: undefined,
    begin: { kind: 'at', place: { offset: 90n, within: 0 } },
  },
  {
    name: 'our claim, of which nothing was stored',
    committed: committed(90n, MINE),
    note: encodeNote('life-6', { offset: 90n, within: 0 }),
    begin: { kind: 'at', place: { offset: 90n, within: 0 } },
  },
  {
    name: 'our claim, stored up to the middle of a record',
    committed: committed(90n, MINE),
    note: encodeNote('life-7', { offset: 96n, within: 12 }),
    begin: { kind: 'at', place: { offset: 96n, within: 12 } },
  },
  {
    name: 'the claim of another one',
    committed: committed(90n, encodeClaim({ owner: 'you', claim: 'x-1' })),
    note: encodeNote('x-1', { offset: 96n, within: 0 }),
    begin: { kind: 'wait', claim: { owner: 'you', claim: 'x-1' }, from: { offset: 90n, within: 0 } },
  },
])('where to begin: $name', ({ committed, note, begin }) => {
  expect(beginningOf(committed, note, 'me')).toEqual(begin)
})
