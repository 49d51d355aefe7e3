import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { Agent, type AgentOptions } from 'node:https'
import {
  type ConnectionOptions,
  checkServerIdentity,
  createSecureContext,
  type PeerCertificate,
  type SecureVersion,
  type TLSSocket,
  type TlsOptions,
} from 'node:tls'
import { parseSans, sanAllowed } from './tls-san.ts'

/**
 * TLS of every listener and every client: files, lists of names, and reading the files again when they change.
 *
 * ```
 *   cert, key, ca ── stat ──▶ same: the options of before, the very same object
 *                     └─────▶ changed: read, try out ─┬─▶ good: new options
 *                                                     └─▶ bad: the old ones stay, `lastError` says why, tried again
 * ```
 *
 * Certificates are replaced in place or by a new symbolic link, and the two files never at the same moment: a pair that
 * does not match is a matter of the next look.
 */
export interface ServerTlsConfig {
  /** Paths; `cert` empty: no TLS. */
  readonly cert: string
  readonly key: string
  /** Authorities of clients; empty: clients need no certificate. */
  readonly clientCa: string
  /** Names of which a client's certificate must have one; empty: any of that authority. */
  readonly allowedSans?: readonly string[]
}

export interface ClientTlsConfig {
  /** Paths. Authorities to trust; empty: those of the system. */
  readonly ca?: string
  /** Our own certificate; empty: none. */
  readonly cert?: string
  readonly key?: string
  /** Name to ask for and to be shown; empty: the host. */
  readonly serverName?: string
  /** Names of which the server's certificate must have one, in place of the host's name; empty: the host's name counts. */
  readonly allowedSans?: readonly string[]
  /** Take any certificate. */
  readonly insecure?: boolean
}

/** What `tls.connect` and its relatives take. */
export type ClientTlsOptions = Readonly<
  Pick<
    ConnectionOptions,
    'ca' | 'cert' | 'key' | 'servername' | 'rejectUnauthorized' | 'checkServerIdentity' | 'minVersion'
  >
>

/** The part that listeners and clients share. */
export interface TlsFiles<Options> {
  /**
   * With the files as they are, looked at no more often than every `lookMs`. The very same object while nothing has
   * changed: who builds something of it compares. Throws at the first time, never later.
   */
  options(): Options
  /** Looks now. True: they have changed and `options()` is new. */
  refresh(): boolean
  /** Why the files cannot be used as they are; null: all is well. */
  readonly lastError: Error | null
  /** When the certificate ends, Unix ms; null: there is none. */
  readonly expiresMs: number | null
}

export interface ServerTls extends TlsFiles<TlsOptions> {
  readonly wantsCertificate: boolean
  /** Null: the peer may come in. Asked after the handshake, which has checked authority and dates. */
  refusal(socket: TLSSocket): TlsRefusal | null
}

export interface ClientTls extends TlsFiles<ClientTlsOptions> {
  /** For libraries that keep the object and copy it for each connection: its parts are always those of now. */
  live(): ClientTlsOptions
  /** Whose new connections take the files as they then are. */
  agent(options?: AgentOptions): Agent
}

/** Why a connection was refused. `plaintext`: it was no TLS. `closed`: the peer left inside the handshake. */
export const TLS_REFUSALS = [
  'no_certificate',
  'unknown_ca',
  'expired',
  'wrong_san',
  'plaintext',
  'protocol',
  'timeout',
  'closed',
  'other',
] as const
export type TlsRefusal = (typeof TLS_REFUSALS)[number]

const LOOK_MS = 5000
const MIN_VERSION: SecureVersion = 'TLSv1.2'
/** SSL_OP_NO_TICKET: a client with a certificate shows it each time, so that a withdrawn authority counts at once. */
const NO_TICKET = 0x4000

export interface TlsTiming {
  readonly lookMs?: number
  /** Monotonic, ms. */
  readonly clock?: () => number
}

/** Null where no certificate is configured. `option` is the path in the configuration, for messages. */
export function serverTls(config: ServerTlsConfig, option: string, timing: TlsTiming = {}): ServerTls | null {
  if (config.cert === '') return null
  const { cert, key, clientCa, allowedSans: allowed = [] } = config
  const files = new Files<TlsOptions>({ cert, key, ca: clientCa }, option, timing, (read) => ({
    ...read,
    minVersion: MIN_VERSION,
    requestCert: clientCa !== '',
    rejectUnauthorized: clientCa !== '',
    ...(clientCa === '' ? {} : { secureOptions: NO_TICKET }),
  }))
  return Object.assign(files, {
    wantsCertificate: clientCa !== '',
    refusal(socket: TLSSocket): TlsRefusal | null {
      if (clientCa === '') return null
      // The handshake has ended those already; this one is for the day when it does not.
      if (!socket.authorized) return tlsRefusal(null, socket)
      if (allowed.length === 0) return null
      const sans = parseSans(socket.getPeerX509Certificate()?.subjectAltName ?? '')
      return sanAllowed(sans, allowed) ? null : 'wrong_san'
    },
  } satisfies Omit<ServerTls, keyof TlsFiles<TlsOptions>>)
}

/** Options of a client. `option` is the path in the configuration, for messages. */
export function clientTls(config: ClientTlsConfig, option: string, timing: TlsTiming = {}): ClientTls {
  const { ca = '', cert = '', key = '', serverName = '', allowedSans = [], insecure = false } = config
  const files = new Files<ClientTlsOptions>({ cert, key, ca }, option, timing, (read) => ({
    ...read,
    minVersion: MIN_VERSION,
    ...(serverName === '' ? {} : { servername: serverName }),
    ...(insecure ? { rejectUnauthorized: false } : {}),
    ...(allowedSans.length === 0 || insecure
      ? {}
      : { checkServerIdentity: (host: string, peer: PeerCertificate) => checkSans(host, peer, allowedSans) }),
  }))
  return Object.assign(files, {
    live(): ClientTlsOptions {
      // Which parts there are is up to the configuration, what they are to the files.
      const keys = Object.keys(files.options()) as (keyof ClientTlsOptions)[]
      const getters = keys.map((key) => [key, { enumerable: true, get: () => files.options()[key] }] as const)
      return Object.defineProperties({}, Object.fromEntries(getters))
    },
    agent: (options: AgentOptions = {}) => new LiveAgent(options, files),
  } satisfies Omit<ClientTls, keyof TlsFiles<ClientTlsOptions>>)
}

/** Why the handshake failed, from what `tlsClientError` gives. */
export function tlsRefusal(error: NodeJS.ErrnoException | null, socket: TLSSocket): TlsRefusal {
  const verify = String(socket.authorizationError ?? '')
  const code = error?.code ?? ''
  if (code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') return 'no_certificate'
  if (verify === 'CERT_HAS_EXPIRED' || verify === 'CERT_NOT_YET_VALID') return 'expired'
  if (verify !== '') return UNKNOWN_CA.test(verify) ? 'unknown_ca' : 'other'
  if (code === 'ERR_SSL_HTTP_REQUEST' || code === 'ERR_SSL_WRONG_VERSION_NUMBER') return 'plaintext'
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return 'timeout'
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'closed'
  return code.startsWith('ERR_SSL_') ? 'protocol' : 'other'
}

const UNKNOWN_CA = /ISSUER|SELF_SIGNED|UNABLE_TO_VERIFY|SIGNATURE|INVALID_CA|CERT_UNTRUSTED|CERT_REJECTED/

function checkSans(host: string, peer: PeerCertificate, allowed: readonly string[]): Error | undefined {
  if (sanAllowed(parseSans(peer.subjectaltname ?? ''), allowed)) return undefined
  return (
    checkServerIdentity(host, { ...peer, subjectaltname: '', subject: { ...peer.subject, CN: '' } }) ??
    new Error(`the certificate of ${host} has none of the allowed names`)
  )
}

interface Paths {
  readonly cert: string
  readonly key: string
  readonly ca: string
}
interface Read {
  readonly cert?: Buffer
  readonly key?: Buffer
  readonly ca?: Buffer
}

class Files<Options> implements TlsFiles<Options> {
  lastError: Error | null = null
  expiresMs: number | null = null
  /** How often the files were read. */
  generation = 0
  readonly #paths: Paths
  readonly #option: string
  readonly #lookMs: number
  readonly #clock: () => number
  readonly #build: (read: Read) => Options
  #stamp = ''
  #lookedMs = Number.NEGATIVE_INFINITY
  #options: Options | undefined

  constructor(paths: Paths, option: string, timing: TlsTiming, build: (read: Read) => Options) {
    this.#paths = paths
    this.#option = option
    this.#lookMs = timing.lookMs ?? LOOK_MS
    this.#clock = timing.clock ?? (() => performance.now())
    this.#build = build
  }

  options(): Options {
    if (this.#options === undefined || this.#clock() - this.#lookedMs >= this.#lookMs) this.refresh()
    if (this.#options === undefined) throw this.lastError!
    return this.#options
  }

  refresh(): boolean {
    this.#lookedMs = this.#clock()
    try {
      const stamp = this.#stampOf()
      if (stamp === this.#stamp) {
        this.lastError = null
        return false
      }
      const read = this.#read()
      // A certificate and a key that do not belong together, or no PEM at all, throw here and not at a handshake.
      createSecureContext({ ...read })
      this.expiresMs = read.cert === undefined ? null : Date.parse(new X509Certificate(read.cert).validTo)
      this.#options = this.#build(read)
      this.#stamp = stamp
      this.generation++
      this.lastError = null
      return true
    } catch (error) {
      this.lastError = error instanceof Error ? error : new Error(String(error))
      return false
    }
  }

  #stampOf(): string {
    const stamps = Object.values(this.#paths).map((path: string) => {
      if (path === '') return '-'
      const { ino, size, mtimeMs, ctimeMs } = this.#try(path, (name) => statSync(name))
      return `${ino}/${size}/${mtimeMs}/${ctimeMs}`
    })
    return stamps.join(' ')
  }

  #read(): Read {
    const read: { cert?: Buffer; key?: Buffer; ca?: Buffer } = {}
    for (const part of ['cert', 'key', 'ca'] as const) {
      const path = this.#paths[part]
      if (path === '') continue
      read[part] = this.#try(path, (name) => readFileSync(name))
    }
    return read
  }

  #try<T>(path: string, read: (path: string) => T): T {
    try {
      return read(path)
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      throw new Error(`${this.#option}: ${path} cannot be read: ${code}`, { cause })
    }
  }
}

/** Connections of the pool have a name; with the generation of the files in it, older ones get no new requests. */
class LiveAgent extends Agent {
  readonly #files: Files<ClientTlsOptions>

  constructor(options: AgentOptions, files: Files<ClientTlsOptions>) {
    super(options)
    this.#files = files
  }

  override getName(options?: Parameters<Agent['getName']>[0]): string {
    this.#files.options()
    return `${super.getName(options)}:${this.#files.generation}`
  }

  override createConnection(...[options, callback]: Parameters<Agent['createConnection']>) {
    return super.createConnection({ ...options, ...this.#files.options() } as typeof options, callback)
  }
}
