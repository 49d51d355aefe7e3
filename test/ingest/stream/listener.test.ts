import { connect } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { createStreamListener } from '../../../src/ingest/stream/listener.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { waitUntil } from '../../support/wait.ts'

test('a bug in the handling of one connection ends that connection, and nothing else', async () => {
  const seen: string[] = []
  const listener = createStreamListener({
    name: 'test',
    listen: '127.0.0.1:0',
    option: 'test.listen',
    log: silentLog,
    open: () => ({
      holds: false,
      async onChunk(chunk) {
        if (String(chunk) === 'bad') throw new Error('a bug')
        seen.push(String(chunk))
        return true
      },
      async onEnd() {
        throw new Error('another bug')
      },
    }),
  })
  await listener.start()
  onTestFinished(() => listener.stop(AbortSignal.timeout(500)))
  const send = async (text: string): Promise<void> => {
    const [host, port] = listener.address.split(':')
    const socket = connect(Number(port), host)
    const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()))
    socket.on('error', () => {})
    socket.end(text)
    await closed
  }
  await send('bad')
  await send('good')
  await waitUntil(() => seen.length === 1)
  await waitUntil(() => listener.counters.open === 0)
  expect(listener.counters).toMatchObject({ connections: 2, closed: 1, faults: 3 })
})
