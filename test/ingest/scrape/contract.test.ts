import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { type ContractWorld, receiverContract } from '../../support/receiver-contract.ts'

interface Page {
  readonly address: string
  lines: string
}

/** A page that is what its sender says; two for each test, in its folder. */
const pages = new Map<string, Page[]>()

async function servePage(): Promise<Page> {
  const server = createServer((request, response) => {
    if (request.url !== '/stats/prometheus') response.writeHead(404).end()
    else response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' }).end(page.lines)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const page = { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, lines: '' }
  return page
}

receiverContract('scraping', {
  name: 'scrape',
  options: async ({ dir }: ContractWorld) => {
    const both = [await servePage(), await servePage()]
    pages.set(dir, both)
    const targets = both.map(({ address }) => address)
    return [`ingest.scrape=${JSON.stringify([{ targets, interval: '1s', timeout: '1s' }])}`]
  },
  metrics: { taken: 'sidecast_scrape_samples_total', rejected: 'sidecast_scrape_rejected_total{reason="value"}' },
  problem: /^value from 127\.0\.0\.1:\d+$/,
  makes: { series: '' },
  repeats: true,
  connect(_, { dir }) {
    const page = pages.get(dir)!.pop()!
    return {
      async good(names) {
        page.lines += names.map((name) => `${name} 1\n`).join('')
        return false
      },
      async bad() {
        page.lines += 'contract_bad x\n'
      },
      close() {},
    }
  },
})
