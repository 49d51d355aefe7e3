import { execFile } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { childrenOf } from '../../../bench/support/process-figures.ts'
import type { Gate } from '../../../src/ingest/grpc/index.ts'
import { createStatsdReceiver, type StatsdOptions, type StatsdReceiver } from '../../../src/ingest/statsd/receiver.ts'
import { createKernelDrops } from '../../../src/ingest/stream/kernel-drops.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createMemoryMetrics } from '../../support/memory-metrics.ts'

/** Who reads a UDP socket: this process, or one of its own. */
const READERS = [
  ['here', false],
  ['by a process of its own', true],
] as const
const LOCAL = { host: '127.0.0.1', port: 0 }

function openGate(): Gate & { set(closed: boolean): void } {
  const listeners: (() => void)[] = []
  return {
    closed: false,
    onOpen: (listener) => listeners.push(listener),
    set(closed) {
      ;(this as { closed: boolean }).closed = closed
      if (!closed) for (const listener of listeners) listener()
    },
  }
}

async function setUp(options: Partial<StatsdOptions> = {}) {
  const memory = createMemoryMetrics()
  const gate = openGate()
  const receiver = createStatsdReceiver({
    udp: null,
    tcp: null,
    unix: '',
    unixStream: '',
    receiveBufferBytes: 1 << 20,
    connectionsMax: 10,
    idleMs: 60_000,
    metrics: memory.store,
    gate,
    envoyPrefixes: ['envoy'],
    instanceTag: '',
    log: silentLog,
    ...options,
  })
  await receiver.start()
  onTestFinished(() => receiver.stop(AbortSignal.timeout(1000)))
  return { receiver, memory, gate, value: (key: string) => memory.series.get(key)?.value }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'sidecast-statsd-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

const portOf = (address: string | undefined): number => Number(address!.slice(address!.lastIndexOf(':') + 1))

async function until(done: () => boolean): Promise<void> {
  for (const start = Date.now(); !done(); ) {
    if (Date.now() - start > 8000) throw new Error('it did not come to that')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function sendUdp(port: number, texts: readonly string[]): Promise<void> {
  const socket: Socket = createSocket('udp4')
  for (const text of texts) await new Promise((resolve) => socket.send(text, port, '127.0.0.1', resolve))
  socket.close()
}

test.each(READERS)(
  'UDP %s: datagrams of one and of many lines, from any port, are the same metrics',
  async (_, udpProcess) => {
    const { receiver, value, memory } = await setUp({ udp: LOCAL, udpProcess })
    const port = portOf(receiver.addresses.statsdUdp)
    await sendUdp(port, ['envoy.server.live:1|g', 'a:1|c\na:2|c\nbad\na:3|c'])
    await sendUdp(port, ['a:4|c'])
    await until(() => receiver.counters.udp!.datagrams === 3)
    await receiver.stop(AbortSignal.timeout(1000))
    expect(value('a{}')).toBe(10)
    expect(value('envoy_server_live{}')).toBe(1)
    expect(memory.series.get('a{}')!.identity.instance).toBe('127.0.0.1')
    expect(receiver.counters.udp!.receiveBufferBytes).toBeGreaterThanOrEqual(1 << 20)
  },
)

test.each(READERS)('UDP %s: a socket for both families tells senders by their own address', async (_, udpProcess) => {
  const { receiver, memory } = await setUp({ udp: { host: '::', port: 0 }, udpProcess })
  const port = portOf(receiver.addresses.statsdUdp)
  await sendUdp(port, ['a:1|c'])
  const socket = createSocket('udp6')
  await new Promise((resolve) => socket.send('a:2|c', port, '::1', resolve))
  socket.close()
  await until(() => receiver.counters.udp!.datagrams === 2)
  await receiver.stop(AbortSignal.timeout(1000))
  expect([...memory.series.values()].map(({ identity, value }) => [identity.instance, value])).toEqual([
    ['127.0.0.1', 1],
    ['::1', 2],
  ])
})

test.each(READERS)('UDP %s: what the kernel drops is counted to the datagram', async (_, udpProcess) => {
  const { receiver } = await setUp({ udp: LOCAL, receiveBufferBytes: 4096, udpProcess })
  const port = portOf(receiver.addresses.statsdUdp)
  // Another process sends while this one is kept from reading.
  const sent = 20_000
  const script = `const s=require('node:dgram').createSocket('udp4');s.connect(${port},'127.0.0.1',async()=>{for(let k=0;k<${sent};k++)await new Promise(r=>s.send('a:1|c',r));s.close()})`
  const sending = promisify(execFile)(process.execPath, ['-e', script])
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000)
  await sending
  await receiver.stop(AbortSignal.timeout(2000))
  const { datagrams, droppedByKernel } = receiver.counters.udp!
  expect(droppedByKernel).toBeGreaterThan(0)
  expect(datagrams + droppedByKernel!).toBe(sent)
  expect(receiver.counters.lines.lines).toBe(datagrams)
})

test.each(READERS)('UDP %s: while the journal is full, datagrams are dropped and counted', async (_, udpProcess) => {
  const { receiver, gate } = await setUp({ udp: LOCAL, udpProcess })
  gate.set(true)
  await sendUdp(portOf(receiver.addresses.statsdUdp), ['a:1|c', 'a:1|c'])
  await until(() => receiver.counters.udp!.datagrams === 2)
  expect(receiver.counters.udp!.droppedFull).toBe(2)
  expect(receiver.counters.lines.lines).toBe(0)
})

test('UDP by a process of its own: empty and large datagrams, and any number of them', async () => {
  const { receiver, value, memory } = await setUp({ udp: LOCAL, udpProcess: true, receiveBufferBytes: 8 << 20 })
  const port = portOf(receiver.addresses.statsdUdp)
  const many = Array.from({ length: 5000 }, () => 'b:1|c').join('\n')
  await sendUdp(port, ['', many, 'c:1|c'])
  const two = Array.from({ length: 3000 }, (_, k) => `d:1|c\ne:${k}|g`)
  await sendUdp(port, two)
  await until(() => receiver.counters.udp!.datagrams === 3003)
  await receiver.stop(AbortSignal.timeout(5000))
  expect(['b{}', 'c{}', 'd{}', 'e{}'].map(value)).toEqual([5000, 1, 3000, 2999])
  expect(memory.series.get('e{}')!.identity.instance).toBe('127.0.0.1')
  expect(receiver.counters.lines.rejected.size).toBe(0)
  expect(receiver.counters.udp).toMatchObject({ droppedByKernel: 0, bytes: many.length + 5 + two.join('').length })
})

test('UDP by a process of its own: should it end, it comes back on the same port', async () => {
  const { receiver, value } = await setUp({ udp: LOCAL, udpProcess: true })
  const port = portOf(receiver.addresses.statsdUdp)
  await sendUdp(port, ['a:1|c'])
  await until(() => receiver.counters.udp!.datagrams === 1)
  const readers = childrenOf(process.pid).filter((pid) => commandOf(pid).includes('udp-reader-child'))
  expect(readers).toHaveLength(1)
  process.kill(readers[0]!, 'SIGKILL')
  await until(() => childrenOf(process.pid).some((pid) => pid !== readers[0] && commandOf(pid).includes(`\0${port}\0`)))
  await until(() => createKernelDrops('127.0.0.1', port).read() !== null)
  await sendUdp(port, ['a:2|c'])
  await until(() => receiver.counters.udp!.datagrams === 2)
  await receiver.stop(AbortSignal.timeout(5000))
  expect(value('a{}')).toBe(3)
  expect(receiver.counters.udp).toMatchObject({ restarts: 1, droppedByKernel: 0 })
})

test('TCP: lines cut anywhere, a line without an end, a line too long; a bad one never ends the connection', async () => {
  const { receiver, value } = await setUp({ tcp: LOCAL })
  const socket = connect(portOf(receiver.addresses.statsdTcp), '127.0.0.1')
  const text = `a:1|c\nenvoy.cluster.web.upstream_rq_total:2|c\nbad\n${'x'.repeat(100_000)}\na:3|c\na:4|c`
  for (let at = 0; at < text.length; at += 997) {
    socket.write(text.slice(at, at + 997))
    await new Promise((resolve) => setImmediate(resolve))
  }
  socket.end()
  await until(() => receiver.counters.tcp!.connections === 1 && receiver.counters.tcp!.open === 0)
  await receiver.stop(AbortSignal.timeout(1000))
  expect(value('a{}')).toBe(8)
  expect(value('envoy_cluster_upstream_rq_total{envoy_cluster_name="web"}')).toBe(2)
  expect(receiver.counters.lines.rejected.get('oversized')).toBe(1)
  expect(receiver.counters.lines.rejected.get('no_value')).toBe(1)
})

test('TCP: while the journal is full nothing is read, and nothing is lost', async () => {
  const { receiver, gate, value } = await setUp({ tcp: LOCAL })
  gate.set(true)
  const socket = connect(portOf(receiver.addresses.statsdTcp), '127.0.0.1')
  socket.end('a:1|c\n')
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect(receiver.counters.tcp!.bytes).toBe(0)
  gate.set(false)
  await until(() => value('a{}') === 1)
})

test('TCP: connections are limited in number and in silence', async () => {
  const { receiver } = await setUp({ tcp: LOCAL, connectionsMax: 2, idleMs: 50 })
  const port = portOf(receiver.addresses.statsdTcp)
  const closed = [0, 1, 2].map(
    () =>
      new Promise((resolve) =>
        connect(port, '127.0.0.1')
          .on('close', resolve)
          .on('error', () => {}),
      ),
  )
  await Promise.all(closed)
  await until(() => receiver.counters.tcp!.open === 0)
  expect(receiver.counters.tcp).toMatchObject({ refused: 1, idle: 2 })
})

test('Unix stream: lines, and the packets of DogStatsD', async () => {
  const path = join(folder(), 'statsd.sock')
  const { receiver, value } = await setUp({ unixStream: path })
  connect(path).end('a:1|c\na:2|c\n')
  const packets = connect(path)
  const packet = (text: string): Buffer => {
    const bytes = Buffer.alloc(4 + text.length)
    bytes.writeUInt32LE(text.length, 0)
    bytes.write(text, 4)
    return bytes
  }
  const bytes = Buffer.concat([packet('b:1|c\nb:2|c'), packet('b:3|c|c:ci-1')])
  for (const byte of bytes) {
    packets.write(Buffer.from([byte]))
    await new Promise((resolve) => setImmediate(resolve))
  }
  packets.end()
  await until(() => receiver.counters.lines.lines === 5)
  await receiver.stop(AbortSignal.timeout(1000))
  expect(value('a{}')).toBe(3)
  expect(value('b{}')).toBe(3)
  expect(value('b{} of 1')).toBe(3)
})

/** A client in Python, which has such sockets. */
const SEND = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
for k in range(int(sys.argv[2])): s.send(b'a:1|c\\nt:%d|ms' % k)
`

test('Unix datagrams: every one arrives, whatever the speed; the socket goes with its process', async () => {
  const path = join(folder(), 'statsd.sock')
  const { receiver, memory } = await setUp({ unix: path })
  await promisify(execFile)('python3', ['-c', SEND, path, '20000'])
  await receiver.stop(AbortSignal.timeout(5000))
  expect(receiver.counters.unix).toMatchObject({ datagrams: 20_000, restarts: 0 })
  expect(memory.series.get('a{}')!.value).toBe(20_000)
  expect(
    memory.series.get('t{}')!.distributions.reduce((sum, d) => sum + (d.kind === 'values' ? d.values.length : 0), 0),
  ).toBe(20_000)
})

test('a listener that cannot be bound says which option it is', async () => {
  const { receiver } = await setUp({ udp: LOCAL })
  const options = { udp: { host: '127.0.0.1', port: portOf(receiver.addresses.statsdUdp) } }
  await expect(setUp(options)).rejects.toMatchObject({
    code: 'SC4101',
    message: expect.stringMatching(/^ingest\.statsd\.udp: cannot listen on 127\.\S+: the address is in use$/),
  })
  await expect(setUp({ unix: '/nowhere/at/all' })).rejects.toMatchObject({
    code: 'SC4101',
    message: expect.stringMatching(/^ingest\.statsd\.unix: \/nowhere/),
  })
})

test('stopping twice, and before the start, is no harm', async () => {
  const { receiver } = await setUp({ udp: LOCAL, tcp: LOCAL })
  await receiver.stop(AbortSignal.timeout(1000))
  await receiver.stop(AbortSignal.timeout(1000))
  const never: StatsdReceiver = createStatsdReceiver({
    udp: LOCAL,
    tcp: LOCAL,
    unix: '',
    unixStream: '',
    receiveBufferBytes: 4096,
    connectionsMax: 1,
    idleMs: 1000,
    metrics: createMemoryMetrics().store,
    gate: openGate(),
    envoyPrefixes: [],
    instanceTag: '',
    log: silentLog,
  })
  await never.stop(AbortSignal.timeout(1000))
})
