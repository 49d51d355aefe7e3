import { expect, test } from 'vitest'
import { keyListOf } from '../../src/model/dictionary.ts'
import { EncodedTexts } from '../../src/model/encoded-texts.ts'

interface Item {
  readonly a: string
  readonly b: string
}

const columns = [(item: Item) => item.a, (item: Item) => item.b, () => '']

function check(encoded: EncodedTexts<Item>, items: readonly Item[]): void {
  encoded.begin(items)
  const lists = columns.map((_, k) => encoded.keyList(k))
  columns.forEach((textOf, k) => {
    const texts = items.map(textOf)
    const list = lists[k]!
    if (texts.every((text) => text === '')) expect(list).toBeNull()
    else expect(Buffer.from(list!).equals(keyListOf(texts))).toBe(true)
  })
}

test('key lists are those of the texts, whatever came before', () => {
  const items: Item[] = [
    { a: '', b: '' },
    { a: 'x', b: '' },
    { a: 'žluťoučký', b: '🐎'.repeat(60) },
    { a: 'long '.repeat(200), b: 'b' },
  ]
  const encoded = new EncodedTexts(columns)
  check(encoded, [])
  check(encoded, [items[0]!])
  check(encoded, items)
  check(encoded, items.toReversed())
  check(encoded, [items[2]!, items[2]!, items[1]!])
  check(
    encoded,
    Array.from({ length: 3000 }, (_, k) => ({ a: `text ${k}`, b: k % 3 === 0 ? '' : 'b'.repeat(k % 300) })),
  )
  check(encoded, items)
})

test('what is remembered is bounded, and the lists are right after it was forgotten', () => {
  const encoded = new EncodedTexts(columns)
  for (let batch = 0; batch < 12; batch++) {
    check(
      encoded,
      Array.from({ length: 2000 }, (_, k) => ({ a: `${batch} ${k}`, b: 'b'.repeat(100) })),
    )
  }
})
