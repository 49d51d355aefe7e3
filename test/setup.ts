import { PROGRAMS } from './support/programs.ts'

/** Installs every program the tests start that npm does not bring. `npm test` runs it first; running it again is quick. */
const missing: string[] = []
for (const [name, find] of Object.entries(PROGRAMS)) {
  try {
    process.stderr.write(`${name.padEnd(9)} ${await find()}\n`)
  } catch (error) {
    missing.push(name)
    process.stderr.write(`${name.padEnd(9)} missing: ${error instanceof Error ? error.message : String(error)}\n`)
  }
}
if (missing.length > 0) {
  process.stderr.write(`Tests need ${missing.join(', ')}; see the reasons above.\n`)
  process.exitCode = 1
}
