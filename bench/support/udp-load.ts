import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'

/**
 * Sends the datagrams of a file (one JSON string a line), again and again, at a rate:
 *
 *     node bench/support/udp-load.ts PORT FILE COUNT RATE
 *
 * `RATE` datagrams a second, 0 for as fast as it goes. Prints `{ sent, lines, seconds }`. Every datagram that is counted was taken by the
 * kernel: on loopback it is then either received or dropped at the receiver's socket.
 */
const [port, file, count, rate] = process.argv.slice(2) as [string, string, string, string]
const datagrams = readFileSync(file, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => Buffer.from(JSON.parse(line) as string))
const lines = datagrams.map((datagram) => datagram.toString('latin1').split('\n').length)
const socket = createSocket({ type: 'udp4', sendBufferSize: 4 << 20 })
await new Promise<void>((resolve) => socket.connect(Number(port), '127.0.0.1', resolve))

const perSecond = Number(rate)
const total = Number(count)
const start = performance.now()
let given = 0
let sent = 0
let sentLines = 0
let failed = 0
while (given < total) {
  const due = perSecond === 0 ? total : Math.min(total, Math.floor(((performance.now() - start) / 1000) * perSecond))
  const burst = Math.min(due - given, 500)
  if (burst <= 0) {
    await new Promise((resolve) => setImmediate(resolve))
    continue
  }
  await new Promise<void>((resolve) => {
    let open = burst
    for (let k = 0; k < burst; k++) {
      const at = given++ % datagrams.length
      socket.send(datagrams[at]!, (error) => {
        if (error) failed++
        else {
          sent++
          sentLines += lines[at]!
        }
        if (--open === 0) resolve()
      })
    }
  })
}
const seconds = (performance.now() - start) / 1000
process.stdout.write(JSON.stringify({ sent, lines: sentLines, failed, seconds }))
socket.close()
