import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { seededRandom } from '../../src/lib/random.ts'
import { type Sidecast, startSidecast } from '../support/sidecast.ts'

/**
 * A large JSON log is brought in, killed on the way again and again, and brought in once more when it is complete:
 *
 *   node test/campaign/backfill.ts [--megabytes 1000] [--kills 4] [--seed 1]
 *
 * Every line has an id of its own. What must hold: each line is stored once; what runs says how far it is, never less than
 * it said before; the last run adds nothing. Prints one JSON object; the exit code is 1 when something does not hold.
 */
const { values } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '1000' },
    kills: { type: 'string', default: '4' },
    seed: { type: 'string', default: '1' },
  },
})
const MAIN = new URL('../../src/main.ts', import.meta.url).pathname
const random = seededRandom(Number(values.seed))
const dir = mkdtempSync(join(tmpdir(), 'sidecast-backfill-'))
const file = join(dir, 'old.log')
const differences: string[] = []

const lines = write(file, Number(values.megabytes) * 1e6)
const sidecast = await startSidecast({ data: join(dir, 'data') })
try {
  const began = performance.now()
  const shares: number[] = []
  let progress = 0
  for (let kill = 0; kill < Number(values.kills); kill++) {
    const run = await backfill(sidecast, Math.floor((random() * lines) / Number(values.kills)))
    progress += run.progress
    shares.push(run.accepted)
  }
  const whole = await backfill(sidecast, Number.POSITIVE_INFINITY)
  progress += whole.progress
  const seconds = (performance.now() - began) / 1000
  if (whole.accepted !== lines) differences.push(`the last line said ${whole.accepted} of ${lines} lines`)
  const again = await backfill(sidecast, Number.POSITIVE_INFINITY)
  if (again.added !== 0) differences.push(`a run over what is stored added ${again.added} lines`)
  const stored = await settled(sidecast, lines)
  if (stored.rows !== lines) differences.push(`${stored.rows} rows are stored for ${lines} lines`)
  if (stored.distinct !== lines) differences.push(`${stored.distinct} distinct paths are stored for ${lines} lines`)
  if (progress < Number(values.kills)) differences.push(`progress was shown ${progress} times`)
  console.log(
    JSON.stringify({
      campaign: 'backfill',
      ...values,
      lines,
      killedAt: shares,
      seconds,
      progress,
      stored,
      differences,
    }),
  )
} finally {
  await sidecast.close()
  rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 })
}
process.exitCode = differences.length === 0 ? 0 : 1

/** Lines as Envoy's JSON format gives them, 600 bytes each, of the last hour. Returns how many. */
function write(path: string, bytes: number): number {
  const fd = openSync(path, 'w')
  const startMs = Date.now() - 3_600_000
  let [n, written] = [0, 0]
  while (written < bytes) {
    let text = ''
    for (let k = 0; k < 2000; k++, n++) {
      const time = new Date(startMs + Math.floor((n / (bytes / 600)) * 3_500_000)).toISOString()
      text += `{"start_time":"${time}","method":"GET","path":"/orders/${n}","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","response_code_details":"via_upstream","duration":${n % 400},"bytes_sent":1234,"bytes_received":0,"upstream_host":"10.0.${n % 4}.${n % 250}:8080","upstream_cluster":"outbound|80||orders-${n % 40}.shop.svc.cluster.local","authority":"orders-${n % 40}","user_agent":"okhttp/4.12.0","request_id":"${n.toString(16).padStart(8, '0')}-1111-4222-8333-944445555666","downstream_remote_address":"10.1.${n % 9}.${n % 251}:41234","downstream_local_address":"10.0.0.1:80","route_name":"default","x_forwarded_for":"-","requested_server_name":"-","upstream_service_time":"${n % 390}"}\n`
    }
    written += writeSync(fd, text)
  }
  closeSync(fd)
  return n
}

interface Run {
  /** Lines of the file that are safe, as it last said; of them those that this run brought. */
  readonly accepted: number
  readonly added: number
  /** How often it said how far it is. */
  readonly progress: number
}

/** Runs it to the end, or kills it once this many lines more than at its first word are safe. */
async function backfill(to: Sidecast, killAfter: number): Promise<Run> {
  const child = spawn(process.execPath, [MAIN, 'backfill', '--json', '--url', `http://${to.http}`, file], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let rest = ''
  let first: number | null = null
  const run = { accepted: 0, added: 0, progress: 0 }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const whole = (rest + text).split('\n')
    rest = whole.pop()!
    for (const line of whole) {
      const { accepted = run.accepted, added = run.added } = Object.values(
        JSON.parse(line) as Record<string, Partial<Run>>,
      )[0]!
      if (accepted < run.accepted) differences.push(`progress went back from ${run.accepted} to ${accepted}`)
      run.accepted = accepted
      run.added = added
      run.progress++
      first ??= accepted
      if (accepted - first >= killAfter) child.kill('SIGKILL')
    }
  })
  await once(child, 'close')
  return run
}

/** What the store has, once nothing waits any more. */
async function settled(from: Sidecast, expected: number): Promise<{ rows: number; distinct: number }> {
  let found = { rows: 0, distinct: 0 }
  for (let k = 0; k < 600; k++) {
    const { series } = await from.get<{ series: { points: { n: number }[] }[] }>(
      '/api/v1/latency?from=-3h&to=now&method=exact&q=0.5&where=source!=none',
    )
    const rows = series[0]?.points[0]?.n ?? 0
    if (rows >= expected && rows === found.rows) break
    found = { rows, distinct: 0 }
    await sleep(500)
  }
  // Paths are unique: rows that are there twice show as fewer paths than rows.
  const paths = new Set<string>()
  let cursor: string | null = null
  do {
    const page: { rows: { path: string }[]; next_cursor: string | null } = await from.get(
      `/api/v1/requests?from=-3h&to=now&limit=10000&columns=path${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
    )
    for (const { path } of page.rows) paths.add(path)
    cursor = page.next_cursor
  } while (cursor !== null)
  return { rows: found.rows, distinct: paths.size }
}
