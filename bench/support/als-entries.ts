import { seededRandom } from '../../src/lib/random.ts'

/**
 * Access log entries as Envoy sends them, about 500 bytes each, for benches and load: `StreamAccessLogsMessage`s with
 * HTTP entries of realistic cardinality. Seeded: the same seed gives the same bytes. One entry costs about as much CPU
 * as decoding it, so load generators belong into a process of their own.
 */
export interface EntryGeneratorOptions {
  /** Distinct pairs of calling and called service; each has its own cluster, route and authority. */
  readonly edges?: number
  readonly hosts?: number
  /** Entries of one message. Envoy's default buffer of 16 KiB holds about 32. */
  readonly entriesPerMessage?: number
  /** Unix ms of the first entry, and ns between two. */
  readonly startMs?: number
  readonly spacingNs?: number
  /** Share of entries with an error: 503 with flags, 504, 404, clients that left. */
  readonly errorShare?: number
  /** Whether requests carry a traceparent. */
  readonly traceparent?: boolean
  /** Whether the downstream connection is mutual TLS, as inside a mesh. */
  readonly mutualTls?: boolean
  /** When given, the first message also has the identifier of this node, as on a stream of Envoy's. */
  readonly node?: number
  /** Whether every path is one of its own route's (no id in it). */
  readonly plainPaths?: boolean
}

export interface EntryGenerator {
  /** The serialized message with the identifier of a node and no entries: the first one of a stream. */
  identifier(node: number): Buffer
  /** The next serialized message (no gRPC prefix), in a buffer of its own. */
  message(entries?: number): Buffer
  /** Entries made so far. */
  readonly entries: number
}

const TYPE_DOWNSTREAM_END = 6

export function createEntryGenerator(seed: number, options: EntryGeneratorOptions = {}): EntryGenerator {
  return new Generator(seed, options)
}

type Settings = Required<Omit<EntryGeneratorOptions, 'node'>>

interface Edge {
  readonly cluster: Buffer
  readonly route: Buffer
  readonly authority: Buffer
  readonly pathHead: Buffer
  readonly userAgent: Buffer
  readonly tls: Buffer
  readonly method: number
  readonly hasBody: boolean
  /** Median of the upstream's time, ns. */
  readonly medianNs: number
}

const PORTS = [8080, 8443, 9090, 80, 3000]
const RESOURCES = ['orders', 'carts', 'users', 'items', 'reviews', 'payments', 'sessions', 'shipments']
const AGENTS = ['Go-http-client/1.1', 'okhttp/4.12.0', 'axios/1.7.2', 'python-requests/2.32.3', 'grpc-java-netty/1.64']
const HEX = Buffer.from('0123456789abcdef')

class Generator implements EntryGenerator {
  entries = 0
  readonly #options: Settings
  readonly #node: number | undefined
  readonly #random: () => number
  readonly #edges: readonly Edge[]
  readonly #upstreams: readonly Buffer[]
  readonly #clients: readonly Buffer[]
  readonly #local = Buffer.from('10.0.12.34')
  #timeMs: number
  #timeNs = 0
  #bytes = Buffer.allocUnsafeSlow(1 << 16)
  #at = 0
  readonly #id = Buffer.alloc(36)

  constructor(seed: number, options: EntryGeneratorOptions) {
    this.#options = {
      edges: 400,
      hosts: 200,
      entriesPerMessage: 32,
      startMs: 1_767_225_600_000,
      spacingNs: 20_000,
      errorShare: 0.01,
      traceparent: true,
      mutualTls: false,
      plainPaths: false,
      ...options,
    }
    this.#node = options.node
    this.#random = seededRandom(seed)
    this.#timeMs = this.#options.startMs
    this.#edges = Array.from({ length: this.#options.edges }, (_, k) => edge(k, this.#options, this.#random))
    this.#upstreams = Array.from({ length: this.#options.hosts }, (_, k) =>
      Buffer.from(`10.${64 + (k >> 8)}.${k & 255}.${1 + ((k * 37) % 250)}`),
    )
    this.#clients = Array.from({ length: 1000 }, (_, k) => Buffer.from(`10.${128 + (k >> 8)}.${k & 255}.7`))
  }

  identifier(node: number): Buffer {
    this.#at = 0
    this.#identifier(node)
    return Buffer.from(this.#bytes.subarray(0, this.#at))
  }

  #identifier(node: number): void {
    this.#message(1, () => {
      this.#message(1, () => {
        this.#text(1, `sidecar~10.0.12.${node & 255}~web-${node}.shop~shop.svc.cluster.local`)
        this.#text(2, 'web.shop')
        this.#message(3, () => {
          for (const [key, value] of [
            ['NAMESPACE', 'shop'],
            ['WORKLOAD_NAME', 'web'],
            ['MESH_ID', 'mesh1'],
            ['CLUSTER_ID', 'cluster1'],
          ] as const) {
            this.#message(1, () => {
              this.#text(1, key)
              this.#message(2, () => this.#text(3, value))
            })
          }
        })
        this.#message(4, () => {
          this.#text(1, 'region-1')
          this.#text(2, 'zone-a')
        })
        this.#text(6, 'envoy')
      })
      this.#text(2, 'http_envoy_accesslog')
    })
  }

  message(entries = this.#options.entriesPerMessage): Buffer {
    const needed = entries * 1024 + 1024
    if (needed > this.#bytes.length) this.#bytes = Buffer.allocUnsafeSlow(2 * needed)
    this.#at = 0
    if (this.entries === 0 && this.#node !== undefined) this.#identifier(this.#node)
    this.#message(2, () => {
      for (let k = 0; k < entries; k++) this.#entry()
    })
    return Buffer.from(this.#bytes.subarray(0, this.#at))
  }

  #entry(): void {
    const random = this.#random
    const edge = this.#edges[Math.floor(random() ** 2 * this.#edges.length)]!
    const serial = this.entries++
    this.#timeNs += this.#options.spacingNs
    if (this.#timeNs >= 1_000_000) {
      this.#timeMs += Math.floor(this.#timeNs / 1_000_000)
      this.#timeNs %= 1_000_000
    }
    const upstream = this.#upstreams[(serial * 7 + edge.medianNs) % this.#upstreams.length]!
    const client = this.#clients[Math.floor(random() * this.#clients.length)]!
    const port = 32_768 + Math.floor(random() * 28_000)
    const error = random() < this.#options.errorShare ? 1 + Math.floor(random() * 4) : 0
    const left = error === 4
    const unreachable = error === 1
    // Points, in ns: the service's time is log-normal around the median of the edge.
    const rx = 40_000 + Math.floor(random() * 200_000)
    const sent = rx + 200_000 + Math.floor(random() * 600_000)
    const answered = sent + Math.floor(edge.medianNs * Math.exp(normal(random) * 0.6))
    const complete = answered + 20_000 + Math.floor(random() * 900_000)
    const total = complete + 60_000 + Math.floor(random() * 400_000)
    const requestBytes = edge.hasBody ? 200 + Math.floor(random() * 4000) : 0
    const responseBytes = left || unreachable ? 0 : 100 + Math.floor(random() * 20_000)
    const code = [200, 503, 504, 404, 0][error]!
    const details = [
      'via_upstream',
      'upstream_reset_before_response_started{connection_termination}',
      'response_timeout',
      'via_upstream',
      'downstream_remote_disconnect',
    ][error]!

    const entry = this.#open(1)
    const common = this.#open(1)
    this.#address(2, client, port)
    this.#address(3, this.#local, 8443)
    if (this.#options.mutualTls) this.#bytesField(4, edge.tls)
    this.#seconds(5, Math.floor(this.#timeMs / 1000), (this.#timeMs % 1000) * 1_000_000 + this.#timeNs)
    this.#duration(6, rx)
    if (!unreachable) {
      this.#duration(7, sent - 40_000)
      this.#duration(8, sent)
    }
    if (code !== 0 && !unreachable) {
      this.#duration(9, answered)
      this.#duration(10, complete)
    }
    if (!left) {
      this.#duration(11, answered + 15_000)
      this.#duration(12, total - 20_000)
    }
    this.#address(13, upstream, PORTS[edge.medianNs % PORTS.length]!)
    if (!unreachable) this.#address(14, this.#local, 40_000 + (port & 8191))
    this.#bytesField(15, edge.cluster)
    if (error !== 0 && error !== 3) {
      this.#message(16, () => this.#number([0, 7, 3, 0, 15][error]!, 1))
    }
    this.#bytesField(19, edge.route)
    this.#address(20, client, port)
    this.#duration(23, total)
    this.#number(24, 1)
    this.#uuid(26, serial)
    this.#number(29, 180 + responseBytes)
    this.#number(30, 400 + requestBytes)
    if (!unreachable) {
      this.#number(31, 700 + requestBytes)
      if (!left) this.#number(32, 240 + responseBytes)
    }
    this.#number(33, TYPE_DOWNSTREAM_END)
    this.#close(common)

    this.#number(2, 2)
    const request = this.#open(3)
    this.#number(1, edge.method)
    this.#text(2, 'https')
    this.#bytesField(3, edge.authority)
    const path = this.#open(5)
    this.#raw(edge.pathHead)
    if (!this.#options.plainPaths) this.#digits(serial)
    if ((serial & 7) === 0) this.#ascii('?page=2&token=abcdef')
    this.#close(path)
    this.#bytesField(6, edge.userAgent)
    this.#bytesField(9, this.#id)
    this.#number(11, 380)
    if (requestBytes > 0) this.#number(12, requestBytes)
    if (this.#options.traceparent) {
      const header = this.#open(13)
      this.#text(1, 'traceparent')
      const value = this.#open(2)
      this.#ascii('00-')
      this.#hex(32)
      this.#ascii('-')
      this.#hex(16)
      this.#ascii('-01')
      this.#close(value)
      this.#close(header)
    }
    if (!unreachable) this.#number(14, 620)
    this.#number(15, 210)
    this.#close(request)

    const response = this.#open(4)
    if (code !== 0) this.#message(1, () => this.#number(1, code))
    if (!left) this.#number(2, 160)
    if (responseBytes > 0) this.#number(3, responseBytes)
    this.#text(6, details)
    if (code !== 0 && !unreachable) this.#number(7, 170)
    if (!left) this.#number(8, 120)
    this.#close(response)
    this.#close(entry)
  }

  #tag(field: number, type: number): void {
    const tag = (field << 3) | type
    if (tag > 127) {
      this.#bytes[this.#at++] = (tag & 127) | 128
      this.#bytes[this.#at++] = tag >>> 7
    } else this.#bytes[this.#at++] = tag
  }

  #varint(value: number): void {
    while (value > 127) {
      this.#bytes[this.#at++] = (value & 127) | 128
      value = Math.floor(value / 128)
    }
    this.#bytes[this.#at++] = value
  }

  /** A message whose length is not known yet: one byte is left for it, and more made when it is closed. */
  #open(field: number): number {
    this.#tag(field, 2)
    return ++this.#at
  }

  #close(start: number): void {
    const end = this.#at
    const length = end - start
    if (length < 128) {
      this.#bytes[start - 1] = length
      return
    }
    const extra = length < 16_384 ? 1 : length < 2_097_152 ? 2 : 3
    this.#bytes.copyWithin(start + extra, start, end)
    this.#at = start - 1
    this.#varint(length)
    this.#at = end + extra
  }

  #message(field: number, write: () => void): void {
    const start = this.#open(field)
    write()
    this.#close(start)
  }

  #number(field: number, value: number): void {
    this.#tag(field, 0)
    this.#varint(value)
  }

  #bytesField(field: number, bytes: Buffer): void {
    this.#tag(field, 2)
    this.#varint(bytes.length)
    this.#raw(bytes)
  }

  #text(field: number, text: string): void {
    this.#tag(field, 2)
    this.#varint(text.length)
    this.#ascii(text)
  }

  #raw(bytes: Buffer): void {
    bytes.copy(this.#bytes, this.#at)
    this.#at += bytes.length
  }

  #ascii(text: string): void {
    for (let i = 0; i < text.length; i++) this.#bytes[this.#at++] = text.charCodeAt(i)
  }

  #digits(value: number): void {
    this.#ascii(String(value))
  }

  #hex(digits: number): void {
    for (let k = 0; k < digits; k += 4) {
      const word = Math.floor(this.#random() * 65_536)
      this.#bytes[this.#at++] = HEX[word & 15]!
      this.#bytes[this.#at++] = HEX[(word >> 4) & 15]!
      this.#bytes[this.#at++] = HEX[(word >> 8) & 15]!
      this.#bytes[this.#at++] = HEX[(word >> 12) & 15]!
    }
  }

  /** A unique id in the form of a UUID; its last 12 digits are the number of the entry. It stays in `#id`. */
  #uuid(field: number, serial: number): void {
    this.#tag(field, 2)
    this.#varint(36)
    const at = this.#at
    this.#hex(8)
    this.#ascii('-')
    this.#hex(4)
    this.#ascii('-4')
    this.#hex(4)
    this.#at -= 1
    this.#ascii('-a')
    this.#hex(4)
    this.#at -= 1
    this.#ascii('-')
    for (let shift = 11; shift >= 0; shift--) {
      this.#bytes[this.#at++] = HEX[Math.floor(serial / 16 ** shift) & 15]!
    }
    this.#bytes.copy(this.#id, 0, at, at + 36)
  }

  #address(field: number, host: Buffer, port: number): void {
    const address = this.#open(field)
    const socket = this.#open(1)
    this.#bytesField(2, host)
    this.#number(3, port)
    this.#close(socket)
    this.#close(address)
  }

  #seconds(field: number, seconds: number, nanos: number): void {
    const start = this.#open(field)
    if (seconds > 0) this.#number(1, seconds)
    if (nanos > 0) this.#number(2, nanos)
    this.#close(start)
  }

  #duration(field: number, ns: number): void {
    const seconds = Math.floor(ns / 1e9)
    this.#seconds(field, seconds, ns - seconds * 1e9)
  }
}

function edge(k: number, options: Settings, random: () => number): Edge {
  const service = `svc-${k % 80}`
  const namespace = `team-${k % 12}`
  const resource = RESOURCES[k % RESOURCES.length]!
  const subset = k % 5 === 0 ? 'v2' : ''
  const hasBody = k % 3 === 0
  return {
    cluster: Buffer.from(`outbound|80|${subset}|${service}.${namespace}.svc.cluster.local`),
    route: Buffer.from(`${resource}-${k % 40}`),
    authority: Buffer.from(`${service}.${namespace}:80`),
    pathHead: Buffer.from(options.plainPaths ? `/api/v1/${resource}` : `/api/v1/${resource}/`),
    userAgent: Buffer.from(AGENTS[k % AGENTS.length]!),
    tls: tls(`spiffe://cluster.local/ns/${namespace}/sa/caller-${k % 50}`, 'spiffe://cluster.local/ns/shop/sa/web'),
    method: hasBody ? 3 : 1,
    hasBody,
    medianNs: Math.floor(2_000_000 * Math.exp(random() * 4)),
  }
}

/** `TLSProperties` of a mutual TLS 1.3 connection. */
function tls(peer: string, local: string): Buffer {
  const field = (number: number, bytes: Buffer): Buffer =>
    Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes])
  const san = (uri: string): Buffer => field(1, field(1, Buffer.from(uri)))
  return Buffer.concat([
    Buffer.from([8, 4]),
    field(2, Buffer.from([8, 0x82, 0x26])),
    field(3, Buffer.from('outbound_.80_._.web.shop.svc.cluster.local')),
    field(4, san(local)),
    field(5, san(peer)),
  ])
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
}
