import { readFileSync } from 'node:fs'
import { SidecastError } from '../../errors.ts'
import type { Access } from '../../lib/access.ts'
import { parseAddress, parseBytes, parseDuration } from '../../lib/units.ts'
import type { TagRule } from '../../metrics/envoy-tags.ts'
import type { MetricStore } from '../../metrics/store.ts'
import type { Log } from '../../telemetry/log.ts'
import type { Gate } from '../grpc/index.ts'
import { type Mapper, parseMapping } from './mapping.ts'
import { createStatsdReceiver, type HostPort, type StatsdReceiver } from './receiver.ts'

/** `ingest.statsd` of the configuration, validated. */
export interface StatsdConfig {
  readonly udp: string
  readonly udpProcess: boolean
  readonly tcp: string
  readonly unix: string
  readonly unixStream: string
  readonly receiveBuffer: string
  readonly connectionsMax: number
  readonly idle: string
  readonly prefixes: readonly string[]
  readonly instanceTag: string
  readonly setInterval: string
  readonly mapping: string
}

export interface OpenStatsdOptions {
  readonly config: StatsdConfig
  readonly tagRules: readonly TagRule[]
  readonly access?: Access
  readonly metrics: MetricStore
  readonly gate: Gate
  readonly log: Log
}

/** The receiver that the configuration asks for. Throws SC1205 when the mapping file cannot be used. */
export function openStatsd({ config, tagRules, access, metrics, gate, log }: OpenStatsdOptions): StatsdReceiver {
  return createStatsdReceiver({
    udp: hostPort(config.udp),
    udpProcess: config.udpProcess,
    tcp: hostPort(config.tcp),
    unix: config.unix,
    unixStream: config.unixStream,
    receiveBufferBytes: parseBytes(config.receiveBuffer)!,
    connectionsMax: config.connectionsMax,
    idleMs: parseDuration(config.idle)!,
    envoyPrefixes: config.prefixes,
    instanceTag: config.instanceTag,
    setIntervalMs: parseDuration(config.setInterval)!,
    mapper: config.mapping === '' ? null : readMapping(config.mapping),
    tagRules,
    ...(access && { access }),
    metrics,
    gate,
    log,
  })
}

function hostPort(text: string): HostPort | null {
  return text === '' ? null : parseAddress(text)
}

function readMapping(path: string): Mapper {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new SidecastError('SC1205', `ingest.statsd.mapping: ${reason}`, { cause: error })
  }
  const result = parseMapping(text)
  if ('mapper' in result) return result.mapper
  throw new SidecastError('SC1205', `ingest.statsd.mapping: ${path}: ${result.errors.join('; ')}`)
}
