import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { createChangingPage } from '../../test/support/changing-page.ts'

// Serves pages of an Envoy whose numbers move: `node scrape-target.ts true|false`, gzipped or not; prints its port.
const zip = process.argv[2] === 'true'
const recorded = readFileSync(new URL('../../test/fixtures/stats/stats-prometheus.txt', import.meta.url))
const pages = Array.from({ length: 16 }, (_, k) => createChangingPage(recorded, k)).map((page) =>
  zip ? gzipSync(page) : page,
)
const began = Date.now()
const server = createServer((_, response) => {
  const page = pages[Math.floor((Date.now() - began) / 500) % pages.length]!
  response.writeHead(200, {
    'content-type': 'text/plain; charset=UTF-8',
    ...(zip ? { 'content-encoding': 'gzip' } : {}),
  })
  response.end(page)
})
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`))
