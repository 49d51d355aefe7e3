import { parseBytes } from '../../lib/units.ts'
import { configuredParser } from '../lines/configured.ts'
import { createSyslogReceiver, type SyslogReceiver, type SyslogReceiverOptions } from './receiver.ts'

/** `ingest.syslog`, as the configuration has it. */
export interface SyslogConfig {
  /** '': off. */
  readonly udp: string
  readonly tcp: string
  readonly tls: { readonly listen: string }
  readonly preset: string
  readonly format: string
  readonly node: string
  readonly offsetMinutes: number
  readonly messageMax: string
  readonly receiveBuffer: string
}

/** The receiver of `ingest.syslog`; null when it is off. */
export function openSyslog(
  config: SyslogConfig,
  parts: Pick<SyslogReceiverOptions, 'writer' | 'origins' | 'access' | 'gate' | 'onDecoded' | 'log'>,
): SyslogReceiver | null {
  const { udp, tcp, tls, node, offsetMinutes } = config
  if (udp === '' && tcp === '' && tls.listen === '') return null
  return createSyslogReceiver({
    ...parts,
    udp,
    tcp,
    tls: tls.listen,
    node,
    offsetMinutes,
    createParser: configuredParser(config, 'ingest.syslog'),
    limits: {
      messageBytesMax: parseBytes(config.messageMax)!,
      receiveBufferBytes: parseBytes(config.receiveBuffer)!,
    },
  })
}
