import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { ConnectionMode } from './plan.ts'

/** What stands between a sender and a target, at a port of its own, and does to the bytes what it is told. */
export interface FaultProxy {
  readonly port: number
  /** Connections that are open get what the mode does to new ones, as far as that makes sense: they are reset. */
  set(mode: ConnectionMode): Promise<void>
  close(): Promise<void>
}

/** Enough for a head, too little for a body. */
const RESET_AFTER = 700
const SLOW_MS = 30
const GARBAGE = Buffer.from('\u0000\u0001\u0002 it is not what you asked for \ufffd\r\n\r\n'.repeat(8))

/** `port`: of the target, asked for with each connection, since it may start again elsewhere. */
export async function startFaultProxy(port: () => number): Promise<FaultProxy> {
  let mode: ConnectionMode = 'pass'
  let server: Server | null = null
  let own = 0
  const open = new Set<Socket>()
  const add = (socket: Socket): void => {
    open.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => open.delete(socket))
  }

  const onConnection = (client: Socket): void => {
    add(client)
    if (mode === 'half-open') {
      client.resume()
      return
    }
    if (mode === 'garbage') {
      client.once('data', () => client.end(GARBAGE))
      return
    }
    const upstream = connect({ port: port(), host: '127.0.0.1', allowHalfOpen: true })
    add(upstream)
    upstream.on('close', () => client.destroy())
    client.on('close', () => upstream.destroy())
    client.on('end', () => upstream.end())
    let sent = 0
    client.on('data', (chunk: Buffer) => {
      sent += chunk.length
      if (mode === 'reset' && sent > RESET_AFTER) {
        // Part of the request arrives, and nobody knows how much.
        upstream.write(chunk.subarray(0, chunk.length >> 1), () => upstream.resetAndDestroy())
        client.resetAndDestroy()
        return
      }
      forward(client, upstream, chunk)
    })
    upstream.on('end', () => client.end())
    upstream.on('data', (chunk: Buffer) => {
      if (mode === 'cut') {
        client.write(chunk.subarray(0, chunk.length >> 1), () => client.resetAndDestroy())
        upstream.destroy()
        return
      }
      forward(upstream, client, chunk)
    })
  }
  const forward = (from: Socket, to: Socket, chunk: Buffer): void => {
    if (mode === 'slow') {
      from.pause()
      setTimeout(() => {
        to.write(chunk)
        from.resume()
      }, SLOW_MS)
    } else if (!to.write(chunk)) {
      from.pause()
      to.once('drain', () => from.resume())
    }
  }
  const reset = (): void => {
    for (const socket of open) socket.resetAndDestroy()
  }
  const listen = async (): Promise<void> => {
    if (server !== null) return
    const created = createServer({ allowHalfOpen: true }, onConnection)
    created.listen(own, '127.0.0.1')
    await once(created, 'listening')
    own = (created.address() as AddressInfo).port
    server = created
  }
  const unlisten = async (): Promise<void> => {
    const closing = server
    server = null
    reset()
    if (closing !== null) await new Promise((resolve) => closing.close(resolve))
  }
  await listen()
  return {
    get port() {
      return own
    },
    async set(next) {
      mode = next
      if (next === 'away') return unlisten()
      reset()
      await listen()
    },
    close: unlisten,
  }
}
