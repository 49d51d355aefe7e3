import type { Call, Handler, Reply } from './call.ts'
import type { CallInfo, Method, StreamingMethod, UnaryMethod, WatchMethod } from './service.ts'
import { OK, status } from './status.ts'

/** A method of any kind as what a call drives. */
export function openMethod(method: Method, info: CallInfo, call: Call): Handler {
  if (method.kind === 'streaming') return openStreaming(method, info)
  return method.kind === 'unary' ? openUnary(method, info) : openWatch(method, info, call)
}

function openStreaming(method: StreamingMethod, info: CallInfo): Handler {
  const handler = method.open(info)
  return {
    farewell: STREAM_ENDED,
    onMessage: (bytes, start, end) => handler.onMessage(bytes, start, end),
    onEnd: () => handler.onEnd(),
    onClose: () => handler.onClose(),
  }
}

function openUnary(method: UnaryMethod, info: CallInfo): Handler {
  let reply: Reply = null
  return {
    farewell: null,
    onMessage(bytes, start, end) {
      if (reply !== null) return MORE_THAN_ONE
      reply = method.handle(info, bytes, start, end)
      // A failure is looked at in `onEnd`, which may come later or never.
      if (reply instanceof Promise) reply.catch(() => {})
      return null
    },
    onEnd: () => reply ?? NONE,
    onClose() {},
  }
}

function openWatch(method: WatchMethod, info: CallInfo, call: Call): Handler {
  let close: (() => void) | null = null
  return {
    farewell: { status: status('unavailable', 'the server is leaving') },
    onMessage(bytes, start, end) {
      if (close !== null) return MORE_THAN_ONE
      close = method.watch(info, bytes, start, end, {
        send: (message) => call.send(message),
        finish: (value) => call.finish(value),
      })
      return null
    },
    onEnd: () => (close === null ? NONE : null),
    onClose: () => close?.(),
  }
}

/** An OK of a method with one response needs that response: an empty message is a valid one of any type. */
const STREAM_ENDED = { status: OK, message: new Uint8Array(0) }
const MORE_THAN_ONE = status('internal', 'more than one request message')
const NONE = status('internal', 'no request message')
