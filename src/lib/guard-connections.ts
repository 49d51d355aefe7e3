import type { Server, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Access } from './access.ts'

/**
 * Puts TLS and the bound of connections of one sender before an HTTP server: before its own listeners, so that they find
 * a socket of who may not come in already closed. `onRefused` is called for those over the bound.
 */
export function guardConnections(server: Server, { tls, senders }: Access, onRefused: () => void): void {
  server.prependListener('connection', (socket: Socket) => {
    const sender = senders.open(socket.remoteAddress ?? '')
    if (sender !== null) socket.on('close', () => sender.close())
    else {
      onRefused()
      socket.destroy()
    }
  })
  if (tls === null) return
  server.prependListener('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => {})
    tls.admit(socket)
  })
  tls.watch(server)
}
