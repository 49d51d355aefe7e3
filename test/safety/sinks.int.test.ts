import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, onTestFinished, test } from 'vitest'
import { stringify } from 'yaml'
import { startSidecast } from '../support/sidecast.ts'
import { waitUntil } from '../support/wait.ts'

const LOAD = new URL('../../bench/support/load.ts', import.meta.url).pathname

/** What takes lines as a Wavefront proxy does, and adds up the requests that it is told of. */
async function startProxy() {
  let requests = 0
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    createInterface({ input: socket }).on('line', (line) => {
      const match = /^"∆istio\.requestcount\.count" (\d+) /.exec(line)
      if (match !== null) requests += Number(match[1])
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get requests() {
      return requests
    },
  }
}

test('a sink is added, moved to another target, taken away and added again under load: each request counts once', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-sinks-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const file = join(dir, 'sidecast.yaml')
  const configure = (proxy: string): void =>
    writeFileSync(
      file,
      stringify({ adapters: { wavefront: { proxy, interval: '1s', red: false, distributions: [] } } }),
    )
  configure('')
  const sidecast = await startSidecast({ args: ['--config', file] })
  onTestFinished(() => sidecast.close())
  const reload = async (proxy: string): Promise<void> => {
    configure(proxy)
    const answer = await fetch(`http://${sidecast.http}/-/reload`, { method: 'POST' })
    expect([answer.status, await answer.text()]).toEqual([200, expect.stringContaining('adapters.wavefront.proxy')])
  }
  const [first, second] = [await startProxy(), await startProxy()]
  const load = spawn(process.execPath, [LOAD, '--to', sidecast.grpc, '--rate', '5000', '--seconds', '600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void load.kill('SIGKILL'))
  const told = new Promise<string>((resolve) => load.stdout.setEncoding('utf8').once('data', resolve))
  const waits = { timeout: 60_000, interval: 100 }
  type Status = { nodes: { seen: number }; adapters: { sink: string; endpoint: string }[] }
  const status = () => sidecast.get<Status>('/api/v1/status')
  await waitUntil(async () => (await status()).nodes.seen > 0, waits)

  await reload(first.address)
  expect((await status()).adapters.map(({ endpoint }) => endpoint)).toEqual([expect.stringContaining(first.address)])
  await waitUntil(() => first.requests > 0, waits)
  await reload(second.address)
  const atFirst = first.requests
  await waitUntil(() => second.requests > 0, waits)
  await reload('')
  expect((await status()).adapters).toEqual([])
  const atSecond = second.requests
  await new Promise((resolve) => setTimeout(resolve, 1500))
  expect([first.requests, second.requests]).toEqual([atFirst, atSecond])
  await reload(second.address)
  await waitUntil(() => second.requests > atSecond, waits)

  load.kill('SIGTERM')
  const { sent } = JSON.parse(await told) as { sent: number }
  const stored = async () => {
    const { rows } = await sidecast.get<{ rows: { stored: number }[] }>('/api/v1/ledger')
    return rows.reduce((sum, row) => sum + row.stored, 0)
  }
  await waitUntil(async () => (await stored()) === sent, waits)
  await waitUntil(() => first.requests + second.requests >= sent, waits).catch(() => {})
  expect(first.requests + second.requests).toBe(sent)
  expect(first.requests).toBe(atFirst)
})
