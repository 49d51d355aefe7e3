import { writeSync } from 'node:fs'

/**
 * A process of its own that reads a UDP socket, many datagrams with each system call, and writes them to its standard output. Node has no
 * such call, so the C library is called: `node --experimental-ffi udp-reader-child.ts 4|6 ADDRESS-AS-HEX PORT BUFFER`. 64-bit Linux alone.
 *
 * What it writes begins with two bytes, little-endian, each time:
 *
 *   0 … 65 507   so many bytes of a datagram follow
 *   0xfffe       a byte of length and the sender's address follow: the datagrams behind it are from there
 *   0xffff       a byte of length and `{ "port", "receiveBufferBytes" }` follow: the socket is there
 *
 * It ends with its parent.
 */
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const SO_RCVTIMEO = 20
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26
const MSG_DONTWAIT = 0x40
const MSG_WAITFORONE = 0x10000
const SENDER = 0xfffe
const READY = 0xffff
const STDOUT = 1

/** Datagrams of one call. */
const BATCH = 64
/** Of a `mmsghdr`: name 0, its length 8, vector 16, its length 24, control 32, flags 48, length of the datagram 56. */
const HEADER_BYTES = 64
const DATAGRAM_LENGTH = 56
/** A `sockaddr_in6` has 28. */
const NAME_BYTES = 32
const IOVEC_BYTES = 16
const DATAGRAM_BYTES_MAX = 1 << 16
/** Places of datagrams are so far apart: a power of two would put all of them into the same lines of the caches. */
const PLACE_BYTES = DATAGRAM_BYTES_MAX + 192
const FRAMES_BYTES = 1 << 18
/** Between two looks at a socket that is not full: what comes in the meantime costs one call, and wakes the parent once. */
const PAUSE_MS = 5

interface Libc {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Buffer, length: number): number
  setsockopt(fd: number, level: number, option: number, value: Buffer, length: number): number
  getsockopt(fd: number, level: number, option: number, value: Buffer, length: Buffer): number
  getsockname(fd: number, address: Buffer, length: Buffer): number
  recvmmsg(fd: number, headers: Buffer, count: number, flags: number, timeout: bigint): number
}

const SIGNATURES = {
  socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  bind: { arguments: ['int32', 'buffer', 'uint32'], return: 'int32' },
  setsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'uint32'], return: 'int32' },
  getsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'buffer'], return: 'int32' },
  getsockname: { arguments: ['int32', 'buffer', 'buffer'], return: 'int32' },
  recvmmsg: { arguments: ['int32', 'buffer', 'uint32', 'int32', 'pointer'], return: 'int32' },
} as const

/** Not in the types of the oldest Node that we run on. */
const FFI = 'node:ffi'
const ffi = (await import(FFI)) as {
  dlopen(path: null, signatures: object): { functions: Libc }
  getRawPointer(bytes: Buffer): bigint
}
const libc = ffi.dlopen(null, SIGNATURES).functions

const [version = '', addressHex = '', port = '0', bufferBytes = '0'] = process.argv.slice(2)
const isIpv6 = version === '6'
const fd = open()

// One piece of memory: what the kernel finds by address must stay as long as the headers, whoever else looks at it.
const memory = Buffer.alloc(BATCH * (HEADER_BYTES + IOVEC_BYTES + NAME_BYTES + PLACE_BYTES))
const headers = memory.subarray(0, BATCH * HEADER_BYTES)
const vectors = memory.subarray(headers.length, headers.length + BATCH * IOVEC_BYTES)
const names = memory.subarray(headers.length + vectors.length, memory.length - BATCH * PLACE_BYTES)
const data = memory.subarray(memory.length - BATCH * PLACE_BYTES)
for (let k = 0; k < BATCH; k++) {
  vectors.writeBigUInt64LE(ffi.getRawPointer(data) + BigInt(k * PLACE_BYTES), k * IOVEC_BYTES)
  vectors.writeBigUInt64LE(BigInt(DATAGRAM_BYTES_MAX), k * IOVEC_BYTES + 8)
  headers.writeBigUInt64LE(ffi.getRawPointer(names) + BigInt(k * NAME_BYTES), k * HEADER_BYTES)
  headers.writeBigUInt64LE(ffi.getRawPointer(vectors) + BigInt(k * IOVEC_BYTES), k * HEADER_BYTES + 16)
  headers.writeBigUInt64LE(1n, k * HEADER_BYTES + 24)
}

const parent = process.ppid
const frames = Buffer.alloc(FRAMES_BYTES)
const pause = new Int32Array(new SharedArrayBuffer(4))
/** Where the last datagram came from, as it stands in `names`. */
const last = Buffer.alloc(NAME_BYTES)
/** A copy by hand is cheaper than a call below this. */
const SHORT = 96
const NAME_FROM = isIpv6 ? 8 : 4
const NAME_TO = isIpv6 ? 24 : 8
let filled = 0
said(READY, JSON.stringify(bound()))
write()
while (process.ppid === parent) {
  let count = receive(MSG_WAITFORONE)
  while (count > 0) {
    for (let k = 0; k < count; k++) frame(k)
    if (count < BATCH) break
    count = receive(MSG_DONTWAIT)
  }
  write()
  if (count >= 0) Atomics.wait(pause, 0, 0, PAUSE_MS)
}

function open(): number {
  const socket = libc.socket(isIpv6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0)
  if (socket < 0) fail('no socket can be opened')
  const number = Buffer.alloc(4)
  number.writeInt32LE(Number(bufferBytes))
  libc.setsockopt(socket, SOL_SOCKET, SO_RCVBUF, number, number.length)
  // As Node does: an IPv6 socket takes IPv4 as well.
  if (isIpv6) libc.setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, Buffer.alloc(4), 4)
  // Once a second it looks whether its parent is still there.
  const timeout = Buffer.alloc(16)
  timeout.writeBigInt64LE(1n)
  libc.setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length)
  const name = Buffer.alloc(isIpv6 ? 28 : 16)
  name.writeUInt16LE(isIpv6 ? AF_INET6 : AF_INET)
  name.writeUInt16BE(Number(port), 2)
  name.set(Buffer.from(addressHex, 'hex'), isIpv6 ? 8 : 4)
  if (libc.bind(socket, name, name.length) !== 0) fail('it cannot be bound')
  return socket
}

/** What the kernel gave: the port, and twice the buffer that was set, for its own bookkeeping. */
function bound(): { readonly port: number; readonly receiveBufferBytes: number } {
  const length = Buffer.alloc(4)
  const name = Buffer.alloc(NAME_BYTES)
  length.writeUInt32LE(name.length)
  libc.getsockname(fd, name, length)
  const size = Buffer.alloc(4)
  length.writeUInt32LE(size.length)
  libc.getsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, length)
  return { port: name.readUInt16BE(2), receiveBufferBytes: size.readInt32LE() }
}

/** Below 0 when there was nothing. */
function receive(flags: number): number {
  for (let k = 0; k < BATCH; k++) headers.writeUInt32LE(NAME_BYTES, k * HEADER_BYTES + 8)
  return libc.recvmmsg(fd, headers, BATCH, flags, 0n)
}

function frame(k: number): void {
  const length = headers.readUInt32LE(k * HEADER_BYTES + DATAGRAM_LENGTH)
  const name = k * NAME_BYTES
  if (!isLast(name)) {
    names.copy(last, 0, name, name + NAME_BYTES)
    said(SENDER, addressOf(last))
  }
  if (filled + 2 + length > FRAMES_BYTES) write()
  frames.writeUInt16LE(length, filled)
  const from = k * PLACE_BYTES
  if (length > SHORT) data.copy(frames, filled + 2, from, from + length)
  else for (let at = 0; at < length; at++) frames[filled + 2 + at] = data[from + at]!
  filled += 2 + length
}

/** Whether the sender that stands at `name` is the last one. */
function isLast(name: number): boolean {
  for (let at = NAME_FROM; at < NAME_TO; at++) if (names[name + at] !== last[at]) return false
  return true
}

function said(what: number, text: string): void {
  if (filled + 3 + text.length > FRAMES_BYTES) write()
  frames.writeUInt16LE(what, filled)
  frames[filled + 2] = text.length
  filled += 3 + frames.write(text, filled + 3, 'latin1')
}

/** IPv4 senders of an IPv6 socket are what they are elsewhere. */
function addressOf(name: Buffer): string {
  if (!isIpv6) return name.subarray(NAME_FROM, NAME_TO).join('.')
  const groups = Array.from({ length: 8 }, (_, k) => name.readUInt16BE(NAME_FROM + 2 * k))
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) return name.subarray(20, 24).join('.')
  return new URL(`http://[${groups.map((group) => group.toString(16)).join(':')}]`).hostname.slice(1, -1)
}

/** Waits while the parent does not read: then the socket fills, and the kernel counts what it drops. */
function write(): void {
  for (let at = 0; at < filled; ) {
    try {
      at += writeSync(STDOUT, frames, at, filled - at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') process.exit(0)
      Atomics.wait(pause, 0, 0, 1)
    }
  }
  filled = 0
}

function fail(reason: string): never {
  process.stderr.write(reason)
  process.exit(2)
}
