import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { receiverContract } from '../../support/receiver-contract.ts'

const line = (name: string): string =>
  `[2026-11-21T11:59:58.000Z] "GET /${name} HTTP/1.1" 200 - 0 3 12 11 "-" "curl/8.5.0" "id-1" "shop" "10.0.0.7:80"\n`
const BAD = 'nothing that a proxy logs\n'

receiverContract('log lines over HTTP', {
  name: 'logs_http',
  options: () => [],
  metrics: {
    taken: 'sidecast_logs_http_rows_total',
    rejected: 'sidecast_logs_http_rejected_total{reason="unmatched"}',
  },
  problem: /^unmatched from 10\.0\.0\.9:4000$/,
  makes: 'rows',
  connect(rig) {
    const post = async (lines: string): Promise<boolean> => {
      const answer = await rig.receivers.logs.take({
        body: Readable.from([Buffer.from(lines)]),
        contentType: 'text/plain',
        contentEncoding: '',
        preset: 'envoy-text',
        peer: '10.0.0.9:4000',
        signal: new AbortController().signal,
      })
      return !('refused' in answer)
    }
    return {
      good: (names) => post(names.map(line).join('')),
      async bad() {
        await post(BAD)
      },
      close() {},
    }
  },
})

let files = 0
receiverContract('log files', {
  name: 'files',
  options: ({ dir }) => [`ingest.files=${JSON.stringify([{ paths: [join(dir, '*.log')], preset: 'envoy-text' }])}`],
  metrics: { taken: 'sidecast_files_rows_total', rejected: 'sidecast_files_rejected_total{reason="unmatched"}' },
  problem: /^unmatched from \/\S+\.log$/,
  makes: 'rows',
  connect(_, { dir }) {
    const path = join(dir, `${files++}.log`)
    return {
      async good(names) {
        await appendFile(path, names.map(line).join(''))
        return false
      },
      bad: () => appendFile(path, BAD),
      close() {},
    }
  },
})
