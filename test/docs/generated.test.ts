import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { configDocs, errorDocs } from '../../docs/generated.ts'

it.each([
  ['config.md', configDocs],
  ['errors.md', errorDocs],
])('docs/%s is what the code says (node docs/generate.ts makes it anew)', (name, make) => {
  expect(readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')).toBe(make())
})
