import { createSocket } from 'node:dgram'
import { expect, test } from 'vitest'
import { createKernelDrops, dropsIn, waitingIn } from '../../../src/ingest/stream/kernel-drops.ts'

const TABLE = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 3149: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 81924 2 0000000000000000 162334
 3150: 0100007F:1FBE 00000000:0000 07 00000000:00000a00 00:00000000 00000000     0        0 81925 2 0000000000000000 7
`

test('the drops of a socket are the last column of its line', () => {
  expect(dropsIn(TABLE, '0100007F:1FBD')).toBe(162_334)
  expect(dropsIn(TABLE, '0100007F:1FBF')).toBeNull()
})

test('what waits in a socket is the second half of its queues', () => {
  expect(waitingIn(TABLE, '0100007F:1FBE')).toBe(0xa00)
  expect(waitingIn(TABLE, '0100007F:1FBD')).toBe(0)
  expect(waitingIn(TABLE, '0100007F:1FBF')).toBeNull()
})

test.each(['127.0.0.1', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1'])('a socket on %s is found', async (address) => {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  await new Promise<void>((resolve) => socket.bind(0, address, resolve))
  const { address: bound, port } = socket.address()
  expect(createKernelDrops(bound, port).read()).toBe(0)
  socket.close()
})
