import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zstdCompressSync } from 'node:zlib'
import { expect, onTestFinished, test } from 'vitest'
import { startSidecast } from '../support/sidecast.ts'

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts')

interface Result {
  readonly added: number
  readonly accepted: number
  readonly rejected: number
  readonly error: string | null
}

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-backfill-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }))
  return dir
}

/** Some 40 MB: progress comes each second, and the first kill must come before the end. */
const LINES = 160_000
const nowMs = Date.now() - 60_000
function lines(from: number, to: number): string {
  let text = ''
  for (let n = from; n < to; n++) {
    text += `{"start_time":"${new Date(nowMs).toISOString()}","method":"GET","path":"/${n}","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","duration":5,"bytes_sent":1,"bytes_received":0,"upstream_cluster":"outbound|80||a.b.svc.cluster.local","request_id":"${n}"}\n`
  }
  return text
}

/** Runs it, or kills it after the first progress that says so. */
async function backfill(args: readonly string[], killAt = Number.POSITIVE_INFINITY): Promise<Result[]> {
  const child = spawn(process.execPath, [MAIN, 'backfill', '--json', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    for (const [, accepted] of text.matchAll(/"accepted":(\d+)/g)) if (Number(accepted) >= killAt) child.kill('SIGKILL')
  })
  await once(child, 'close')
  return output
    .split('\n')
    .filter((line) => line.startsWith('{"file"'))
    .map((line) => (JSON.parse(line) as { file: Result }).file)
}

async function stored(sidecast: Awaited<ReturnType<typeof startSidecast>>): Promise<number> {
  const { rows } = await sidecast.get<{ rows: { stored: number; in_journal: number }[] }>('/api/v1/ledger')
  return rows.reduce((sum, row) => sum + row.stored + row.in_journal, 0)
}

test('without a process it opens the data directory; killed and run again, under any name, it doubles nothing', async () => {
  const dir = folder()
  const data = join(dir, 'data')
  const file = join(dir, 'old.log')
  writeFileSync(file, lines(0, LINES))
  expect(await backfill(['--data', data, '--preset', 'istio-json', file], 1)).toEqual([])
  const [result] = await backfill(['--data', data, file])
  expect(result).toMatchObject({ accepted: LINES, rejected: 0, error: null })
  expect(result!.added).toBeLessThan(LINES)
  const sidecast = await startSidecast({ data })
  onTestFinished(() => sidecast.close())
  await expect.poll(() => stored(sidecast), { timeout: 60_000 }).toBe(LINES)

  // To the process that runs: compressed, copied and grown, and another file that begins alike.
  const url = ['--url', `http://${sidecast.http}`]
  writeFileSync(join(dir, 'old.log.zst'), zstdCompressSync(readFileSync(file)))
  copyFileSync(file, join(dir, 'copy.log'))
  appendFileSync(
    join(dir, 'copy.log'),
    `${lines(LINES, LINES + 100)}no line\n${lines(LINES + 100, LINES + 110).trimEnd()}`,
  )
  writeFileSync(join(dir, 'other.log'), lines(0, 1) + lines(2 * LINES, 2 * LINES + 50))
  const files = ['old.log.zst', 'copy.log', 'copy.log', 'other.log', 'other.log', 'old.log'].map((name) =>
    join(dir, name),
  )
  const results = await backfill([...url, ...files])
  expect(results.map(({ added, rejected, error }) => [added, rejected, error])).toEqual([
    [0, 0, null],
    [110, 1, null],
    [0, 1, null],
    [51, 0, null],
    [0, 0, null],
    [0, 1, null],
  ])
  await expect.poll(() => stored(sidecast), { timeout: 60_000 }).toBe(LINES + 161)
})

test('what cannot be sent is said, and the exit code tells', async () => {
  const child = spawn(process.execPath, [MAIN, 'backfill', '--preset', 'istio-jso', 'x.log'], { stdio: 'pipe' })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const [code] = (await once(child, 'close')) as [number]
  expect(code).toBe(2)
  expect(errors).toContain('did you mean istio-json?')
})
