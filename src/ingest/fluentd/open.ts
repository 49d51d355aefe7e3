import { parseBytes } from '../../lib/units.ts'
import { configuredParser } from '../lines/configured.ts'
import { createFluentdReceiver, type FluentdReceiver, type FluentdReceiverOptions } from './receiver.ts'

/** `ingest.fluentd`, as the configuration has it. */
export interface FluentdConfig {
  /** '': off. */
  readonly listen: string
  readonly preset: string
  readonly format: string
  readonly node: string
  readonly messageMax: string
}

/** The receiver of `ingest.fluentd`; null when it is off. */
export function openFluentd(
  config: FluentdConfig,
  parts: Pick<FluentdReceiverOptions, 'writer' | 'origins' | 'access' | 'synced' | 'gate' | 'onDecoded' | 'log'>,
): FluentdReceiver | null {
  if (config.listen === '') return null
  return createFluentdReceiver({
    ...parts,
    listen: config.listen,
    createParser: configuredParser(config, 'ingest.fluentd'),
    node: config.node,
    limits: { bytesMax: parseBytes(config.messageMax)! },
  })
}
