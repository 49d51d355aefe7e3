import { compatibilityPartitioner, murmur2 as theirs } from '@platformatic/kafka'
import { expect, test } from 'vitest'
import { murmur2, partitionOf } from '../../src/kafka/partition.ts'
import { seededRandom } from '../../src/lib/random.ts'

// Of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
test.each([
  ['21', -973932308],
  ['foobar', -790332482],
  ['a-little-bit-long-string', -985981536],
  ['a-little-bit-longer-string', -1486304829],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
])('hashes %s as Java does', (text, hash) => {
  expect(murmur2(Buffer.from(text))).toBe(hash)
})

test('keys go to the partitions that other clients give them', () => {
  const random = seededRandom(7)
  for (let k = 0; k < 500; k++) {
    const key = Buffer.from(Array.from({ length: Math.floor(random() * 40) }, () => Math.floor(random() * 256)))
    expect(murmur2(key)).toBe(theirs(key) | 0)
    expect(partitionOf(key, 12)).toBe(compatibilityPartitioner({ topic: 't', value: key, key }, key) % 12)
  }
})
