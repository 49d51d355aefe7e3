import { connect, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { type Format, later, type Sent, TAKEN, type Transport } from './transport.ts'

/**
 * Plain lines over TCP, as a Wavefront proxy takes them on its ports: 2878 for points and distributions, another one for
 * spans and their logs.
 *
 * The protocol has no answer. So each body has a connection of its own, which we close towards the proxy when all is
 * written: a proxy reads up to that end and closes its side too, and one that dies before resets the connection instead.
 * Its close is the answer. What it does not say is whether lines were refused; that is why we check them first.
 */
export interface TcpTransportOptions {
  readonly host: string
  readonly port: number
  /** Of spans and span logs; 0: none. */
  readonly tracePort: number
  readonly timeoutMs: number
  /** Null: no TLS. Asked for each connection. */
  readonly tls: (() => ConnectionOptions) | null
}

export function createTcpTransport(options: TcpTransportOptions): Transport {
  const { host, port, tracePort, timeoutMs, tls } = options

  function open(to: number): Socket {
    if (tls === null) return connect({ host, port: to, allowHalfOpen: true, noDelay: true })
    return connectTls({ host, port: to, allowHalfOpen: true, ...tls() } as ConnectionOptions)
  }

  return {
    endpoint: `tcp://${host}:${port}`,
    send(format: Format, body: Buffer, signal: AbortSignal): Promise<Sent> {
      const to = format === 'trace' || format === 'spanLogs' ? tracePort : port
      return new Promise((resolve) => {
        if (signal.aborted) {
          resolve(later('given up: the process stops'))
          return
        }
        const socket = open(to)
        const settle = (sent: Sent): void => {
          signal.removeEventListener('abort', onAbort)
          clearTimeout(timer)
          socket.destroy()
          resolve(sent)
        }
        const onAbort = (): void => settle(later('given up: the process stops'))
        const timer = setTimeout(() => settle(later(`no answer from port ${to} within ${timeoutMs} ms`)), timeoutMs)
        signal.addEventListener('abort', onAbort, { once: true })
        let written = false
        socket.on('error', (cause) => settle(later(`port ${to}: ${cause.message}`, { cause })))
        // Proxies say nothing; what comes is thrown away, so that the end can come.
        socket.on('data', () => {})
        socket.on('end', () => settle(written ? TAKEN : later(`port ${to} closed before it had all`)))
        socket.on('close', () => settle(later(`port ${to} closed before it had all`)))
        socket.end(body, () => {
          written = true
        })
      })
    },
    close() {},
  }
}
