import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type EnvoyProcess, freePorts, startEnvoy } from '../../../src/demo/envoy-process.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { envoy } from '../programs.ts'
import { fromTemplate } from './template.ts'

/** How the way of access log entries from an Envoy to their receiver is disturbed. Its stats go another way. */
export type Disturbance =
  /** Nothing is. */
  | 'none'
  /** Connections are cut, and none is taken. */
  | 'killed'
  /** Bytes are not read any longer. */
  | 'not read'
  /** Every stream is answered with UNAVAILABLE. */
  | 'rejected'

/** An Envoy whose entries go through a relay that can lose them; its access log file is the truth. */
export interface LossyEnvoy {
  disturb(how: Disturbance): Promise<void>
  /** So many requests a second, for a while. */
  load(perSecond: number, seconds: number): Promise<void>
  /** Lines of its access log file. */
  served(): number
  /** Ends Envoy, and starts it again. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export async function startLossyEnvoy(options: { id: string; dir: string; grpc: number }): Promise<LossyEnvoy> {
  const { id, dir, grpc } = options
  await mkdir(dir, { recursive: true })
  const binary = await envoy({ log: silentLog })
  const relay = await startRelay(grpc)
  const [admin, main] = (await freePorts(2)) as [number, number]
  const config = join(dir, `${id}.yaml`)
  const values = { ID: id, DIR: dir, ADMIN: admin, MAIN: main, ALS: relay.port, GRPC: grpc }
  await writeFile(config, await fromTemplate('loss.template', values))
  const launch = (): Promise<EnvoyProcess> =>
    startEnvoy({ binary, config, adminPort: admin, dir, name: id, concurrency: 1 })
  let process = await launch()
  return {
    disturb: (how) => relay.disturb(how),
    async load(perSecond, seconds) {
      const agent = new Agent({ keepAlive: true, maxSockets: 16 })
      const until = performance.now() + seconds * 1000
      while (performance.now() < until) {
        await Promise.all(Array.from({ length: Math.ceil(perSecond / 20) }, () => get(agent, main)))
        await sleep(50)
      }
      agent.destroy()
    },
    served: () => readFileSync(join(dir, `${id}.access`), 'utf8').split('\n').length - 1,
    async restart() {
      await process.stop()
      process = await launch()
    },
    async stop() {
      await process.stop()
      await relay.stop()
    },
  }
}

interface Relay {
  readonly port: number
  disturb(how: Disturbance): Promise<void>
  stop(): Promise<void>
}

async function startRelay(target: number): Promise<Relay> {
  let how: Disturbance = 'none'
  const sockets = new Set<Socket>()
  // Headers alone, with the status: as a server refuses a call.
  const refusing = createHttp2Server()
  refusing.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {})
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '14' }, { endStream: true })
    stream.resume()
  })
  refusing.on('session', (session) => session.on('error', () => {}))
  await new Promise<void>((resolve) => refusing.listen(0, '127.0.0.1', resolve))
  const refusingPort = (refusing.address() as AddressInfo).port
  const server = createServer((socket) => {
    if (how === 'killed') {
      socket.destroy()
      return
    }
    const other = connect(how === 'rejected' ? refusingPort : target, '127.0.0.1')
    sockets.add(socket).add(other)
    for (const [one, peer] of [
      [socket, other],
      [other, socket],
    ] as const) {
      one
        .on('error', () => peer.destroy())
        .on('close', () => {
          peer.destroy()
          sockets.delete(one)
        })
    }
    socket.on('data', (bytes) => {
      if (how !== 'not read') other.write(bytes)
    })
    other.on('data', (bytes) => socket.write(bytes))
    if (how === 'not read') socket.pause()
    held.add(socket)
  })
  const held = new Set<Socket>()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    async disturb(next) {
      how = next
      if (next === 'not read') {
        for (const socket of held) socket.pause()
        return
      }
      for (const socket of sockets) socket.destroy()
    },
    async stop() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
      await new Promise((resolve) => refusing.close(resolve))
    },
  }
}

function get(agent: Agent, port: number): Promise<void> {
  return new Promise((done, fail) => {
    request({ agent, port, host: '127.0.0.1', path: '/' }, (answer) => {
      answer.on('end', done).on('error', fail).resume()
    })
      .on('error', fail)
      .end()
  })
}
