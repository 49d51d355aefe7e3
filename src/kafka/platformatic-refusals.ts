import { Connection, instancesChannel } from '@platformatic/kafka'
import { refusalOf } from './refusal.ts'

/**
 * Why brokers refused connections of one client. With TLS 1.3 a broker looks at our certificate when we take the handshake
 * for done, so its alert comes to a connection that stands: the library tells requests of it no more than that it closed.
 *
 *   new Admin({ …, context: refusals.context })      connections of that client have the same context
 */
export class PlatformaticRefusals {
  readonly context = {}
  #last: Error | null = null
  readonly #watch = (message: unknown): void => {
    const { instance } = message as { instance: unknown }
    if (!(instance instanceof Connection) || instance.context !== this.context) return
    instance.on('error', (error) => {
      if (refusalOf(error) !== null) this.#last = error
    })
  }

  constructor() {
    instancesChannel.subscribe(this.#watch)
  }

  /** The error, with the refusal under it when it does not tell of one itself; nothing is known of refusals before. */
  explain(error: unknown): unknown {
    const refusal = this.#last
    this.#last = null
    if (refusal === null || refusalOf(error) !== null) return error
    const message = error instanceof Error ? error.message : String(error)
    return new AggregateError([error, refusal], `${message}: ${rootOf(refusal).message}`)
  }

  close(): void {
    instancesChannel.unsubscribe(this.#watch)
  }
}

function rootOf(error: Error): Error {
  return error.cause instanceof Error ? rootOf(error.cause) : error
}
