import { expect, test } from 'vitest'
import { COMPRESSIONS } from '../../src/kafka/producer.ts'
import { compressValue, decompressValue } from '../../src/kafka/value-codec.ts'
import { seededRandom } from '../../src/lib/random.ts'

const random = seededRandom(5)
const bytes = Buffer.from(
  Array.from({ length: 100_000 }, (_, k) => (k % 7 === 0 ? Math.floor(random() * 256) : k % 11)),
)

test.each(COMPRESSIONS)('%s gives back what it was given, in memory of its own', (codec) => {
  const given = Buffer.from(bytes)
  const packed = compressValue(codec, given)
  given.fill(0)
  compressValue(codec, given)
  expect(decompressValue(codec, packed)).toEqual(bytes)
  expect(decompressValue(codec, compressValue(codec, Buffer.alloc(0)))).toEqual(Buffer.alloc(0))
  if (codec !== 'none') expect(packed.length).toBeLessThan(bytes.length / 2)
})

test.each(COMPRESSIONS.filter((codec) => codec !== 'none'))('%s refuses what it did not make', (codec) => {
  expect(decompressValue(codec, Buffer.from('neither of them'))).toBeNull()
})
