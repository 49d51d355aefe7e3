import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { receiverContract } from '../../support/receiver-contract.ts'

/** Node has no Unix datagrams: another process sends each line that it is given as one, and says so. */
const SEND = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
for line in sys.stdin:
    s.send(line.encode())
    print('sent', flush=True)
`

receiverContract('StatsD over Unix datagrams', {
  name: 'statsd',
  options: ({ listen }) => [`ingest.statsd.unix=${listen}`],
  listener: { name: 'statsd_unix', option: 'ingest.statsd.unix', socket: 'path' },
  metrics: { taken: 'sidecast_statsd_values_total', rejected: 'sidecast_statsd_rejected_total{reason="bad_value"}' },
  problem: /^bad_value from unix$/,
  makes: { series: '' },
  connect(_, { listen }) {
    const child = spawn('python3', ['-c', SEND, listen], { stdio: ['pipe', 'pipe', 'ignore'] })
    child.stdin.on('error', () => {})
    const said = createInterface({ input: child.stdout })
    // There is no socket any longer.
    const ended = once(said, 'close').then(() => Promise.reject(new Error('the sender has ended')))
    ended.catch(() => {})
    const send = async (line: string): Promise<void> => {
      const sent = once(said, 'line')
      child.stdin.write(`${line}\n`)
      await Promise.race([sent, ended])
    }
    return {
      async good(names) {
        for (const name of names) await send(`${name}:1|c`)
        return false
      },
      bad: () => send('contract:what|c'),
      close: () => void child.kill(),
    }
  },
})
