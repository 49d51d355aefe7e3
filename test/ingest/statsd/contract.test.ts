import { datagramSender, streamSender } from '../../support/contract-senders.ts'
import { type ReceiverContract, receiverContract } from '../../support/receiver-contract.ts'

const wire = { good: (name: string) => `${name}:1|c\n`, bad: 'contract:what|c\n' }
const shared: Pick<ReceiverContract, 'name' | 'metrics' | 'problem' | 'makes'> = {
  name: 'statsd',
  metrics: {
    taken: 'sidecast_statsd_values_total',
    rejected: 'sidecast_statsd_rejected_total{reason="bad_value"}',
  },
  problem: /^bad_value from \S+$/,
  makes: { series: '' },
}

receiverContract('StatsD over UDP', {
  ...shared,
  options: ({ listen }) => [`ingest.statsd.udp=${listen}`],
  listener: { name: 'statsd_udp', option: 'ingest.statsd.udp', socket: 'udp' },
  connect: (rig) => datagramSender(rig.receivers.statsd.addresses.statsdUdp!, wire),
})

receiverContract('StatsD over TCP', {
  ...shared,
  options: ({ listen }) => [`ingest.statsd.tcp=${listen}`],
  listener: { name: 'statsd_tcp', option: 'ingest.statsd.tcp', socket: 'tcp' },
  connect: (rig) => streamSender(rig.receivers.statsd.addresses.statsdTcp!, wire),
})

receiverContract('StatsD over a Unix stream socket', {
  ...shared,
  options: ({ listen }) => [`ingest.statsd.unixStream=${listen}`],
  listener: { name: 'statsd_unix_stream', option: 'ingest.statsd.unixStream', socket: 'path' },
  connect: (_, { listen }) => streamSender(listen, wire),
})
