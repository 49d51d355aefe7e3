import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { cannotListen } from '../../errors.ts'
import { formatAddress } from '../../lib/units.ts'
import type { Log } from '../../telemetry/log.ts'
import { createKernelDrops, type KernelDrops } from './kernel-drops.ts'

/** Datagrams of a UDP port, for StatsD and syslog (RFC 5426). What cannot be taken is dropped and counted: there is nobody to ask for it again. */
export interface UdpListener {
  readonly address: string
  readonly counters: Readonly<UdpCounters>
  start(): Promise<void>
  /** Reads what the kernel still holds, then closes. */
  stop(deadline: AbortSignal): Promise<void>
}

export interface UdpCounters {
  datagrams: number
  bytes: number
  /** Dropped by the kernel, its buffer was full; null where it does not say. Up to date when it is read. */
  readonly droppedByKernel: number | null
  /** Dropped here while the journal had no room. */
  droppedFull: number
  /** What the kernel granted, bytes. */
  receiveBufferBytes: number
}

export interface UdpOptions {
  readonly host: string
  readonly port: number
  /** Name of the option with the address, for messages. */
  readonly option: string
  /** What it is, for the log: `StatsD over UDP`. */
  readonly what: string
  readonly gate: { readonly closed: boolean }
  readonly receiveBufferBytes: number
  /** One datagram, `bytes[start … end)`, and the address of its sender. Not called while the gate is closed. */
  readonly onDatagram: (bytes: Buffer, start: number, end: number, host: string) => void
  readonly log: Log
}

export function createUdpListener(options: UdpOptions): UdpListener {
  const { host, port, option, what, gate, receiveBufferBytes, onDatagram, log } = options
  let socket: Socket | null = null
  let kernel: KernelDrops | null = null
  let drops: number | null = null
  let address = ''
  let silentSince = 0
  const readDrops = (): number | null => {
    const now = kernel?.read() ?? null
    if (now !== null) drops = now
    return drops
  }
  const counters = {
    datagrams: 0,
    bytes: 0,
    droppedFull: 0,
    receiveBufferBytes: 0,
    get droppedByKernel() {
      return readDrops()
    },
  }
  const onMessage = (bytes: Buffer, remote: RemoteInfo): void => {
    silentSince = 0
    counters.datagrams++
    counters.bytes += bytes.length
    if (gate.closed) counters.droppedFull++
    else onDatagram(bytes, 0, bytes.length, remote.family === 'IPv6' ? plain(remote.address) : remote.address)
  }
  return {
    get address() {
      return address
    },
    counters,
    async start() {
      const opened = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', recvBufferSize: receiveBufferBytes })
      socket = opened
      await new Promise<void>((resolve, reject) => {
        opened.once('error', (error) => reject(cannotListen(option, formatAddress(host, port), error)))
        opened.bind({ address: host, port, exclusive: true }, resolve)
      })
      opened.on('error', (error) => log.warn({ error: error.message }, `${what}: the socket reports an error`))
      opened.on('message', onMessage)
      const bound = opened.address()
      address = formatAddress(bound.address, bound.port)
      kernel = createKernelDrops(bound.address, bound.port)
      // Linux answers with twice what was set, for its own bookkeeping.
      counters.receiveBufferBytes = opened.getRecvBufferSize()
      if (counters.receiveBufferBytes < receiveBufferBytes) {
        log.warn(
          { wanted: receiveBufferBytes, granted: counters.receiveBufferBytes },
          `${what}: the receive buffer is smaller than wanted, bursts may be dropped; raise it with sysctl net.core.rmem_max`,
        )
      }
    },
    async stop(deadline) {
      const open = socket
      socket = null
      if (open === null) return
      // What is in the buffer has arrived: it is read until there was nothing for a while.
      silentSince = performance.now()
      while (!deadline.aborted) {
        if (silentSince === 0) silentSince = performance.now()
        else if (performance.now() - silentSince >= QUIET_MS) break
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      readDrops()
      kernel = null
      await new Promise<void>((resolve) => open.close(() => resolve()))
    },
  }
}

/** On a socket for both families an IPv4 sender is `::ffff:10.0.0.1`: it is the same sender as anywhere else. */
function plain(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}

/** A buffer that has given nothing for this long is empty. */
const QUIET_MS = 20
