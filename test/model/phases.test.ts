import fc from 'fast-check'
import { expect, it } from 'vitest'
import { PHASES, phasesInto } from '../../src/model/phases.ts'

type Points = Partial<Record<'r' | 'u0' | 'u1' | 'v0' | 'v1' | 'd0' | 'd1', number>>

function phases(points: Points, duration: number, buffered = false): Record<string, number> | null {
  const out = new Float64Array(9).fill(-7)
  const { r = -1, u0 = -1, u1 = -1, v0 = -1, v1 = -1, d0 = -1, d1 = -1 } = points
  const known = phasesInto(out, 1, r, u0, u1, v0, v1, d0, d1, duration, buffered)
  expect([out[0], out[8]]).toEqual([-7, -7])
  if (!known) return null
  return Object.fromEntries(PHASES.map((phase, k) => [phase, out[1 + k]!]).filter(([, ns]) => ns !== 0))
}

it.each<[string, Points, number, boolean, Record<string, number> | null]>([
  [
    'a plain request',
    { r: 120, u0: 900, u1: 950, v0: 41_000, v1: 42_500, d0: 41_300, d1: 42_900 },
    43_000,
    false,
    {
      client_send: 120,
      proxy_request: 780,
      upstream_send: 50,
      upstream_wait: 40_050,
      proxy_response: 300,
      upstream_receive: 1200,
      client_receive: 500,
    },
  ],
  [
    'UT: the service never answered',
    { r: 10, u0: 50, u1: 60, d0: 3000, d1: 3010 },
    3020,
    false,
    { client_send: 10, proxy_request: 40, upstream_send: 10, upstream_wait: 2940, client_receive: 20 },
  ],
  [
    'UF: no connection, all of it the proxy',
    { r: 10, d0: 700, d1: 710 },
    720,
    false,
    { client_send: 10, proxy_request: 690, client_receive: 20 },
  ],
  [
    'DC: the client left while the service was thinking',
    { r: 10, u0: 50, u1: 60 },
    900,
    false,
    { client_send: 10, proxy_request: 40, upstream_send: 10, upstream_wait: 840 },
  ],
  [
    'SI: an upload that never ended',
    { u0: 50, d0: 5000, d1: 5010 },
    5020,
    false,
    { client_send: 5000, client_receive: 20 },
  ],
  [
    'UMSDR before an answer',
    { r: 1, u0: 5, u1: 6, d0: 300, d1: 301 },
    302,
    false,
    { client_send: 1, proxy_request: 4, upstream_send: 1, upstream_wait: 294, client_receive: 2 },
  ],
  [
    'UC-mid: the answer was cut in the middle',
    { r: 1, u0: 5, u1: 6, v0: 100, d0: 110 },
    900,
    false,
    {
      client_send: 1,
      proxy_request: 4,
      upstream_send: 1,
      upstream_wait: 94,
      proxy_response: 10,
      upstream_receive: 790,
    },
  ],
  [
    'OM: the answer was buffered towards a client that did not read',
    { r: 1, u0: 5, u1: 6, v0: 100, d0: 110 },
    900,
    true,
    { client_send: 1, proxy_request: 4, upstream_send: 1, upstream_wait: 94, proxy_response: 10, client_receive: 790 },
  ],
  ['a local reply', { r: 10, d0: 30, d1: 40 }, 50, false, { client_send: 10, proxy_request: 20, client_receive: 20 }],
  [
    'a websocket: the request never ends, the answer begins',
    { u0: 5, v0: 40, d0: 45 },
    9000,
    false,
    { client_send: 5, upstream_wait: 35, proxy_response: 5, upstream_receive: 8955 },
  ],
  [
    'an early answer: the request is sent on after the answer began',
    { r: 800, u0: 5, u1: 810, v0: 40, v1: 900, d0: 45, d1: 905 },
    910,
    false,
    { client_send: 5, upstream_send: 805, upstream_receive: 90, client_receive: 10 },
  ],
  ['nothing known', {}, 500, false, null],
  ['zero', { r: 0, d0: 0, d1: 0 }, 0, false, {}],
])('%s', (_name, points, duration, buffered, expected) => {
  expect(phases(points, duration, buffered)).toEqual(expected)
})

it('is never negative and adds up to the duration, whatever the points', () => {
  const point = fc.oneof(
    fc.constant(undefined),
    fc.integer({ min: 0, max: 5000 }),
    fc.integer({ min: 0, max: 2 ** 53 - 1 }),
  )
  fc.assert(
    fc.property(
      fc.record({ r: point, u0: point, u1: point, v0: point, v1: point, d0: point, d1: point }),
      fc.oneof(fc.integer({ min: 0, max: 6000 }), fc.integer({ min: 0, max: 2 ** 53 - 1 })),
      fc.boolean(),
      (points, duration, buffered) => {
        const known = Object.fromEntries(Object.entries(points).filter(([, ns]) => ns !== undefined)) as Points
        const found = phases(known, duration, buffered)
        if (found === null) return Object.keys(known).length === 0
        const values = Object.values(found)
        return values.every((ns) => ns >= 0) && values.reduce((sum, ns) => sum + ns, 0) === duration
      },
    ),
    { numRuns: 5000 },
  )
})
