import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'

/**
 * Sends the datagrams of a file (one JSON string a line), again and again, at a rate:
 *
 *     node [--experimental-ffi] bench/support/udp-load.ts PORT FILE COUNT RATE
 *
 * `RATE` datagrams a second, 0 for as fast as it goes: with `node:ffi` many with each system call, else one. Prints `{ sent, lines, failed,
 * seconds }`. Every datagram that is counted was taken by the kernel: on loopback it is then either received or dropped at the receiver's
 * socket.
 */
const [port, file, count, rate] = process.argv.slice(2) as [string, string, string, string]
const datagrams = readFileSync(file, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => Buffer.from(JSON.parse(line) as string))
const lines = datagrams.map((datagram) => datagram.toString('latin1').split('\n').length)
const perSecond = Number(rate)
const total = Number(count)
const BURST = 500
let given = 0
let sent = 0
let sentLines = 0
let failed = 0
const sendMany = process.execArgv.includes('--experimental-ffi') ? await openMany() : await openOne()
const pause = new Int32Array(new SharedArrayBuffer(4))
const start = performance.now()
while (given < total) {
  const due = perSecond === 0 ? total : Math.min(total, Math.floor(((performance.now() - start) / 1000) * perSecond))
  const burst = Math.min(due - given, BURST)
  if (burst <= 0) Atomics.wait(pause, 0, 0, 1)
  else await sendMany(burst)
}
const seconds = (performance.now() - start) / 1000
process.stdout.write(JSON.stringify({ sent, lines: sentLines, failed, seconds }), () => process.exit(0))

function tell(at: number): void {
  sent++
  sentLines += lines[at]!
}

async function openOne(): Promise<(burst: number) => Promise<void>> {
  const socket = createSocket({ type: 'udp4', sendBufferSize: 4 << 20 })
  await new Promise<void>((resolve) => socket.connect(Number(port), '127.0.0.1', resolve))
  return (burst) =>
    new Promise<void>((resolve) => {
      let open = burst
      for (let k = 0; k < burst; k++) {
        const at = given++ % datagrams.length
        socket.send(datagrams[at]!, (error) => {
          if (error) failed++
          else tell(at)
          if (--open === 0) resolve()
        })
      }
    })
}

/** `sendmmsg` of 64-bit Linux; layouts as in `src/ingest/stream/udp-reader-child.ts`. */
async function openMany(): Promise<(burst: number) => Promise<void>> {
  const FFI = 'node:ffi'
  const ffi = (await import(FFI)) as {
    dlopen(path: null, signatures: object): { functions: Libc }
    getRawPointer(bytes: Buffer): bigint
  }
  const libc = ffi.dlopen(null, {
    socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    connect: { arguments: ['int32', 'buffer', 'uint32'], return: 'int32' },
    sendmmsg: { arguments: ['int32', 'buffer', 'uint32', 'int32'], return: 'int32' },
  }).functions
  const address = Buffer.alloc(16)
  address.writeUInt16LE(2)
  address.writeUInt16BE(Number(port), 2)
  address.writeUInt32BE(0x7f000001, 4)
  const fd = libc.socket(2, 2, 0)
  if (fd < 0 || libc.connect(fd, address, address.length) !== 0) throw new Error('no socket')
  // One piece of memory, with the datagrams in it: it must stay as long as the headers.
  const all = Buffer.concat(datagrams)
  const memory = Buffer.alloc((64 + 16) * datagrams.length + all.length)
  const headers = memory.subarray(0, 64 * datagrams.length)
  const vectors = memory.subarray(headers.length, headers.length + 16 * datagrams.length)
  const payload = memory.subarray(headers.length + vectors.length)
  payload.set(all)
  let at = 0
  for (const [k, datagram] of datagrams.entries()) {
    vectors.writeBigUInt64LE(ffi.getRawPointer(payload) + BigInt(at), 16 * k)
    at += datagram.length
    vectors.writeBigUInt64LE(BigInt(datagram.length), 16 * k + 8)
    headers.writeBigUInt64LE(ffi.getRawPointer(vectors) + BigInt(16 * k), 64 * k + 16)
    headers.writeBigUInt64LE(1n, 64 * k + 24)
  }
  return async (burst) => {
    const from = given % datagrams.length
    const wanted = Math.min(burst, datagrams.length - from)
    const taken = libc.sendmmsg(fd, headers.subarray(64 * from), wanted, 0)
    // One at least is given up, so that it ends.
    if (taken < 1) failed++
    for (let k = 0; k < taken; k++) tell(from + k)
    given += Math.max(1, taken)
  }
}

interface Libc {
  socket(domain: number, type: number, protocol: number): number
  connect(fd: number, address: Buffer, length: number): number
  sendmmsg(fd: number, headers: Buffer, count: number, flags: number): number
}
