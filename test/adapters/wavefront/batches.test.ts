import { describe, expect, it } from 'vitest'
import { createLineQueue, type LineCounters } from '../../../src/adapters/wavefront/batches.ts'
import type { Format, Line, Sent, Transport } from '../../../src/adapters/wavefront/transport.ts'
import { judge } from '../../../src/adapters/wavefront/transport-http.ts'

const never = new AbortController().signal
const NOW = Date.UTC(2026, 0, 1)
const answer = (status: number, retryAfter?: string): Sent => judge({ status, retryAfter, text: '' }, NOW)

/** A target that answers as planned, then takes everything. */
function target(...plan: readonly (Sent | ((lines: number) => Sent))[]) {
  const planned = [...plan]
  const bodies: { format: Format; lines: number; first: string }[] = []
  const taken: string[] = []
  const transport: Transport = {
    endpoint: 'test',
    close() {},
    async send(format, body) {
      const lines = body.toString('utf8').split('\n').slice(0, -1)
      bodies.push({ format, lines: lines.length, first: lines[0]! })
      const next = planned.length > 1 ? planned.shift()! : (planned[0] ?? answer(202))
      const sent = typeof next === 'function' ? next(lines.length) : next
      if (planned.length === 1 && typeof next !== 'function') planned.shift()
      if (sent.status === 'taken') taken.push(...lines)
      return sent
    },
  }
  return { transport, bodies, taken }
}

function linesOf(count: number, format: Format = 'wavefront', from = 0): Line[] {
  return Array.from({ length: count }, (_, k) => ({ format, text: `${format} ${from + k}\n` }))
}

function queueOf(portions: readonly (readonly Line[])[], options: { linesMax?: number; bytesMax?: number } = {}) {
  const counters: LineCounters = { sent: 0, refused: 0, bodies: 0, bytes: 0 }
  return { counters, queue: createLineQueue({ lines: portions.values(), counters, ...options }) }
}

describe('bodies', () => {
  it('have a bounded number of lines and bytes, one format each, and the order of the lines', async () => {
    const all = [...linesOf(25), ...linesOf(5, 'histogram')]
    const { queue, counters } = queueOf([all.slice(0, 7), all.slice(7)], { linesMax: 10 })
    const { transport, bodies, taken } = target()
    expect(await queue.drain(transport, never)).toEqual({ status: 'accepted' })
    expect(bodies.map(({ format, lines }) => [format, lines])).toEqual([
      ['wavefront', 10],
      ['wavefront', 10],
      ['wavefront', 5],
      ['histogram', 5],
    ])
    expect(taken).toEqual(all.map(({ text }) => text.trim()))
    expect(counters).toMatchObject({ sent: 30, refused: 0, bodies: 4 })
  })

  it('are cut by bytes, and a line larger than that goes alone', async () => {
    const big: Line = { format: 'wavefront', text: `${'ä'.repeat(100)}\n` }
    const { queue } = queueOf([[...linesOf(3), big, ...linesOf(3)]], { bytesMax: 60 })
    const { transport, bodies } = target()
    await queue.drain(transport, never)
    expect(bodies.map(({ lines }) => lines)).toEqual([3, 1, 3])
  })
})

describe('an answer', () => {
  it.each([
    [200, 'taken'],
    [202, 'taken'],
    [204, 'taken'],
    [400, 'refused'],
    [401, 'later'],
    [403, 'later'],
    [404, 'later'],
    [406, 'later'],
    [407, 'later'],
    [408, 'later'],
    [413, 'too_large'],
    [429, 'later'],
    [302, 'later'],
    [500, 'later'],
    [503, 'later'],
  ])('of %i means %s', (status, meaning) => {
    expect(answer(status).status).toBe(meaning)
  })

  it('may say how long to wait, in seconds or as a date, and no longer than an hour', () => {
    expect(answer(429, '7')).toMatchObject({ afterMs: 7000 })
    expect(answer(406, new Date(NOW + 5000).toUTCString())).toMatchObject({ afterMs: 5000 })
    expect(answer(429, new Date(NOW - 5000).toUTCString())).toMatchObject({ afterMs: 0 })
    expect(answer(503, '999999')).toMatchObject({ afterMs: 3_600_000 })
    expect(answer(503, 'soon')).not.toHaveProperty('afterMs')
    expect(answer(401)).toMatchObject({ afterMs: 60_000 })
  })

  it('has what the target said, cut short', () => {
    const sent = judge({ status: 500, retryAfter: undefined, text: `no ${'x'.repeat(500)}` }, NOW)
    expect(sent.status === 'taken' ? '' : sent.error.message).toMatch(/^answered 500: no x{197}$/)
  })
})

describe('push-back', () => {
  it.each([406, 429])(
    'of %i ends the attempt; the next one begins with the same line, in smaller bodies',
    async (status) => {
      const { queue, counters } = queueOf([linesOf(1000)], { linesMax: 400 })
      const { transport, bodies, taken } = target(answer(202), answer(status, '3'), answer(202))
      expect(await queue.drain(transport, never)).toMatchObject({ status: 'retry', afterMs: 3000 })
      expect(await queue.drain(transport, never)).toEqual({ status: 'accepted' })
      expect(bodies.map(({ lines, first }) => [lines, first])).toEqual([
        [400, 'wavefront 0'],
        [400, 'wavefront 400'],
        [200, 'wavefront 400'],
        [400, 'wavefront 600'],
      ])
      expect(taken).toHaveLength(1000)
      expect(new Set(taken).size).toBe(1000)
      expect(counters.sent).toBe(1000)
    },
  )

  it('again and again never makes bodies smaller than a hundred lines', async () => {
    const { queue } = queueOf([linesOf(1000)], { linesMax: 1000 })
    const { transport, bodies } = target(() => answer(429))
    for (let k = 0; k < 8; k++) expect((await queue.drain(transport, never)).status).toBe('retry')
    expect(bodies.map(({ lines }) => lines)).toEqual([1000, 500, 250, 125, 100, 100, 100, 100])
  })
})

describe('a body too large', () => {
  it('is halved until it fits, and nothing is lost or sent twice', async () => {
    const { queue, counters } = queueOf([linesOf(100)], { linesMax: 100 })
    const { transport, taken } = target((lines) => answer(lines > 13 ? 413 : 202))
    expect(await queue.drain(transport, never)).toEqual({ status: 'accepted' })
    expect(taken).toEqual(linesOf(100).map(({ text }) => text.trim()))
    expect(counters).toMatchObject({ sent: 100, refused: 0 })
  })

  it('of a single line is refused for good, and the others go on', async () => {
    const { queue, counters } = queueOf([linesOf(2)])
    const { transport, taken } = target(answer(413), answer(413), answer(202))
    expect(await queue.drain(transport, never)).toEqual({ status: 'accepted' })
    expect(taken).toEqual(['wavefront 1'])
    expect(counters).toMatchObject({ sent: 1, refused: 1 })
  })
})

it('lines that the target refuses are counted; when it refuses all, so is the whole', async () => {
  const some = queueOf([linesOf(20)], { linesMax: 10 })
  const first = target(answer(400), answer(202))
  expect(await some.queue.drain(first.transport, never)).toEqual({ status: 'accepted' })
  expect(some.counters).toMatchObject({ sent: 10, refused: 10 })
  const all = queueOf([linesOf(20)], { linesMax: 10 })
  expect((await all.queue.drain(target(() => answer(400)).transport, never)).status).toBe('rejected')
  expect(all.counters).toMatchObject({ sent: 0, refused: 20 })
  const none = queueOf([])
  expect(await none.queue.drain(target().transport, never)).toEqual({ status: 'accepted' })
})

it('a stop ends it before the next body', async () => {
  const { queue } = queueOf([linesOf(20)], { linesMax: 10 })
  const { transport, bodies } = target()
  expect((await queue.drain(transport, AbortSignal.abort())).status).toBe('retry')
  expect(bodies).toEqual([])
})
