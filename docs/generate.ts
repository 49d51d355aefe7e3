import { writeFileSync } from 'node:fs'
import { configDocs, errorDocs, schemaDocs } from './generated.ts'
import { apiDocs } from './generated-api.ts'

// Writes the pages that are made from the code: `node docs/generate.ts`. A test compares them with what is checked in.
for (const [name, text] of Object.entries({
  'api.md': await apiDocs(),
  'config.md': configDocs(),
  'errors.md': errorDocs(),
  'schema.md': schemaDocs(),
})) {
  writeFileSync(new URL(name, import.meta.url), text)
}
