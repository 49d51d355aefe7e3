import { expect, test } from 'vitest'
import { createGenerations } from '../../src/lib/generations.ts'

test('what is used stays, what is not is forgotten, and the bound holds', () => {
  const map = createGenerations<number, string>(100)
  for (let k = 0; k < 10_000; k++) {
    map.set(k, `value ${k}`)
    expect(map.get(0)).toBe('value 0')
    expect(map.size).toBeLessThanOrEqual(101)
  }
  expect(map.get(1)).toBeUndefined()
  expect(map.get(9_999)).toBe('value 9999')
})
