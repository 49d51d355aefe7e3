import { expect, test } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import { cutLength, Heap, type Room, viewOf } from '../../src/model/heap.ts'
import { textSpans } from '../../src/model/map-column.ts'

const roomOf = (): Room => ({ dictionaryBytes: 1 << 20, exhausted: false, cut: 0, added: [], addedCount: 0 })

function texts(heap: Heap): string[] {
  const spans = textSpans(heap.bytes, 0, heap.rows)
  return spans.slice(0, -1).map((start, k) => {
    const length = spans[k + 1]! - start
    const prefix = length < 129 ? 1 : 2
    return heap.bytes.toString('utf8', start + prefix, start + length)
  })
}

function put(heap: Heap, row: number, text: string): void {
  const bytes = Buffer.from(`<${text}>`)
  heap.put(row, bytes, viewOf(bytes), 1, bytes.length - 2)
}

test('texts come back as they went in, with empty ones for rows that have none', () => {
  const random = seededRandom(3)
  const heap = new Heap(roomOf(), 64, 1 << 20)
  const expected: string[] = []
  for (let row = 0; row < 2000; row++) {
    const text = random() < 0.5 ? '' : 'aé漢🙂'.repeat(Math.floor(random() * 40)).slice(0, Math.floor(random() * 150))
    expected.push(text.toWellFormed())
    if (text !== '') put(heap, row, text.toWellFormed())
  }
  heap.fill(2000)
  expect(texts(heap)).toEqual(expected)
})

test('an empty text can be put, and lengths of every size', () => {
  const heap = new Heap(roomOf(), 64, 1 << 20)
  const expected = [0, 1, 2, 3, 4, 5, 7, 8, 127, 128, 129, 255, 256, 257, 1000, 16_383].map((n) => 'x'.repeat(n))
  for (const [row, text] of expected.entries()) put(heap, row, text)
  expect(texts(heap)).toEqual(expected)
})

test('bytes that are not UTF-8 become valid', () => {
  const heap = new Heap(roomOf(), 64, 1 << 20)
  const bytes = Buffer.from([0x61, 0xff, 0x62])
  heap.put(0, bytes, viewOf(bytes), 0, 3)
  const long = Buffer.alloc(300, 0xff)
  heap.put(1, long, viewOf(long), 0, 300)
  expect(texts(heap)).toEqual(['a\ufffdb', '\ufffd'.repeat(300)])
})

test('the last text can be taken back, with the empty ones before it', () => {
  const heap = new Heap(roomOf(), 64, 1 << 20)
  put(heap, 2, 'kept')
  const { end, rows } = heap
  put(heap, 7, 'not kept')
  heap.undo(7)
  expect({ end: heap.end, rows: heap.rows }).toEqual({ end, rows })
  heap.undo(7)
  expect(texts(heap)).toEqual(['', '', 'kept'])
})

test('what does not fit marks the room; the block can still be completed', () => {
  const room = roomOf()
  const heap = new Heap(room, 64, 128)
  put(heap, 0, 'x'.repeat(100))
  put(heap, 1, 'y'.repeat(100))
  expect(room.exhausted).toBe(true)
  heap.fill(300)
  expect(texts(heap)).toEqual(['x'.repeat(100), ...new Array(299).fill('')])
})

test('a cut never ends inside a character', () => {
  const bytes = Buffer.from('a漢🙂é')
  const lengths = Array.from({ length: bytes.length }, (_, k) => cutLength(bytes, 0, k))
  expect(lengths).toEqual([0, 1, 1, 1, 4, 4, 4, 4, 8, 8])
})

test('a reset gives back what a large batch needed, little by little', () => {
  const heap = new Heap(roomOf(), 64, 1 << 24)
  for (let row = 0; row < 2000; row++) put(heap, row, 'x'.repeat(1000))
  const large = heap.bytes.length
  for (let round = 0; round < 12; round++) {
    heap.reset()
    put(heap, 0, 'small')
    expect(texts(heap)).toEqual(['small'])
  }
  expect(heap.bytes.length).toBeLessThan(large / 16)
})
