import type { Access } from '../../lib/access.ts'
import { createEnvoyNames } from '../../metrics/envoy-names.ts'
import { ENVOY_TAGS, type TagRule } from '../../metrics/envoy-tags.ts'
import type { MetricStore } from '../../metrics/store.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { RejectedGroup } from '../als/rejected.ts'
import type { Gate } from '../grpc/index.ts'
import { createUdpListener, type UdpCounters, type UdpListener } from '../stream/udp.ts'
import { createUdpReader } from '../stream/udp-reader.ts'
import { type CollectorLimits, createStatsdCollector, type StatsdLineCounters } from './collector.ts'
import type { Mapper } from './mapping.ts'
import { createStreamListener, type StreamCounters, type StreamListener } from './stream.ts'
import { createUnixDatagramListener, type UnixDatagramCounters, type UnixDatagramListener } from './unix-datagram.ts'

/**
 * StatsD, DogStatsD and Graphite lines over UDP, TCP and Unix sockets, into the metric store. None of it has an answer: what is taken
 * is fsynced with the journal's next segment, what cannot be taken is counted.
 */
export interface StatsdReceiver extends Stage {
  /** Of the listeners that exist, by the names of the ready line. */
  readonly addresses: StatsdAddresses
  readonly counters: StatsdCounters
  rejected(): RejectedGroup[]
}

export interface StatsdAddresses {
  readonly statsdUdp?: string
  readonly statsdTcp?: string
  readonly statsdUnix?: string
  readonly statsdUnixStream?: string
}

export interface StatsdCounters {
  readonly lines: Readonly<StatsdLineCounters>
  readonly udp: Readonly<UdpCounters> | null
  readonly tcp: Readonly<StreamCounters> | null
  readonly unix: Readonly<UnixDatagramCounters> | null
  readonly unixStream: Readonly<StreamCounters> | null
}

export interface StatsdOptions {
  /** null: none. Port 0 is any free one. */
  readonly udp: HostPort | null
  /** A process of its own reads the UDP socket. */
  readonly udpProcess?: boolean
  readonly tcp: HostPort | null
  /** Paths of Unix sockets; '' for none. */
  readonly unix: string
  readonly unixStream: string
  readonly receiveBufferBytes: number
  readonly connectionsMax: number
  readonly idleMs: number
  /** Of the TCP listener; everybody's, without TLS, where it is absent. */
  readonly access?: Access
  readonly metrics: MetricStore
  /** Closed while the journal has no room: datagrams are dropped and counted, connections are not read. */
  readonly gate: Gate
  /** Envoy's own when absent. */
  readonly tagRules?: readonly TagRule[]
  readonly mapper?: Mapper | null
  readonly envoyPrefixes: readonly string[]
  readonly instanceTag: string
  /** Sets are counted for so long; 10 s when absent. */
  readonly setIntervalMs?: number
  readonly limits?: Partial<CollectorLimits>
  readonly log: Log
  /** Wall clock, ms. */
  readonly clock?: () => number
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

export function createStatsdReceiver(options: StatsdOptions): StatsdReceiver {
  const { metrics, gate, log, envoyPrefixes, instanceTag, mapper = null, connectionsMax, idleMs } = options
  const collector = createStatsdCollector({
    metrics,
    mapper,
    envoyPrefixes,
    instanceTag,
    names: createEnvoyNames({ rules: options.tagRules ?? ENVOY_TAGS }),
    ...(options.limits !== undefined && { limits: options.limits }),
    ...(options.setIntervalMs !== undefined && { setIntervalMs: options.setIntervalMs }),
    ...(options.clock !== undefined && { clock: options.clock }),
  })
  const shared = { collector, gate, log, connectionsMax, idleMs, receiveBufferBytes: options.receiveBufferBytes }
  const access = options.access === undefined ? {} : { access: options.access }
  const udp: UdpListener | null =
    options.udp === null
      ? null
      : (options.udpProcess === true ? createUdpReader : createUdpListener)({
          ...options.udp,
          ...shared,
          option: 'ingest.statsd.udp',
          what: 'StatsD over UDP',
          onDatagram: (bytes, start, end, host) => collector.take(bytes, start, end, host),
        })
  const tcp: StreamListener | null =
    options.tcp === null
      ? null
      : createStreamListener({ ...shared, ...access, listen: options.tcp, option: 'ingest.statsd.tcp' })
  const unix: UnixDatagramListener | null =
    options.unix === ''
      ? null
      : createUnixDatagramListener({ ...shared, path: options.unix, option: 'ingest.statsd.unix' })
  const unixStream: StreamListener | null =
    options.unixStream === ''
      ? null
      : createStreamListener({ ...shared, listen: { path: options.unixStream }, option: 'ingest.statsd.unixStream' })
  const listeners = [udp, tcp, unix, unixStream].filter((listener) => listener !== null)
  return {
    name: 'statsd',
    get addresses() {
      return {
        ...(udp !== null && { statsdUdp: udp.address }),
        ...(tcp !== null && { statsdTcp: tcp.address }),
        ...(unix !== null && { statsdUnix: unix.address }),
        ...(unixStream !== null && { statsdUnixStream: unixStream.address }),
      }
    },
    counters: {
      lines: collector.counters,
      udp: udp?.counters ?? null,
      tcp: tcp?.counters ?? null,
      unix: unix?.counters ?? null,
      unixStream: unixStream?.counters ?? null,
    },
    rejected: () => collector.rejected(),
    async start() {
      collector.start()
      for (const listener of listeners) await listener.start()
    },
    async stop(deadline) {
      await Promise.all(listeners.map((listener) => listener.stop(deadline)))
      collector.stop()
    },
  }
}
