import { expect, test } from 'vitest'
import { COMPRESSIONS } from '../../src/kafka/producer.ts'
import { compressValue, decompressValue, releaseValue } from '../../src/kafka/value-codec.ts'
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

test.each(COMPRESSIONS)('%s: memory given back is gone at once, and nobody else had a part of it', (codec) => {
  const random = seededRandom(9)
  const large = Buffer.from(Array.from({ length: 300_000 }, () => Math.floor(random() * 256)))
  const small = Buffer.from('of a pool')
  const packed = compressValue(codec, large)
  const unpacked = decompressValue(codec, packed)!
  expect(unpacked.equals(large)).toBe(true)
  for (const value of new Set([packed, unpacked])) {
    releaseValue(value)
    expect(value).toHaveLength(0)
  }
  const short = compressValue(codec, small)
  releaseValue(short)
  releaseValue(small)
  expect(decompressValue(codec, short)).toEqual(Buffer.from('of a pool'))
  expect(small.toString()).toBe('of a pool')
  expect(decompressValue(codec, compressValue(codec, large))!.equals(large)).toBe(true)
})
