import { writeSync } from 'node:fs'

/**
 * A process of its own that reads a Unix datagram socket and writes each datagram to its standard output, behind its length (four
 * bytes, little-endian). Node has no such sockets, so the C library is called: `node --experimental-ffi unix-datagram-child.ts PATH BUFFER`.
 * Being a process, it may wait in `recv`, and what is experimental in it cannot harm the one that holds the data.
 *
 * An empty frame says that the socket is there. It ends with its parent.
 */
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const SO_RCVTIMEO = 20
const MSG_DONTWAIT = 0x40
/** `sun_path` of Linux. */
const PATH_BYTES_MAX = 107
const DATAGRAM_BYTES_MAX = 1 << 16
const FRAMES_BYTES = 1 << 18
const STDOUT = 1

interface Libc {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Buffer, length: number): number
  setsockopt(fd: number, level: number, option: number, value: Buffer, length: number): number
  recv(fd: number, buffer: Buffer, length: bigint, flags: number): bigint
  chmod(path: Buffer, mode: number): number
}

const SIGNATURES = {
  socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  bind: { arguments: ['int32', 'buffer', 'uint32'], return: 'int32' },
  setsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'uint32'], return: 'int32' },
  recv: { arguments: ['int32', 'buffer', 'uint64', 'int32'], return: 'int64' },
  chmod: { arguments: ['buffer', 'uint32'], return: 'int32' },
} as const

/** Not in the types of the oldest Node that we run on. */
const FFI = 'node:ffi'
const ffi = (await import(FFI)) as { dlopen(path: null, signatures: object): { functions: Libc } }
const libc = ffi.dlopen(null, SIGNATURES).functions

const [path = '', bufferBytes = '0'] = process.argv.slice(2)
const name = Buffer.from(path)
if (name.length === 0 || name.length > PATH_BYTES_MAX)
  fail(`the path has ${name.length} bytes, 1 to ${PATH_BYTES_MAX} are possible`)
const address = Buffer.alloc(2 + PATH_BYTES_MAX + 1)
address.writeUInt16LE(AF_UNIX, 0)
address.set(name, 2)

const fd = libc.socket(AF_UNIX, SOCK_DGRAM, 0)
if (fd < 0) fail('no socket can be opened')
const size = Buffer.alloc(4)
size.writeInt32LE(Number(bufferBytes), 0)
libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, size.length)
// Once a second it looks whether its parent is still there.
const timeout = Buffer.alloc(16)
timeout.writeBigInt64LE(1n, 0)
libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length)
if (libc.bind(fd, address, 2 + name.length + 1) !== 0) fail('it cannot be bound')
// Whoever may reach the folder may send: the proxy rarely runs as the same user.
libc.chmod(address.subarray(2), 0o666)

const parent = process.ppid
const datagram = Buffer.alloc(DATAGRAM_BYTES_MAX)
const frames = Buffer.alloc(FRAMES_BYTES)
let filled = 4 // The empty frame.
write()
while (process.ppid === parent) {
  let length = libc.recv(fd, datagram, BigInt(DATAGRAM_BYTES_MAX), 0)
  while (length >= 0n) {
    frame(Number(length))
    if (filled + 4 + DATAGRAM_BYTES_MAX > FRAMES_BYTES) break
    length = libc.recv(fd, datagram, BigInt(DATAGRAM_BYTES_MAX), MSG_DONTWAIT)
  }
  write()
}

function frame(length: number): void {
  if (length === 0) return
  frames.writeUInt32LE(length, filled)
  frames.set(datagram.subarray(0, length), filled + 4)
  filled += 4 + length
}

/** Waits while the parent does not read: then the socket fills, and its senders wait. */
function write(): void {
  for (let at = 0; at < filled; ) {
    try {
      at += writeSync(STDOUT, frames, at, filled - at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') process.exit(0)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
    }
  }
  filled = 0
}

function fail(reason: string): never {
  process.stderr.write(reason)
  process.exit(2)
}
