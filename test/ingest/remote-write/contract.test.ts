import { Readable } from 'node:stream'
import { snappyCompress } from '../../../src/lib/snappy.ts'
import { receiverContract } from '../../support/receiver-contract.ts'
import { WRITE_REQUEST } from '../../support/remote-write.ts'

receiverContract('remote write', {
  name: 'remote_write',
  options: () => [],
  metrics: {
    taken: 'sidecast_remote_write_samples_total',
    rejected: 'sidecast_remote_write_rejected_total{reason="out_of_bounds"}',
  },
  problem: /^1 samples were not taken, the first because /,
  makes: { series: '' },
  connect(rig) {
    const write = async (names: readonly string[], timestamp: number): Promise<boolean> => {
      const labels = (name: string) => [
        { name: '__name__', value: name },
        { name: 'job', value: 'contract' },
      ]
      const timeseries = names.map((name) => ({ labels: labels(name), samples: [{ value: 1, timestamp }] }))
      const bytes = WRITE_REQUEST.encode(WRITE_REQUEST.fromObject({ timeseries })).finish()
      const { status } = await rig.receivers.remoteWrite.take({
        body: Readable.from([snappyCompress(bytes)]),
        contentType: 'application/x-protobuf',
        contentEncoding: 'snappy',
        contentLength: Number.NaN,
      })
      return status === 204
    }
    return {
      good: (names) => write(names, Date.now()),
      async bad() {
        await write(['contract_long_ago'], 1)
      },
      close() {},
    }
  },
})
