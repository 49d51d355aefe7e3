import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { seededRandom } from '../src/lib/random.ts'
import { startSidecast } from '../test/support/sidecast.ts'
import { childrenOf, processFigures } from './support/process-figures.ts'

/**
 * CPU seconds of all processes per million lines, from the socket or the file to rows in the store, its merges included:
 *
 *     node bench/log-lines.ts [--form json|text] [--via http|files] [--count 1000000]
 *
 * Lines are those of Istio's default formats, with ids, 40 paths and 20 upstreams. JSON.
 */
const { values } = parseArgs({
  options: {
    form: { type: 'string', default: 'json' },
    via: { type: 'string', default: 'http' },
    count: { type: 'string', default: '1000000' },
    warm: { type: 'string', default: '200000' },
  },
})
const count = Number(values.count)
const warm = Number(values.warm)
const preset = values.form === 'json' ? 'istio-json' : 'istio-text'
const PART_BYTES = 2 << 20

const random = seededRandom(1)
const hex = (digits: number): string => {
  let text = ''
  while (text.length < digits)
    text += Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0')
  return text.slice(0, digits)
}

function line(nowMs: number): string {
  const time = new Date(nowMs).toISOString()
  const path = `/api/v1/items/${Math.floor(random() * 40)}`
  const id = `${hex(8)}-${hex(4)}-4${hex(3)}-9${hex(3)}-${hex(12)}`
  const host = `10.0.0.${Math.floor(random() * 20)}:8080`
  const cluster = 'outbound|8080|v1|items.shop.svc.cluster.local'
  const duration = Math.floor(random() ** 4 * 500)
  if (values.form === 'json') {
    return `{"start_time":"${time}","method":"GET","path":"${path}","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","response_code_details":"via_upstream","connection_termination_details":null,"upstream_transport_failure_reason":null,"bytes_received":0,"bytes_sent":512,"duration":${duration},"upstream_service_time":"${duration}","x_forwarded_for":null,"user_agent":"Mozilla/5.0","request_id":"${id}","authority":"items:8080","upstream_host":"${host}","upstream_cluster":"${cluster}","upstream_local_address":"10.0.0.9:41000","downstream_local_address":"10.1.0.1:8080","downstream_remote_address":"10.0.0.9:52000","requested_server_name":null,"route_name":"default"}\n`
  }
  return `[${time}] "GET ${path} HTTP/1.1" 200 - via_upstream - "-" 0 512 ${duration} ${duration} "-" "Mozilla/5.0" "${id}" "items:8080" "${host}" ${cluster} 10.0.0.9:41000 10.1.0.1:8080 10.0.0.9:52000 - default\n`
}

function parts(lines: number): Buffer[] {
  const made: Buffer[] = []
  const nowMs = Date.now()
  let text = ''
  for (let n = 0; n < lines; n++) {
    text += line(nowMs - 60_000 + Math.floor((n / lines) * 60_000))
    if (text.length < PART_BYTES && n < lines - 1) continue
    made.push(Buffer.from(text))
    text = ''
  }
  return made
}

const dir = mkdtempSync(join(tmpdir(), 'sidecast-bench-lines-'))
const logs = join(dir, 'logs')
mkdirSync(logs)
const files = JSON.stringify([{ paths: [join(logs, '*.log')], preset, node: 'bench' }])
const sidecast = await startSidecast({
  data: join(dir, 'data'),
  set: [`ingest.files=${files}`, 'journal.keepAfterAck=10s'],
})
try {
  const [store] = childrenOf(sidecast.pid)
  let batch = 0
  const send = async (bodies: readonly Buffer[]): Promise<void> => {
    batch++
    if (values.via === 'files') {
      const file = join(dir, `${batch}.log`)
      writeFileSync(file, Buffer.concat(bodies))
      renameSync(file, join(logs, `${batch}x.log`))
      return
    }
    // A few at a time, as agents of several nodes send: each answer waits for an fsync.
    const left = [...bodies.entries()]
    const sendLeft = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) await post(`${batch}-${next[0]}`, next[1])
    }
    await Promise.all([sendLeft(), sendLeft(), sendLeft(), sendLeft()])
  }
  const post = async (key: string, body: Buffer): Promise<void> => {
    const response = await fetch(`http://${sidecast.http}/ingest/v1/logs?preset=${preset}&node=bench`, {
      method: 'POST',
      body: body as Uint8Array<ArrayBuffer>,
      headers: { 'content-type': 'text/plain', 'idempotency-key': key },
    })
    const answer = (await response.json()) as { rejected: number }
    if (response.status !== 200 || answer.rejected !== 0) throw new Error(JSON.stringify(answer))
  }
  const stored = async (): Promise<number> => {
    const { rows } = await sidecast.get<{ rows: { stored: number }[] }>('/api/v1/ledger')
    return rows.reduce((sum, row) => sum + row.stored, 0)
  }
  const settled = async (rows: number): Promise<void> => {
    while ((await stored()) < rows) await sleep(250)
    // No merge runs: the store has done nothing worth the name for three seconds.
    for (let before = 0; ; ) {
      const { cpuSeconds } = processFigures(store!)
      if (cpuSeconds - before < 0.15) return
      before = cpuSeconds
      await sleep(3000)
    }
  }
  const bodies = parts(count)
  await send(parts(warm))
  await settled(warm)
  const before = [processFigures(sidecast.pid), processFigures(store!)]
  const began = performance.now()
  await send(bodies)
  while ((await stored()) < warm + count) await sleep(100)
  const seconds = (performance.now() - began) / 1000
  const main = processFigures(sidecast.pid)
  await settled(warm + count)
  const after = processFigures(store!)
  const per = (cpu: number): number => Number(((cpu / count) * 1e6).toFixed(2))
  const mainCpu = main.cpuSeconds - before[0]!.cpuSeconds
  const storeCpu = after.cpuSeconds - before[1]!.cpuSeconds
  const figures = {
    bench: 'log-lines',
    form: values.form,
    via: values.via,
    lines: count,
    lineBytes: Math.round(bodies.reduce((sum, { length }) => sum + length, 0) / count),
    stored: await stored(),
    perSecond: Math.round(count / seconds),
    cpuSecondsPerMillion: { main: per(mainCpu), store: per(storeCpu), all: per(mainCpu + storeCpu) },
    rssMostMb: { main: Math.round(main.rssMostMb), store: Math.round(after.rssMostMb) },
  }
  process.stdout.write(`${JSON.stringify(figures)}\n`)
} finally {
  await sidecast.close()
  rmSync(dir, { recursive: true, force: true })
}
