import { createSocket } from 'node:dgram'
import { connect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createOrigins } from '../../../src/ingest/entry/origins.ts'
import { createPreset } from '../../../src/ingest/lines/presets/index.ts'
import {
  createSyslogReceiver,
  type SyslogReceiver,
  type SyslogReceiverOptions,
} from '../../../src/ingest/syslog/receiver.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createWriting, type Writing } from '../../support/entry-writing.ts'
import { createManualGate, type ManualGate } from '../../support/manual-gate.ts'
import { waitUntil } from '../../support/wait.ts'

interface Started {
  readonly receiver: SyslogReceiver
  readonly writing: Writing
  readonly gate: ManualGate
  readonly decoded: [node: string, decoded: number, rejected: number][]
}

async function start(options: Partial<SyslogReceiverOptions> = {}): Promise<Started> {
  const writing = createWriting({ rowsMax: 256 })
  const gate = createManualGate()
  const decoded: Started['decoded'] = []
  const receiver = createSyslogReceiver({
    udp: '127.0.0.1:0',
    tcp: '127.0.0.1:0',
    tls: '',
    createParser: () => createPreset('auto')!,
    writer: writing.writer,
    origins: createOrigins(),
    node: '',
    gate,
    log: silentLog,
    onDecoded: (...what) => decoded.push(what),
    clock: () => Date.UTC(2026, 10, 21, 12),
    ...options,
  })
  await receiver.start()
  onTestFinished(() => receiver.stop(AbortSignal.timeout(500)))
  return { receiver, writing, gate, decoded }
}

async function dial({ receiver }: Started): Promise<Socket> {
  const [host, port] = receiver.addresses.tcp!.split(':')
  const socket = connect(Number(port), host)
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('connect', resolve))
  onTestFinished(() => void socket.destroy())
  return socket
}

async function send({ receiver }: Started, ...datagrams: (string | Buffer)[]): Promise<void> {
  const [host, port] = receiver.addresses.udp!.split(':')
  const socket = createSocket('udp4')
  for (const datagram of datagrams) {
    await new Promise<void>((resolve) => socket.send(datagram, Number(port), host, () => resolve()))
  }
  socket.close()
}

/** Combined log format, as NGINX's `access_log syslog:server=…` writes it. */
const nginx = (path: string): string =>
  `10.0.0.9 - - [21/Nov/2026:11:59:58 +0000] "GET ${path} HTTP/1.1" 200 612 "-" "curl/8.5.0"`
const envoy = (path: string): string =>
  `[2026-11-21T11:59:58.000Z] "GET ${path} HTTP/1.1" 200 - 0 3 12 11 "-" "curl/8.5.0" "id-1" "shop" "10.0.0.7:80"`
const rfc3164 = (line: string): string => `<190>Nov 21 11:59:59 web-1 nginx: ${line}`
const rfc5424 = (line: string): string => `<134>1 2026-11-21T11:59:59.5Z edge-7 envoy 12 access - ${line}`

describe('the syslog receiver', () => {
  test('RFC 3164 and RFC 5424 over UDP', async () => {
    const started = await start()
    await send(started, rfc3164(nginx('/nginx')), `${rfc5424(envoy('/envoy'))}\n`, `${envoy('/bare')}\0`)
    await waitUntil(() => started.receiver.counters.rows === 3)
    const { requests } = started.writing.take()
    expect(requests.map(({ path, node_id }) => [path, node_id])).toEqual([
      ['/nginx', 'web-1'],
      ['/envoy', 'edge-7'],
      ['/bare', '127.0.0.1'],
    ])
    expect(requests[1]).toMatchObject({ source: 'text', response_code: 200, method: 'GET' })
    expect(started.receiver.udp).toMatchObject({ datagrams: 3, droppedFull: 0 })
    expect(started.receiver.udp!.receiveBufferBytes).toBeGreaterThan(0)
  })

  test('both framings over TCP, in one connection, in pieces', async () => {
    const started = await start({ node: 'lb' })
    const socket = await dial(started)
    const message = rfc5424(envoy('/counted'))
    const text = `${rfc3164(nginx('/line'))}\n${message.length} ${message}${rfc5424(envoy('/last'))}`
    socket.setNoDelay(true)
    for (let at = 0; at < text.length; at += 37) {
      socket.write(text.slice(at, at + 37))
      if (at % 111 === 0) await wait(1)
    }
    socket.end()
    await waitUntil(() => started.receiver.counters.rows === 3)
    const { requests } = started.writing.take()
    expect(requests.map(({ path, node_id }) => [path, node_id])).toEqual([
      ['/line', 'lb'],
      ['/counted', 'lb'],
      ['/last', 'lb'],
    ])
  })

  test('messages that are no access log are counted by reason, with their shape only', async () => {
    const started = await start()
    await send(
      started,
      '<13>Nov 21 11:59:59 web-1 sshd[5]: Accepted password for hunter2',
      Buffer.of(0xff, 0xfe, 0x3c),
      '',
    )
    const socket = await dial(started)
    socket.write(`${rfc3164(nginx('/fine'))}\n<190>\0\n`)
    await waitUntil(() => started.receiver.counters.rows === 1 && started.receiver.counters.messages === 4)
    const rejected = [...started.receiver.counters.rejected.values()].reduce((sum, count) => sum + count, 0)
    expect(rejected).toBe(3)
    expect(started.decoded).toHaveLength(3)
    expect(JSON.stringify(started.receiver.rejected())).not.toContain('hunter2')
  })

  test('TCP is not read while the journal takes nothing, UDP is dropped and counted', async () => {
    const started = await start()
    const socket = await dial(started)
    started.gate.close()
    started.writing.closed = true
    const count = 6000
    const lines = Array.from({ length: count }, (_, k) => `${rfc3164(nginx(`/${k}`))}\n`)
    for (let k = 0; k < count; k += 500) socket.write(lines.slice(k, k + 500).join(''))
    await waitUntil(() => started.writing.writer.pending > 0)
    const { messages } = started.receiver.counters
    await send(started, ...Array(5).fill(rfc3164(nginx('/udp'))))
    await waitUntil(() => started.receiver.udp!.droppedFull === 5)
    expect(started.receiver.counters.messages).toBe(messages)
    expect(messages).toBeLessThan(count)
    started.writing.closed = false
    started.gate.open()
    await waitUntil(() => started.receiver.counters.rows === count, { timeout: 10_000 })
    expect(started.receiver.counters.rejected.size).toBe(0)
  })

  test('a message that does not end in time, and one that is too large, cost nobody else', async () => {
    const started = await start({ limits: { stallMs: 50, sweepMs: 20, messageBytesMax: 500 } })
    const slow = await dial(started)
    slow.write('<13>Nov 21')
    await waitUntil(() => started.receiver.tcp!.stalled === 1)
    const large = await dial(started)
    large.write(`<13>${'x'.repeat(1000)}\n${rfc3164(nginx('/behind'))}\n`)
    await waitUntil(() => started.receiver.counters.rows === 1)
    expect(started.receiver.counters.rejected.get('too_large')).toBe(1)
  })

  test('an address that is taken is told with its option', async () => {
    const started = await start({ udp: '' })
    const other = createSyslogReceiver({
      ...({} as SyslogReceiverOptions),
      udp: '',
      tcp: started.receiver.addresses.tcp!,
      tls: '',
      createParser: () => createPreset('auto')!,
      writer: started.writing.writer,
      origins: createOrigins(),
      node: '',
      gate: started.gate,
      log: silentLog,
    })
    await expect(other.start()).rejects.toThrow(/^ingest\.syslog\.tcp: .*the address is in use$/)
    await other.stop(AbortSignal.timeout(100))
  })

  test('reads what the kernel holds when it stops; twice is once', async () => {
    const started = await start()
    await send(started, ...Array(50).fill(rfc3164(nginx('/x'))))
    await started.receiver.stop(AbortSignal.timeout(1000))
    await started.receiver.stop(AbortSignal.timeout(1000))
    expect(started.receiver.counters.rows).toBe(50)
    expect(started.writing.take().requests).toHaveLength(50)
  })
})
