import { expect, test } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import { Dictionary, FixedDictionary, intern, internLast, internText, keyListOf } from '../../src/model/dictionary.ts'
import { type Room, viewOf } from '../../src/model/heap.ts'

const roomOf = (dictionaryBytes = 1 << 20): Room => ({
  dictionaryBytes,
  exhausted: false,
  cut: 0,
  added: [],
  addedCount: 0,
})
const create = (room = roomOf(), textBytesMax = 8192): Dictionary => new Dictionary({ room, textBytesMax })

test('the same bytes get the same code, other bytes another one, whatever their length', () => {
  const random = seededRandom(7)
  const room = roomOf(1 << 30)
  const dictionary = create(room)
  const codes = new Map<string, number>()
  for (let k = 0; k < 8_000; k++) {
    const length = Math.floor(random() * 40)
    let text = ''
    for (let i = 0; i < length; i++) text += 'ab'[Math.floor(random() * 2)]
    if (k % 3 === 0) text = text.slice(0, 6)
    const bytes = Buffer.from(`..${text}..`)
    const code = (k % 2 === 0 ? intern : internLast)(dictionary, bytes, viewOf(bytes), 2, text.length)
    expect(codes.get(text) ?? code).toBe(code)
    codes.set(text, code)
    expect(dictionary.text(code)).toBe(text)
  }
  expect(room.exhausted).toBe(false)
  expect(new Set(codes.values()).size).toBe(codes.size)
  expect(dictionary.count).toBe(codes.has('') ? codes.size : codes.size + 1)
})

test('code 0 is the empty text', () => {
  const dictionary = create()
  expect(internText(dictionary, '')).toBe(0)
  expect(dictionary.text(0)).toBe('')
  expect(internText(dictionary, 'a')).toBe(1)
})

test('the key list is a varint length and the bytes, in the order of codes', () => {
  const dictionary = create()
  const texts = ['', 'GET', 'é', 'x'.repeat(300)]
  for (const text of texts) internText(dictionary, text)
  expect(Buffer.from(dictionary.keyList())).toEqual(Buffer.from(keyListOf(texts)))
  expect(Buffer.from(new FixedDictionary(texts).keyList())).toEqual(Buffer.from(keyListOf(texts)))
})

test('the newest entries can be taken back, through growth', () => {
  const room = roomOf()
  const dictionary = create(room)
  for (let k = 0; k < 500; k++) internText(dictionary, `before ${k}`)
  const { count, end } = dictionary
  const left = room.dictionaryBytes
  room.addedCount = 0
  for (let k = 0; k < 5000; k++) internText(dictionary, `after ${k}`)
  for (const one of room.added.slice(0, room.addedCount).reverse()) one.undo()
  expect({ count: dictionary.count, end: dictionary.end, left: room.dictionaryBytes }).toEqual({ count, end, left })
  for (let k = 0; k < 500; k++) expect(internText(dictionary, `before ${k}`)).toBe(k + 1)
  expect(dictionary.count).toBe(count)
  expect(internText(dictionary, 'after 0')).toBe(501)
})

test('what does not fit marks the room and adds nothing', () => {
  const room = roomOf(1000)
  const dictionary = create(room)
  while (!room.exhausted) internText(dictionary, `text ${dictionary.count}`)
  const { count } = dictionary
  expect(count).toBeGreaterThan(5)
  expect(internText(dictionary, 'one more')).toBe(0)
  expect(dictionary.count).toBe(count)
  expect(internText(dictionary, 'text 3')).toBe(3)
})

test('there are never more than 65 536 codes', () => {
  const room = roomOf(1 << 30)
  const dictionary = create(room)
  let wrong = 0
  for (let k = 1; k < 65_536; k++) if (internText(dictionary, `${k}`) !== k) wrong++
  expect(wrong).toBe(0)
  expect(room.exhausted).toBe(false)
  expect(internText(dictionary, 'one more')).toBe(0)
  expect(room.exhausted).toBe(true)
})

test('a long text is cut at a character, counted, and found again', () => {
  const room = roomOf()
  const dictionary = create(room, 10)
  const code = internText(dictionary, '12345678漢字')
  expect(dictionary.text(code)).toBe('12345678')
  expect(room.cut).toBe(1)
  expect(internText(dictionary, '12345678漢字')).toBe(code)
  expect(dictionary.count).toBe(2)
})

test('what is not UTF-8 becomes valid, and is found again', () => {
  const dictionary = create()
  const bytes = Buffer.from([0x61, 0xff, 0x62, 0xe6, 0xbc])
  const code = intern(dictionary, bytes, viewOf(bytes), 0, bytes.length)
  expect(dictionary.text(code)).toBe('a\ufffdb\ufffd')
  expect(intern(dictionary, bytes, viewOf(bytes), 0, bytes.length)).toBe(code)
  expect(dictionary.count).toBe(2)
})

test('raw keys are kept as they are', () => {
  const dictionary = new Dictionary({ room: roomOf(), textBytesMax: 4, raw: true })
  const bytes = Buffer.from([0xff, 0xfe, 0, 1, 2, 3, 4, 5])
  const code = intern(dictionary, bytes, viewOf(bytes), 0, bytes.length)
  expect(Buffer.from(dictionary.bytes(code))).toEqual(bytes)
})

test('a reset forgets everything and gives back what a large batch needed', () => {
  const dictionary = create(roomOf(1 << 30))
  for (let k = 0; k < 40_000; k++) internText(dictionary, `text ${k}`)
  const large = dictionary.slots.length
  for (let k = 0; k < 8; k++) {
    dictionary.reset()
    expect(internText(dictionary, 'first')).toBe(1)
    expect(internText(dictionary, 'text 1')).toBe(2)
    expect(internText(dictionary, 'first')).toBe(1)
  }
  expect(dictionary.slots.length).toBeLessThan(large / 8)
})

test('classify is asked once for each entry', () => {
  const dictionary = create()
  const asked: string[] = []
  dictionary.classify = (text) => {
    asked.push(text)
    return text.length
  }
  for (const text of ['abc', 'de', 'abc', 'de', 'abc']) internText(dictionary, text)
  expect(asked).toEqual(['abc', 'de'])
  expect(dictionary.act[1]).toBe(3)
  expect(dictionary.act[2]).toBe(2)
})
