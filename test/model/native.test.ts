import { expect, test } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import { Pieces } from '../../src/model/native.ts'

test('a block is its pieces in order, block after block', () => {
  const random = seededRandom(3)
  const pieces = new Pieces()
  const header = Uint8Array.of(1, 2)
  for (let block = 0; block < 6; block++) {
    const all = Array.from({ length: 1 + Math.floor(random() * 300) }, (_, k) =>
      new Uint8Array(Math.floor(random() ** 4 * 9000)).fill(k),
    )
    pieces.begin()
    for (let k = 0; k < all.length; k += 2) pieces.push(...all.slice(k, k + 2))
    const buffers = pieces.finish(header)
    expect(Buffer.concat(buffers).equals(Buffer.concat([header, ...all]))).toBe(true)
    const large = all.filter(({ length }) => length > 4096)
    expect(large.every((piece) => buffers.includes(piece))).toBe(true)
    expect(buffers.length).toBeLessThanOrEqual(2 * large.length + 10)
  }
})
