import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// `npm test`: the programs the tests need, then lint, types, and every test. The last line is for machines to read.
interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly success: boolean
}

function run(title: string, command: string, args: readonly string[]): Promise<boolean> {
  console.log(`\n── ${title}`)
  return new Promise((done) => {
    const child = spawn(command, args, { stdio: 'inherit' })
    child.on('error', (error) => {
      console.error(`${command}: ${error.message}`)
      done(false)
    })
    child.on('exit', (code) => done(code === 0))
  })
}

const scratch = mkdtempSync(join(tmpdir(), 'sidecast-test-'))
const reportFile = join(scratch, 'report.json')
const steps: [string, string, string[]][] = [
  ['Programs the tests need', process.execPath, ['test/setup.ts']],
  ['Lint', 'biome', ['check', '.']],
  ['Types', 'tsc', ['--noEmit']],
  ['Types of the page', 'tsc', ['-p', 'src/web/page', '--noEmit']],
]
let sound = true
for (const [title, command, args] of steps) {
  if (!(await run(title, command, args))) {
    sound = false
    console.error(`FAILED: ${title}`)
  }
}
const tested = await run('Tests', 'vitest', [
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${reportFile}`,
  ...process.argv.slice(2),
])

let report: Report | undefined
try {
  report = JSON.parse(readFileSync(reportFile, 'utf8')) as Report
} catch (error) {
  console.error(`no report from vitest: ${(error as Error).message}`)
}
rmSync(scratch, { recursive: true, force: true })
// A test that did not run has not passed: skipped ones and failed steps before the tests count as failures.
const passed = report?.numPassedTests ?? 0
const failed = (report?.numFailedTests ?? 1) + (report?.numPendingTests ?? 0) + (sound ? 0 : 1)
const failures = failed === 0 && !tested ? 1 : failed
console.log(`tests: ${passed} passed, ${failures} failed`)
process.exit(failures === 0 ? 0 : 1)
