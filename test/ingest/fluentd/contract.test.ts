import { once } from 'node:events'
import { connect } from 'node:net'
import { encode } from '@msgpack/msgpack'
import { receiverContract } from '../../support/receiver-contract.ts'

/** Chunks have ids of their own, whoever sends them. */
let chunks = 0

const record = (name: string) => ({
  start_time: '2026-11-21T03:24:15.406514Z',
  method: 'GET',
  path: `/${name}`,
  protocol: 'HTTP/1.1',
  response_code: 200,
  response_flags: '-',
  duration: 12,
})

receiverContract('the Fluentd forward protocol', {
  name: 'fluentd',
  options: ({ listen }) => [`ingest.fluentd.listen=${listen}`],
  listener: { name: 'fluentd', option: 'ingest.fluentd.listen', socket: 'tcp' },
  metrics: { taken: 'sidecast_fluentd_rows_total', rejected: 'sidecast_fluentd_rejected_total{reason="unmatched"}' },
  problem: /^unmatched from 127\.0\.0\.1$/,
  makes: 'rows',
  async connect(rig) {
    const [host, port] = rig.receivers.fluentd!.address.split(':')
    const socket = connect(Number(port), host)
    await once(socket, 'connect')
    socket.on('error', () => {})
    const closed = new Promise<false>((resolve) => socket.once('close', () => resolve(false)))
    /** With a chunk, which the receiver acknowledges when it is on disk. */
    const send = async (records: readonly object[]): Promise<boolean> => {
      const acknowledged = once(socket, 'data').then(() => true)
      socket.write(encode(['envoy', records.map((one) => [1_763_695_455, one]), { chunk: `chunk-${chunks++}` }]))
      return await Promise.race([acknowledged, closed])
    }
    return {
      good: (names) => send(names.map(record)),
      async bad() {
        await send([{ hello: 'world' }])
      },
      close: () => void socket.destroy(),
    }
  },
})
