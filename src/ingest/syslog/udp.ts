import { createSocket, type Socket } from 'node:dgram'
import { SidecastError } from '../../errors.ts'
import { parseAddress } from '../../lib/units.ts'
import type { Log } from '../../telemetry/log.ts'
import { createKernelDrops, type KernelDrops } from '../statsd/kernel-drops.ts'

/** Syslog over UDP (RFC 5426): one message in one datagram. What cannot be taken is dropped and counted. */
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
  /** Dropped here while the journal had no room. */
  droppedFull: number
  /** Dropped by the kernel, its buffer was full; null where it does not say. Up to date when it is read. */
  readonly droppedByKernel: number | null
  /** What the kernel granted. */
  receiveBufferBytes: number
}

export interface UdpOptions {
  readonly listen: string
  readonly option: string
  readonly receiveBufferBytes: number
  readonly gate: { readonly closed: boolean }
  readonly onDatagram: (bytes: Buffer, host: string) => void
  readonly log: Log
}

/** A buffer that has given nothing for this long is empty. */
const QUIET_MS = 20

export function createUdpListener(options: UdpOptions): UdpListener {
  const { listen, option, receiveBufferBytes, gate, onDatagram, log } = options
  let socket: Socket | null = null
  let kernel: KernelDrops | null = null
  let dropped: number | null = null
  let address = listen
  let lastMs = 0
  const counters = {
    datagrams: 0,
    bytes: 0,
    droppedFull: 0,
    receiveBufferBytes: 0,
    get droppedByKernel() {
      dropped = kernel?.read() ?? dropped
      return dropped
    },
  }
  return {
    counters,
    get address() {
      return address
    },
    async start() {
      const { host, port } = parseAddress(listen)!
      const opened = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', recvBufferSize: receiveBufferBytes })
      await new Promise<void>((resolve, reject) => {
        opened.once('error', (cause: NodeJS.ErrnoException) => {
          const message = `${option}: cannot listen on ${listen}: ${cause.code ?? cause.message}`
          reject(new SidecastError('SC4101', message, { help: `choose another address for ${option}`, cause }))
        })
        opened.bind({ address: host, port, exclusive: true }, resolve)
      })
      socket = opened
      opened.on('error', (error) => log.warn({ error }, 'syslog over UDP: the socket reports an error'))
      opened.on('message', (bytes, remote) => {
        lastMs = performance.now()
        counters.datagrams++
        counters.bytes += bytes.length
        if (gate.closed) counters.droppedFull++
        else onDatagram(bytes, remote.address.replace(/^::ffff:/, ''))
      })
      const bound = opened.address()
      address = bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`
      kernel = createKernelDrops(bound.address, bound.port)
      counters.receiveBufferBytes = opened.getRecvBufferSize()
      if (counters.receiveBufferBytes < receiveBufferBytes) {
        const granted = counters.receiveBufferBytes
        log.warn({ wanted: receiveBufferBytes, granted }, 'syslog over UDP: the receive buffer is smaller than wanted')
      }
    },
    async stop(deadline) {
      const open = socket
      socket = null
      if (open === null) return
      lastMs = performance.now()
      while (!deadline.aborted && performance.now() - lastMs < QUIET_MS) {
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      dropped = kernel?.read() ?? dropped
      kernel = null
      await new Promise<void>((resolve) => open.close(() => resolve()))
    },
  }
}
