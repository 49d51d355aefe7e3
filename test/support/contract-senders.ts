import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import type { ContractSender } from './receiver-contract.ts'

/** Senders of protocols that have no answer, for `receiverContract`: what a name is on the wire, and something that is none. */
export interface Wire {
  readonly good: (name: string) => string | Uint8Array
  readonly bad: string | Uint8Array
}

/** Over TCP, or to the path of a socket. */
export async function streamSender(address: string, wire: Wire): Promise<ContractSender> {
  const at = address.lastIndexOf(':')
  const socket =
    at < 0 ? connect({ path: address }) : connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)) })
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  socket.on('error', () => {}).resume()
  const write = (bytes: string | Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => socket.write(bytes, (error) => (error ? reject(error) : resolve())))
  return {
    async good(names) {
      for (const name of names) await write(wire.good(name))
      return false
    },
    bad: () => write(wire.bad),
    close: () => void socket.destroy(),
  }
}

/** One datagram each. */
export async function datagramSender(address: string, wire: Wire): Promise<ContractSender> {
  const socket = createSocket('udp4')
  const [host, port] = address.split(':')
  const send = (bytes: string | Uint8Array): Promise<void> =>
    new Promise((resolve, reject) =>
      socket.send(bytes, Number(port), host, (error) => (error ? reject(error) : resolve())),
    )
  let closed = false
  return {
    async good(names) {
      for (const name of names) await send(wire.good(name))
      return false
    },
    bad: () => send(wire.bad),
    close() {
      if (!closed) socket.close()
      closed = true
    },
  }
}
