import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { datagramSender } from '../../support/contract-senders.ts'
import { type ReceiverContract, receiverContract } from '../../support/receiver-contract.ts'

/** Node has no Unix datagrams: another process sends each line that it is given as one, and says so. */
const SEND = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(sys.argv[1])
for line in sys.stdin:
    s.send(line.encode())
    print('sent', flush=True)
`

const shared: Pick<ReceiverContract, 'name' | 'metrics' | 'makes'> = {
  name: 'statsd',
  metrics: { taken: 'sidecast_statsd_values_total', rejected: 'sidecast_statsd_rejected_total{reason="bad_value"}' },
  makes: { series: '' },
}

receiverContract('StatsD over UDP, read by a process of its own', {
  ...shared,
  options: ({ listen }) => [`ingest.statsd.udp=${listen}`, 'ingest.statsd.udpProcess=true'],
  listener: { name: 'statsd_udp', option: 'ingest.statsd.udp', socket: 'udp' },
  problem: /^bad_value from 127\.0\.0\.1$/,
  connect: (rig) => {
    const wire = { good: (name: string) => `${name}:1|c\n`, bad: 'contract:what|c\n' }
    return datagramSender(rig.receivers.statsd.addresses.statsdUdp!, wire)
  },
})

receiverContract('StatsD over Unix datagrams', {
  ...shared,
  options: ({ listen }) => [`ingest.statsd.unix=${listen}`],
  listener: { name: 'statsd_unix', option: 'ingest.statsd.unix', socket: 'path' },
  problem: /^bad_value from unix$/,
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
