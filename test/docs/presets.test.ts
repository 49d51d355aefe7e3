import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { PRESETS } from '../../src/ingest/lines/presets/index.ts'

const DEPLOY = new URL('../../deploy/presets/', import.meta.url)

test('docs/receivers/presets.md has every preset, and its precision', () => {
  const page = readFileSync(new URL('../../docs/receivers/presets.md', import.meta.url), 'utf8')
  const rows = page.split('\n').filter((line) => line.includes('](../../deploy/presets/'))
  expect(rows).toEqual(
    PRESETS.map(
      ({ name, title, precision }) =>
        `| \`${name}\` | ${title} | ${precision} | [example](../../deploy/presets/${name}.yaml) |`,
    ),
  )
})

test('every preset has an example, and nothing else does', () => {
  expect(readdirSync(DEPLOY).sort()).toEqual(PRESETS.map(({ name }) => `${name}.yaml`).sort())
})

it.each(PRESETS.map(({ name }) => name))('deploy/presets/%s.yaml ends with the part of Sidecast', (name) => {
  const documents = parseAllDocuments(readFileSync(fileURLToPath(new URL(`${name}.yaml`, DEPLOY)), 'utf8'))
  expect(documents.flatMap(({ errors }) => errors)).toEqual([])
  expect(documents.length).toBeGreaterThan(1)
  expect(documents.at(-1)?.toJS()).toEqual({
    ingest: { files: [{ path: expect.stringMatching(/^\//), preset: name }] },
  })
})
