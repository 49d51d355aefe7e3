import type { ConnectionOptions } from 'node:tls'
import { SidecastError } from '../errors.ts'
import { type ClientTlsConfig, clientTls } from '../lib/tls.ts'
import type { KafkaSasl } from './driver.ts'

/** How to reach a cluster, as a section of the configuration says it. */
export interface KafkaConnectionConfig {
  readonly brokers: readonly string[]
  readonly tls: ClientTlsConfig & { readonly enabled: boolean }
  readonly sasl: {
    readonly mechanism: '' | KafkaSasl['mechanism']
    readonly username: string
    readonly password: string
  }
}

export interface KafkaConnection {
  readonly brokers: readonly string[]
  readonly tls?: ConnectionOptions
  readonly sasl?: KafkaSasl
}

/** `path`: of the section, for messages. Throws SC1205 for files that cannot be used. */
export function kafkaConnection({ brokers, tls, sasl }: KafkaConnectionConfig, path: string): KafkaConnection {
  return {
    brokers,
    ...(tls.enabled ? { tls: tlsOptions(tls, `${path}.tls`) } : {}),
    ...(sasl.mechanism === '' ? {} : { sasl: { ...sasl, mechanism: sasl.mechanism } }),
  }
}

function tlsOptions(config: ClientTlsConfig, path: string): ConnectionOptions {
  try {
    return clientTls(config, path).live()
  } catch (cause) {
    throw new SidecastError('SC1205', cause instanceof Error ? cause.message : String(cause), { cause })
  }
}
