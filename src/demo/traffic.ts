import { Agent, request as httpRequest } from 'node:http'
import type { Random } from '../lib/random.ts'
import { type Visit, visitOf } from './shop.ts'

/** Bounds of the traffic: it ends by itself after either, and never has more than `inFlightMax` requests open. */
export interface TrafficOptions {
  readonly port: number
  readonly random: Random
  readonly ratePerSecond: number
  readonly requestsMax: number
  readonly durationMs: number
  readonly inFlightMax: number
}

export interface Traffic {
  /** Requests begun so far, and those that were left out because too many were open. */
  readonly counts: { readonly sent: number; readonly skipped: number }
  /** Settles when the traffic has ended, by its bounds or by `stop`. */
  readonly ended: Promise<void>
  stop(): void
}

/** Sends visits to the gateway at random moments: the gaps are exponential, so that arrivals are independent. */
export function startTraffic(options: TrafficOptions): Traffic {
  const { random } = options
  const agent = new Agent({ keepAlive: true, maxSockets: options.inFlightMax })
  const counts = { sent: 0, skipped: 0 }
  const until = performance.now() + options.durationMs
  let inFlight = 0
  let timer: NodeJS.Timeout
  let next = performance.now()
  const end = Promise.withResolvers<void>()
  const stop = (): void => {
    clearTimeout(timer)
    agent.destroy()
    end.resolve()
  }
  const tick = (): void => {
    const now = performance.now()
    // Catches up after a pause of the process, but never with more than a second's worth.
    if (now - next > 1_000) next = now
    for (; next <= now; next += (-Math.log(1 - random()) * 1000) / options.ratePerSecond) {
      if (counts.sent >= options.requestsMax) {
        stop()
        return
      }
      if (inFlight >= options.inFlightMax) {
        counts.skipped++
        continue
      }
      counts.sent++
      inFlight++
      visit(agent, options.port, visitOf(random)).then(() => {
        inFlight--
      })
    }
    if (now >= until) stop()
    else timer = setTimeout(tick, Math.max(1, next - now))
  }
  timer = setTimeout(tick, 0)
  return { counts, ended: end.promise, stop }
}

/** One request. Resolves when it is over, however it ended. */
function visit(agent: Agent, port: number, plan: Visit): Promise<void> {
  return new Promise((resolve) => {
    const impatient = Number.isFinite(plan.patienceMs)
    const request = httpRequest(
      {
        // A client that leaves takes its connection with it.
        agent: impatient ? false : agent,
        host: '127.0.0.1',
        port,
        path: plan.path,
        method: plan.method,
        timeout: 30_000,
        headers: {
          'user-agent': 'sidecast-demo',
          ...(plan.bytes > 0 ? { 'content-length': String(plan.bytes) } : {}),
        },
      },
      (response) => {
        response.on('error', () => {})
        response.resume()
      },
    )
    const leave = impatient ? setTimeout(() => request.destroy(), plan.patienceMs) : undefined
    request.on('error', () => {})
    request.on('timeout', () => request.destroy())
    request.on('close', () => {
      clearTimeout(leave)
      resolve()
    })
    if (plan.bytes === 0) request.end()
    else if (plan.sendMs === 0) request.end(Buffer.alloc(plan.bytes, 'x'))
    else {
      request.write(Buffer.alloc(1, 'x'))
      setTimeout(() => request.end(Buffer.alloc(plan.bytes - 1, 'x')), plan.sendMs)
    }
  })
}
