import { lookup } from 'node:dns/promises'
import { extname } from 'node:path'
import { SidecastError } from '../../errors.ts'
import { formatAddress } from '../../lib/units.ts'
import { createKernelDrops, type KernelDrops } from './kernel-drops.ts'
import { createSocketProcess } from './socket-process.ts'
import type { UdpCounters, UdpListener, UdpOptions } from './udp.ts'

/**
 * A UDP port that a process of its own reads, many datagrams with each system call (see `udp-reader-child.ts`): what a datagram costs
 * in Node is mostly what each of them costs by itself. For senders of one line a datagram, and above some 10 000 of them a second. A
 * datagram is here 5 ms later, at most. Takes Node 26.1 or later on 64-bit Linux.
 *
 * Should that process end, it is started again on the same port after a second. What its socket held then is lost, and what was sent
 * meanwhile had no receiver: `restarts` tells that figures have a gap.
 */
export interface UdpReaderCounters extends UdpCounters {
  /** Times the process ended by itself and was started again. */
  restarts: number
}

export interface UdpReader extends UdpListener {
  readonly counters: Readonly<UdpReaderCounters>
}

/** The figure of a socket goes with it: it is read so often. */
const DROPS_MS = 1000
/** A process that has said nothing for this long, of a socket that holds nothing, holds nothing either. */
const QUIET_MS = 100

export function createUdpReader(options: UdpOptions): UdpReader {
  const { option, what, gate, receiveBufferBytes, onDatagram, log } = options
  let address = ''
  let host = options.host
  let port = options.port
  let kernel: KernelDrops | null = null
  /** Of sockets before this one, and of this one. */
  let earlierDrops = 0
  let drops: number | null = null
  let polls: NodeJS.Timeout | null = null
  const readDrops = (): number | null => {
    const now = kernel?.read() ?? null
    if (now !== null) drops = now
    return drops === null ? null : earlierDrops + drops
  }
  const counters = {
    datagrams: 0,
    bytes: 0,
    droppedFull: 0,
    receiveBufferBytes: 0,
    get restarts() {
      return reading.restarts
    },
    get droppedByKernel() {
      return readDrops()
    },
  }
  const opened = (bound: Bound): void => {
    port = bound.port
    address = formatAddress(host, port)
    counters.receiveBufferBytes = bound.receiveBufferBytes
    earlierDrops += drops ?? 0
    drops = null
    kernel = createKernelDrops(host, port)
    readDrops()
    if (bound.receiveBufferBytes < receiveBufferBytes) {
      log.warn(
        { wanted: receiveBufferBytes, granted: bound.receiveBufferBytes },
        `${what}: the receive buffer is smaller than wanted, bursts may be dropped; raise it with sysctl net.core.rmem_max`,
      )
    }
  }
  const onFrame = (bytes: Buffer, start: number, end: number, sender: string): void => {
    counters.datagrams++
    counters.bytes += end - start
    if (gate.closed) counters.droppedFull++
    else onDatagram(bytes, start, end, sender)
  }
  const reading = createSocketProcess({
    program: new URL(`./udp-reader-child${extname(import.meta.url)}`, import.meta.url),
    args: () => [
      host.includes(':') ? '6' : '4',
      bytesOf(host).toString('hex'),
      String(port),
      String(receiveBufferBytes),
    ],
    what,
    read: (ready) =>
      createFrameReader({
        onFrame,
        onReady(bound) {
          opened(bound)
          ready()
        },
      }),
    failure: (reason) => failure(option, formatAddress(host, port), reason),
    onLost() {
      kernel = null
    },
    onEnding() {
      readDrops()
      kernel = null
    },
    isEmpty: () => (kernel?.waiting() ?? 0) === 0,
    quietMs: QUIET_MS,
    log,
  })
  return {
    get address() {
      return address
    },
    counters,
    async start() {
      const found = await lookup(options.host).catch((error: Error) => {
        throw failure(option, options.host, error.message)
      })
      host = found.address
      await reading.start()
      polls = setInterval(readDrops, DROPS_MS).unref()
    },
    async stop(deadline) {
      if (polls !== null) clearInterval(polls)
      await reading.stop(deadline)
    },
  }
}

interface Bound {
  readonly port: number
  readonly receiveBufferBytes: number
}

const SENDER = 0xfffe
const READY = 0xffff

interface FrameHandlers {
  onFrame(bytes: Buffer, start: number, end: number, sender: string): void
  onReady(bound: Bound): void
}

/** What the process writes, in pieces that end anywhere. */
function createFrameReader({ onFrame, onReady }: FrameHandlers): (chunk: Buffer) => void {
  let held: Buffer = Buffer.alloc(0)
  let sender = ''
  return (chunk) => {
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    const { length } = bytes
    let at = 0
    while (at + 2 <= length) {
      const what = bytes[at]! | (bytes[at + 1]! << 8)
      if (what < SENDER) {
        const end = at + 2 + what
        if (end > length) break
        onFrame(bytes, at + 2, end, sender)
        at = end
        continue
      }
      const end = at + 3 <= length ? at + 3 + bytes[at + 2]! : length + 1
      if (end > length) break
      const text = bytes.toString('latin1', at + 3, end)
      if (what === READY) onReady(JSON.parse(text) as Bound)
      else sender = text
      at = end
    }
    held = at < length ? Buffer.from(bytes.subarray(at)) : EMPTY
  }
}

const EMPTY = Buffer.alloc(0)

/** Of an address as `lookup` gives it. */
function bytesOf(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number))
  const bytes = Buffer.alloc(16)
  const [head = '', tail] = address.split('%')[0]!.split('::')
  const groups = (text: string): number[] =>
    text === ''
      ? []
      : text.split(':').flatMap((group) => {
          if (!group.includes('.')) return [Number.parseInt(group, 16)]
          const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
          return [a * 256 + b, c * 256 + d]
        })
  const front = groups(head)
  const back = tail === undefined ? [] : groups(tail)
  for (const [k, group] of front.entries()) bytes.writeUInt16BE(group, 2 * k)
  for (const [k, group] of back.entries()) bytes.writeUInt16BE(group, 16 - 2 * (back.length - k))
  return bytes
}

function failure(option: string, where: string, reason: string): SidecastError {
  return new SidecastError('SC4101', `${option}: ${where}: ${reason}`, {
    help: `choose another address for ${option}; a process of its own for it takes Node 26.1 or later on 64-bit Linux`,
  })
}
