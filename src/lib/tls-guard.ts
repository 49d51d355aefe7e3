import type { Server, Socket } from 'node:net'
import type { TLSSocket, TlsOptions, Server as TlsServer } from 'node:tls'
import { type ServerTls, type ServerTlsConfig, serverTls, TLS_REFUSALS, type TlsRefusal, tlsRefusal } from './tls.ts'

/**
 * TLS of one listener: who may come in, who was refused and why, and certificates that are replaced under way. Open
 * connections keep the certificate that they began with.
 */
export interface TlsGuard {
  readonly name: string
  readonly counters: Readonly<TlsCounters>
  /** For making the server. Throws when the files cannot be used. */
  options(): TlsOptions
  /** Takes care of the server until `stop`. Before anything else listens to its connections. */
  watch(server: Server): void
  /** Whether the peer of a finished handshake may come in; counts, and closes the socket of who may not. */
  admit(socket: TLSSocket): boolean
  /** Looks at the files now. */
  refresh(): void
  /** Makes ready for other files or names; throws when they cannot be used. What it returns makes them count. */
  prepare(config: ServerTlsConfig): () => void
  /** When the certificate ends, Unix ms. */
  readonly expiresMs: number | null
  /** Why the files as they are now cannot be used; null: all is well. */
  readonly lastError: string | null
  stop(): void
}

export interface TlsCounters {
  accepted: number
  readonly refused: Record<TlsRefusal, number>
  /** How often other files came into use. */
  renewed: number
}

export interface TlsGuardOptions {
  /** Of the listener, for logs and metrics. */
  readonly name: string
  readonly config: ServerTlsConfig
  /** Path in the configuration, for messages. */
  readonly option: string
  readonly log: { warn(fields: object, message: string): void; info(fields: object, message: string): void }
  /** How often the files are looked at. */
  readonly everyMs?: number
  readonly onRefused?: (reason: TlsRefusal, socket: Socket) => void
}

const EVERY_MS = 5000

/** Null where no certificate is configured: the listener is without TLS. */
export function createTlsGuard(options: TlsGuardOptions): TlsGuard | null {
  return options.config.cert === '' ? null : new Guard(options)
}

/** Never out of date by itself: the guard says when to look. */
const ON_REQUEST = { lookMs: Number.POSITIVE_INFINITY }

class Guard implements TlsGuard {
  readonly name: string
  readonly counters: TlsCounters = {
    accepted: 0,
    refused: Object.fromEntries(TLS_REFUSALS.map((reason) => [reason, 0])) as Record<TlsRefusal, number>,
    renewed: 0,
  }
  readonly #options: TlsGuardOptions
  #tls: ServerTls
  #server: TlsServer | undefined
  #timer: NodeJS.Timeout | undefined
  #complained = ''

  constructor(options: TlsGuardOptions) {
    this.#options = options
    this.name = options.name
    this.#tls = serverTls(options.config, options.option, ON_REQUEST)!
  }

  get expiresMs(): number | null {
    return this.#tls.expiresMs
  }

  get lastError(): string | null {
    return this.#tls.lastError?.message ?? null
  }

  options(): TlsOptions {
    return this.#tls.options()
  }

  watch(server: Server): void {
    this.#server = server as TlsServer
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      this.#refuse(tlsRefusal(error, socket), socket)
    })
    this.#timer = setInterval(() => this.refresh(), this.#options.everyMs ?? EVERY_MS)
    this.#timer.unref()
  }

  admit(socket: TLSSocket): boolean {
    const reason = this.#tls.refusal(socket)
    if (reason === null) {
      this.counters.accepted++
      return true
    }
    this.#refuse(reason, socket)
    socket.destroy()
    return false
  }

  refresh(): void {
    const { log } = this.#options
    if (this.#tls.refresh()) this.#renew()
    const { lastError } = this
    if (lastError === this.#complained || (lastError === null && this.#complained === '')) return
    this.#complained = lastError ?? ''
    if (lastError !== null) {
      log.warn({ listener: this.name, reason: lastError }, 'certificates cannot be used; the old ones stay')
    }
  }

  prepare(config: ServerTlsConfig): () => void {
    const next = serverTls(config, this.#options.option, ON_REQUEST)
    if (next === null) throw new Error(`${this.#options.option}: a listener cannot lose its TLS while it is open`)
    if (next.wantsCertificate !== this.#tls.wantsCertificate) {
      throw new Error(`${this.#options.option}.clientCa: asking clients for certificates takes a restart`)
    }
    next.options()
    return () => {
      this.#tls = next
      this.#renew()
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #renew(): void {
    this.#server?.setSecureContext(this.#tls.options())
    this.counters.renewed++
    this.#options.log.info({ listener: this.name }, 'certificates were read again')
  }

  #refuse(reason: TlsRefusal, socket: Socket): void {
    this.counters.refused[reason]++
    this.#options.onRefused?.(reason, socket)
  }
}
