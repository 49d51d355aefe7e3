import type { Access } from '../../lib/access.ts'
import { createGenerations } from '../../lib/generations.ts'
import { parseAddress } from '../../lib/units.ts'
import type { LaneGate } from '../../pipeline/lane.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins, Sender } from '../entry/origins.ts'
import { createGateWait } from '../lines/gate.ts'
import type { LineParser } from '../lines/parser.ts'
import { createLineReader, type LineReader } from '../lines/read-line.ts'
import { createRejectedLines, type RejectedLinesGroup } from '../lines/rejected-lines.ts'
import { createUnwrapper } from '../lines/unwrap/index.ts'
import {
  createStreamListener,
  type StreamCounters,
  type StreamHandler,
  type StreamListener,
  type StreamPeer,
} from '../stream/listener.ts'
import { createUdpListener, type UdpCounters, type UdpListener } from '../stream/udp.ts'
import { SyslogFrames } from './frames.ts'

/**
 * Syslog, RFC 3164 and RFC 5424, over UDP, TCP and TLS: access logs of NGINX, HAProxy and whatever a host's daemon sends on.
 *
 *   datagram, or frame of a stream ─► head taken away, which names host and time ─► line parser ─► EntryWriter
 *
 * The protocol has no answer. Over TCP and TLS a sender waits while the journal takes nothing, over UDP it cannot.
 */
export interface SyslogReceiver extends Stage {
  /** host:port of the listeners that there are. */
  readonly addresses: { readonly udp?: string; readonly tcp?: string; readonly tls?: string }
  readonly counters: Readonly<SyslogCounters>
  /** Null where there is no such listener. */
  readonly udp: Readonly<UdpCounters> | null
  readonly tcp: Readonly<StreamCounters> | null
  readonly tls: Readonly<StreamCounters> | null
  rejected(): RejectedLinesGroup[]
}

export interface SyslogCounters {
  messages: number
  rows: number
  /** Messages that made no row, by reason. */
  readonly rejected: Map<string, number>
  /** Wall clock, ms, of the last message; 0 before the first. */
  lastMs: number
}

export interface SyslogReceiverOptions {
  /** host:port; '' for none. */
  readonly udp: string
  readonly tcp: string
  readonly tls: string
  /** Of the two stream listeners; everybody's, without TLS, where it is absent. */
  readonly access?: { readonly tcp: Access; readonly tls: Access }
  /** A parser for one sender: it may remember which form came last. */
  readonly createParser: () => LineParser
  readonly writer: EntryWriter
  readonly origins: Origins
  /** Node id of all rows; '' for the host that the message names, else the address of the sender. */
  readonly node: string
  readonly sender?: Pick<Sender, 'mesh' | 'self' | 'nodeType'>
  /** Minutes that senders of RFC 3164, which has no zone, are ahead of UTC. */
  readonly offsetMinutes?: number
  readonly gate: LaneGate
  readonly onDecoded?: (nodeId: string, decoded: number, rejected: number) => void
  readonly log: Log
  readonly limits?: Partial<SyslogLimits>
  readonly clock?: () => number
}

export interface SyslogLimits {
  readonly messageBytesMax: number
  readonly connectionsMax: number
  readonly stallMs: number
  readonly sweepMs: number
  /** Senders over UDP that are told apart by what their last lines were. */
  readonly sendersMax: number
  readonly receiveBufferBytes: number
}

const LIMITS: SyslogLimits = {
  messageBytesMax: 64 * 1024,
  connectionsMax: 2000,
  stallMs: 30_000,
  sweepMs: 1000,
  sendersMax: 2000,
  receiveBufferBytes: 4 * 1024 * 1024,
}

export function createSyslogReceiver(options: SyslogReceiverOptions): SyslogReceiver {
  return new Receiver(options)
}

class Receiver implements SyslogReceiver {
  readonly name = 'syslog'
  readonly counters: SyslogCounters = { messages: 0, rows: 0, rejected: new Map(), lastMs: 0 }
  readonly #options: SyslogReceiverOptions
  readonly #limits: SyslogLimits
  readonly #clock: () => number
  readonly #rejectedLines = createRejectedLines()
  readonly #whenOpen: (signal: AbortSignal) => Promise<void>
  readonly #stopping = new AbortController()
  readonly #senders: ReturnType<typeof createGenerations<string, LineReader>>
  readonly #udp: UdpListener | null
  readonly #tcp: StreamListener | null
  readonly #tls: StreamListener | null
  #isDue = false

  constructor(options: SyslogReceiverOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#clock = options.clock ?? Date.now
    this.#whenOpen = createGateWait(options.gate)
    this.#senders = createGenerations(this.#limits.sendersMax)
    const { udp, tcp, tls, access, gate, log } = options
    const { receiveBufferBytes } = this.#limits
    const onDatagram = (bytes: Buffer, start: number, end: number, host: string): void =>
      this.#onDatagram(bytes.subarray(start, end), host)
    this.#udp =
      udp === ''
        ? null
        : createUdpListener({
            ...parseAddress(udp)!,
            option: 'ingest.syslog.udp',
            what: 'syslog over UDP',
            receiveBufferBytes,
            gate,
            onDatagram,
            log,
          })
    this.#tcp = tcp === '' ? null : this.#stream('syslog-tcp', tcp, 'ingest.syslog.tcp', access?.tcp)
    this.#tls = tls === '' ? null : this.#stream('syslog-tls', tls, 'ingest.syslog.tls.listen', access?.tls)
  }

  get addresses() {
    return {
      ...(this.#udp && { udp: this.#udp.address }),
      ...(this.#tcp && { tcp: this.#tcp.address }),
      ...(this.#tls && { tls: this.#tls.address }),
    }
  }

  get udp() {
    return this.#udp?.counters ?? null
  }

  get tcp() {
    return this.#tcp?.counters ?? null
  }

  get tls() {
    return this.#tls?.counters ?? null
  }

  rejected(): RejectedLinesGroup[] {
    return this.#rejectedLines.list()
  }

  async start(): Promise<void> {
    for (const listener of [this.#udp, this.#tcp, this.#tls]) await listener?.start()
  }

  async stop(deadline: AbortSignal): Promise<void> {
    const give = (): void => this.#stopping.abort()
    if (deadline.aborted) give()
    deadline.addEventListener('abort', give, { once: true })
    await Promise.all([this.#udp?.stop(deadline), this.#tcp?.stop(deadline), this.#tls?.stop(deadline)])
    give()
    deadline.removeEventListener('abort', give)
    this.#commitNow()
  }

  #stream(name: string, listen: string, option: string, access: Access | undefined): StreamListener {
    const { connectionsMax, stallMs, sweepMs } = this.#limits
    const { log } = this.#options
    const open = (peer: StreamPeer): StreamHandler => this.#openStream(peer)
    const limits = { connectionsMax, stallMs, sweepMs }
    return createStreamListener({ name, listen, option, ...(access && { access }), open, log, ...limits })
  }

  #openStream({ host }: StreamPeer): StreamHandler {
    const reader = this.#reader(host)
    const frames = new SyslogFrames({
      messageBytesMax: this.#limits.messageBytesMax,
      onMessage: (bytes, start, end) => this.#message(reader, host, bytes, start, end),
      onFault: (fault) => this.#reject(fault, host, ''),
    })
    return {
      get holds() {
        return frames.holds
      },
      onChunk: async (chunk) => {
        frames.push(chunk)
        await this.#commit()
        return !this.#stopping.signal.aborted
      },
      onEnd: async () => {
        frames.end()
        await this.#commit()
      },
    }
  }

  #onDatagram(bytes: Buffer, host: string): void {
    let reader = this.#senders.get(host)
    if (reader === undefined) {
      reader = this.#reader(host)
      this.#senders.set(host, reader)
    }
    let end = bytes.length
    while (end > 0 && (bytes[end - 1] === 0x0a || bytes[end - 1] === 0x0d || bytes[end - 1] === 0)) end--
    if (end === 0) return
    this.#message(reader, host, bytes, 0, end)
    if (this.#isDue) return
    // Datagrams come in bursts: one commit for all that the kernel had.
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      this.#commitNow()
    })
  }

  #reader(host: string): LineReader {
    const { createParser, writer, origins, node, sender = {}, offsetMinutes = 0 } = this.#options
    const unwrapper = createUnwrapper({ hints: { node: host }, offsetMinutes, now: this.#clock })
    return createLineReader({ parser: createParser(), unwrapper, writer, origins, sender: { ...sender, nodeId: node } })
  }

  #message(reader: LineReader, host: string, bytes: Buffer, start: number, end: number): void {
    this.counters.messages++
    this.counters.lastMs = this.#clock()
    const line = bytes.toString('utf8', start, end)
    const outcome = reader.read(line)
    if (outcome !== 'added' && outcome !== 'held') this.#reject(outcome, host, line)
  }

  /** Makes rows of what was read; false: some wait for the gate to open. */
  #commitNow(): boolean {
    const { added, rejected, reasons, pending } = this.#options.writer.commit()
    this.counters.rows += added
    // The writer has told the ledger of these itself.
    if (rejected > 0) for (const [reason, count] of reasons) this.#count(reason, count)
    return pending === 0
  }

  async #commit(): Promise<void> {
    const { signal } = this.#stopping
    while (!this.#commitNow() && !signal.aborted) await this.#whenOpen(signal)
  }

  #reject(reason: string, host: string, text: string): void {
    this.#count(reason, 1)
    this.#rejectedLines.add({ reason, source: host, position: this.counters.messages, text, timeMs: this.#clock() })
    this.#options.onDecoded?.(this.#options.node || host, 0, 1)
  }

  #count(reason: string, count: number): void {
    this.counters.rejected.set(reason, (this.counters.rejected.get(reason) ?? 0) + count)
  }
}
