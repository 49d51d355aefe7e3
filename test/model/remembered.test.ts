import { expect, test } from 'vitest'
import { Dictionary, internText } from '../../src/model/dictionary.ts'
import type { Room } from '../../src/model/heap.ts'
import { Remembered } from '../../src/model/remembered.ts'

function dictionary(): Dictionary {
  const room: Room = { dictionaryBytes: 8 << 20, exhausted: false, cut: 0, added: [], addedCount: 0 }
  return new Dictionary({ room, textBytesMax: 8192 })
}

function find<Value>(memory: Remembered<Value>, number: number, from: Dictionary, texts: string[]): Value | undefined {
  memory.begin(number)
  for (const text of texts) memory.text(from, text === '' ? 0 : internText(from, text))
  return memory.find()
}

test('a value is found again by equal texts, from another dictionary too, and by no other', () => {
  const memory = new Remembered<number>(1 << 20)
  const keys: [number, string[]][] = [
    [1, ['a', '']],
    [1, ['', 'a']],
    [2, ['a', '']],
    [1, ['ab', 'c']],
    [1, ['a', 'bc']],
    [1, ['', '']],
    [1, ['', 'x'.repeat(3000)]],
    [1, ['', `${'x'.repeat(2999)}y`]],
    [1, ['žluť', 'x'.repeat(300)]],
  ]
  const first = dictionary()
  keys.forEach(([number, texts], value) => {
    expect(find(memory, number, first, texts)).toBeUndefined()
    memory.keep(value)
  })
  const second = dictionary()
  for (const text of ['bc', 'c', 'other']) internText(second, text)
  expect(keys.map(([number, texts]) => find(memory, number, second, texts))).toEqual(keys.map((_, value) => value))
})

test('what was looked for and not kept is not found', () => {
  const memory = new Remembered<string>(1 << 20)
  const from = dictionary()
  expect(find(memory, 1, from, ['a'])).toBeUndefined()
  expect(find(memory, 1, from, ['a'])).toBeUndefined()
})

test('it begins again when it is full, and is right all the same', () => {
  const memory = new Remembered<number>(10_000)
  const from = dictionary()
  let found = 0
  for (let round = 0; round < 3; round++) {
    for (let k = 0; k < 500; k++) {
      const value = find(memory, k, from, [`text ${k}`])
      if (value === undefined) memory.keep(k)
      else {
        found++
        expect(value).toBe(k)
      }
      if (find(memory, k, from, [`text ${k}`]) === k) found++
    }
  }
  expect(found).toBeGreaterThan(1400)
})

test('a key that is larger than all of it is never kept', () => {
  const memory = new Remembered<number>(1000)
  const from = dictionary()
  for (let k = 0; k < 3; k++) {
    expect(find(memory, 1, from, ['x'.repeat(2000)])).toBeUndefined()
    memory.keep(1)
  }
  expect(find(memory, 1, from, ['short'])).toBeUndefined()
  memory.keep(2)
  expect(find(memory, 1, from, ['short'])).toBe(2)
})
