import { datagramSender, streamSender } from '../../support/contract-senders.ts'
import { type ReceiverContract, receiverContract } from '../../support/receiver-contract.ts'

const message = (text: string): string => `<134>1 2026-11-21T11:59:59.5Z edge-7 envoy 12 access - ${text}\n`
const wire = {
  good: (name: string) =>
    message(
      `[2026-11-21T11:59:58.000Z] "GET /${name} HTTP/1.1" 200 - 0 3 12 11 "-" "curl/8.5.0" "id-1" "shop" "10.0.0.7:80"`,
    ),
  bad: message('nothing that a proxy logs'),
}
const shared: Pick<ReceiverContract, 'name' | 'metrics' | 'problem' | 'makes'> = {
  name: 'syslog',
  metrics: { taken: 'sidecast_syslog_rows_total', rejected: 'sidecast_syslog_rejected_total{reason="unmatched"}' },
  problem: /^unmatched from \S+$/,
  makes: 'rows',
}

receiverContract('syslog over UDP', {
  ...shared,
  options: ({ listen }) => [`ingest.syslog.udp=${listen}`],
  listener: { name: 'syslog_udp', option: 'ingest.syslog.udp', socket: 'udp' },
  connect: (rig) => datagramSender(rig.receivers.syslog!.addresses.udp!, wire),
})

receiverContract('syslog over TCP', {
  ...shared,
  options: ({ listen }) => [`ingest.syslog.tcp=${listen}`],
  listener: { name: 'syslog_tcp', option: 'ingest.syslog.tcp', socket: 'tcp' },
  connect: (rig) => streamSender(rig.receivers.syslog!.addresses.tcp!, wire),
})
