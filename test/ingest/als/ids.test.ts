import { expect, test } from 'vitest'
import { hexInto, nibble, sameBytes, uuidInto } from '../../../src/ingest/als/ids.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { viewOf } from '../../../src/model/heap.ts'

/** Text of the words as they lie in memory: two little-endian UInt64, printed high half first. */
function hexOf(words: Int32Array, at: number): string {
  const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0')
  return hex(words[at + 1]!) + hex(words[at]!)
}

function parsed(text: string): string | null {
  const bytes = Buffer.from(`--${text}`, 'latin1')
  const out = new Int32Array(2)
  return hexInto(viewOf(bytes), 2, out, 0) ? hexOf(out, 0) : null
}

test('hexadecimal digits are read as they stand', () => {
  const random = seededRandom(1)
  for (let k = 0; k < 2000; k++) {
    let text = ''
    for (let i = 0; i < 16; i++) text += '0123456789abcdef'[Math.floor(random() * 16)]
    expect(parsed(text)).toBe(text)
  }
})

test('every other character is found, in every place', () => {
  let wrong = 0
  for (let place = 0; place < 16; place++) {
    for (let character = 0; character < 256; character++) {
      const text = '0123456789abcdef'.split('')
      text[place] = String.fromCharCode(character)
      const isDigit = /[0-9a-f]/.test(text[place]!)
      if ((parsed(text.join('')) !== null) !== isDigit) wrong++
      if (nibble(character) >= 0 !== isDigit) wrong++
    }
  }
  expect(wrong).toBe(0)
})

test('a UUID is 16 bytes; what is none, or nil, is text', () => {
  const uuid = (text: string): string | null => {
    const bytes = Buffer.from(text, 'latin1')
    const out = new Int32Array(8)
    return uuidInto(bytes, viewOf(bytes), 0, out, 1) ? hexOf(out, 4) + hexOf(out, 6) : null
  }
  const good = '0f8fad5b-d9cb-469f-a165-70867728950e'
  expect(uuid(good)).toBe(good.replaceAll('-', ''))
  for (let place = 0; place < 36; place++) {
    const text = good.split('')
    text[place] = place % 2 === 0 ? 'g' : 'A'
    expect(uuid(text.join(''))).toBeNull()
  }
  expect(uuid('00000000-0000-0000-0000-000000000000')).toBeNull()
})

test('bytes are compared to the last one', () => {
  for (let length = 0; length < 20; length++) {
    const bytes = Buffer.from('x'.repeat(length) + 'y'.repeat(3) + 'x'.repeat(length))
    expect(sameBytes(bytes, viewOf(bytes), 0, length + 3, length)).toBe(true)
    if (length === 0) continue
    bytes[length - 1] = 0
    expect(sameBytes(bytes, viewOf(bytes), 0, length + 3, length)).toBe(false)
  }
})
