import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { configDocs, errorDocs, schemaDocs } from '../../docs/generated.ts'
import { apiDocs } from '../../docs/generated-api.ts'

it.each([
  ['api.md', apiDocs],
  ['config.md', configDocs],
  ['errors.md', errorDocs],
  ['schema.md', schemaDocs],
])('docs/%s is what the code says (node docs/generate.ts makes it anew)', async (name, make) => {
  expect(readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')).toBe(await make())
})
