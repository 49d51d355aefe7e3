import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Senders } from '../lib/senders.ts'
import { Problem } from './problem.ts'

/** Holds back who sends more bytes a second than one sender may: the next request gets 429 until the debt is paid. */
export function createSenderGuard(senders: Senders) {
  return async ({ raw }: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const { socket, method } = raw
    const sender = method === 'GET' || method === 'HEAD' ? null : senders.find(socket.remoteAddress ?? '')
    if (sender === null) return
    const waitMs = sender.waitMs()
    if (waitMs > 0) {
      if (!raw.complete) reply.header('connection', 'close')
      const retryAfter = Math.ceil(waitMs / 1000)
      throw new Problem('too_many_bytes', 'this sender is over its bytes a second', { retryAfter })
    }
    const before = socket.bytesRead
    reply.raw.once('close', () => sender.spend(socket.bytesRead - before))
  }
}
