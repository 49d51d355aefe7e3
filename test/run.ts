import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// `npm test`: the programs the tests need, then lint, types, and every test. The last line is for machines to read.
interface Step {
  readonly title: string
  readonly command: string
  readonly args: readonly string[]
  readonly live?: boolean
}

interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly success: boolean
}

/** What takes long says what it does while it does it; what the others say is shown when they have ended. */
function run({ title, command, args, live = false }: Step): Promise<boolean> {
  if (live) console.log(`\n── ${title}`)
  return new Promise((done) => {
    const child = spawn(command, args, { stdio: live ? 'inherit' : ['ignore', 'pipe', 'pipe'] })
    const said: Buffer[] = []
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (bytes: Buffer) => said.push(bytes))
    const end = (good: boolean): void => {
      if (!live) console.log(`\n── ${title}\n${Buffer.concat(said).toString()}`)
      if (!good) console.error(`FAILED: ${title}`)
      done(good)
    }
    child.on('error', (error) => {
      console.error(`${command}: ${error.message}`)
      end(false)
    })
    child.on('close', (code) => end(code === 0))
  })
}

const scratch = mkdtempSync(join(tmpdir(), 'sidecast-test-'))
const reportFile = join(scratch, 'report.json')
const before: Step[] = [
  { title: 'Programs the tests need', command: process.execPath, args: ['test/setup.ts'], live: true },
  { title: 'Lint', command: 'biome', args: ['check', '.'] },
  { title: 'Types', command: 'tsc', args: ['--noEmit'] },
  { title: 'Types of the page', command: 'tsc', args: ['-p', 'src/web/page', '--noEmit'] },
]
const sound = (await Promise.all(before.map(run))).every((good) => good)
const json = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`]
const tests = ['run', ...json, ...process.argv.slice(2)]
const tested = await run({ title: 'Tests', command: 'vitest', args: tests, live: true })

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
