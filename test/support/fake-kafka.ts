import { createServer, type Server, type Socket } from 'node:net'
import { Reader, readRecordsBatches } from '@platformatic/kafka'
import { decodeHeader, decodeManifest } from '../../src/kafka/segment-records.ts'
import { isRowTable } from '../../src/pipeline/journal-format.ts'
import type { Behaviour, ContractTarget } from './sink-contract.ts'

/**
 * A broker that takes what producers say and counts it: ApiVersions, Metadata, InitProducerId and Produce of Kafka's
 * protocol, in versions that both clients speak. It knows every topic, with two partitions, and is the leader of all.
 */
export interface FakeKafka extends ContractTarget {
  /** `127.0.0.1:port`. */
  readonly address: string
}

const API = { produce: 0, metadata: 3, apiVersions: 18, initProducerId: 22 } as const
const VERSIONS = [
  [API.produce, 3, 7],
  [API.metadata, 1, 6],
  [API.apiVersions, 0, 2],
  [API.initProducerId, 0, 1],
] as const
const PARTITIONS = 2
const NOT_ENOUGH_REPLICAS = 19
const MESSAGE_TOO_LARGE = 10
const UNSUPPORTED_VERSION = 35
const SLOW_MS = 200

export async function startFakeKafka(): Promise<FakeKafka> {
  const sockets = new Set<Socket>()
  let behaviour: Behaviour = 'accept'
  let offset = 0n
  /** Rows by segment: what is sent again is the same. */
  const rows = new Map<string, number>()

  const serve = (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    let buffer: Buffer = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      buffer = Buffer.concat([buffer, chunk])
      while (buffer.length >= 4 && buffer.length >= 4 + buffer.readInt32BE(0)) {
        const end = 4 + buffer.readInt32BE(0)
        const answer = answerOf(buffer.subarray(4, end))
        buffer = buffer.subarray(end)
        if (behaviour === 'hang') continue
        const send = () => socket.destroyed || socket.write(answer)
        if (behaviour === 'slow') setTimeout(send, SLOW_MS)
        else send()
      }
    })
  }

  function answerOf(request: Buffer): Buffer {
    const [api, version, correlation] = [request.readInt16BE(0), request.readInt16BE(2), request.readInt32BE(4)]
    const client = request.readInt16BE(8)
    const body = request.subarray(10 + Math.max(0, client))
    const out = new Out().int32(correlation)
    if (api === API.apiVersions) versions(out, version)
    else if (api === API.metadata) metadata(out, body)
    else if (api === API.initProducerId) out.int32(0).int16(0).int64(1000n).int16(0)
    else produce(out, body)
    return out.framed()
  }

  /** Of a version that is not there, in the form of version 0, as brokers do. */
  function versions(out: Out, version: number): void {
    out.int16(version > 2 ? UNSUPPORTED_VERSION : 0).int32(VERSIONS.length)
    for (const [key, from, to] of VERSIONS) out.int16(key).int16(from).int16(to)
    if (version > 0 && version <= 2) out.int32(0)
  }

  function metadata(out: Out, body: Buffer): void {
    const names: string[] = []
    let at = 4
    for (let k = 0; k < body.readInt32BE(0); k++) {
      const length = body.readInt16BE(at)
      names.push(body.toString('utf8', at + 2, at + 2 + length))
      at += 2 + length
    }
    out.int32(0).int32(1).int32(1).text('127.0.0.1').int32(port).int16(-1).text('fake').int32(1).int32(names.length)
    for (const name of names) {
      out.int16(0).text(name).int8(0).int32(PARTITIONS)
      for (let partition = 0; partition < PARTITIONS; partition++) {
        out.int16(0).int32(partition).int32(1).int32(1).int32(1).int32(1).int32(1).int32(0)
      }
    }
  }

  function produce(out: Out, body: Buffer): void {
    const error = { retry: NOT_ENOUGH_REPLICAS, reject: MESSAGE_TOO_LARGE }[behaviour as string] ?? 0
    const accepts = behaviour === 'accept' || behaviour === 'slow'
    let at = body.readInt16BE(0) === -1 ? 2 : 2 + body.readInt16BE(0)
    at += 6
    const topics = body.readInt32BE(at)
    at += 4
    out.int32(topics)
    for (let k = 0; k < topics; k++) {
      const length = body.readInt16BE(at)
      out.text(body.toString('utf8', at + 2, at + 2 + length))
      at += 2 + length
      const partitions = body.readInt32BE(at)
      at += 4
      out.int32(partitions)
      for (let p = 0; p < partitions; p++) {
        const [index, bytes] = [body.readInt32BE(at), body.readInt32BE(at + 4)]
        if (accepts) count(body.subarray(at + 8, at + 8 + bytes))
        at += 8 + bytes
        out.int32(index).int16(error).int64(offset++).int64(-1n).int64(0n)
      }
    }
    out.int32(0)
  }

  function count(batches: Buffer): void {
    for (const batch of readRecordsBatches(Reader.from(batches))) {
      for (const { headers, value } of batch.records) {
        const header = decodeHeader(new Map(headers.map(([name, text]) => [String(name), String(text)])))
        if (header === null || 'newer' in header || header.slice !== null) continue
        const { segment, tables } = decodeManifest(value!)!
        rows.set(
          segment,
          tables.reduce((sum, one) => sum + (isRowTable(one.table) ? one.rows : 0), 0),
        )
      }
    }
  }

  let port = 0
  const listen = () =>
    new Promise<Server>((resolve, reject) => {
      const server = createServer(serve)
      server.once('error', reject)
      server.listen(port, '127.0.0.1', () => resolve(server))
    })
  const shut = async (server: Server) => {
    const closed = new Promise((resolve) => server.close(resolve))
    for (const socket of sockets) socket.destroy()
    await closed
  }
  let server: Server | null = await listen()
  port = (server.address() as { port: number }).port
  return {
    address: `127.0.0.1:${port}`,
    taken: () => [...rows.values()].reduce((sum, n) => sum + n, 0),
    async behave(how) {
      behaviour = how
      if (how === 'away' && server !== null) {
        await shut(server)
        server = null
      } else if (how !== 'away') {
        server ??= await listen()
        // Who waits for an answer that never comes asks again.
        for (const socket of sockets) socket.destroy()
      }
    },
    async close() {
      if (server !== null) await shut(server)
    },
  }
}

/** Big-endian, as everything in Kafka's protocol. */
class Out {
  readonly #chunks: Buffer[] = []

  int8(value: number): this {
    return this.#add(1, (bytes) => bytes.writeInt8(value))
  }
  int16(value: number): this {
    return this.#add(2, (bytes) => bytes.writeInt16BE(value))
  }
  int32(value: number): this {
    return this.#add(4, (bytes) => bytes.writeInt32BE(value))
  }
  int64(value: bigint): this {
    return this.#add(8, (bytes) => bytes.writeBigInt64BE(value))
  }
  text(value: string): this {
    this.int16(Buffer.byteLength(value))
    this.#chunks.push(Buffer.from(value))
    return this
  }
  framed(): Buffer {
    const body = Buffer.concat(this.#chunks)
    const length = Buffer.alloc(4)
    length.writeInt32BE(body.length)
    return Buffer.concat([length, body])
  }

  #add(bytes: number, write: (into: Buffer) => void): this {
    const chunk = Buffer.alloc(bytes)
    write(chunk)
    this.#chunks.push(chunk)
    return this
  }
}
