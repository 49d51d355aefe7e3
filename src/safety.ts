import type { Config } from './config.ts'
import { SidecastError } from './errors.ts'
import type { Access } from './lib/access.ts'
import { createSenders, type SenderLimits, type Senders } from './lib/senders.ts'
import type { ServerTlsConfig } from './lib/tls.ts'
import { createTlsGuard, type TlsGuard } from './lib/tls-guard.ts'
import { createTokens, type Tokens } from './lib/tokens.ts'
import { parseBytes } from './lib/units.ts'
import type { Log } from './telemetry/log.ts'

/** Who may come to which listener: tokens and senders of the whole process, certificates of each port. */
export interface Safety {
  readonly tokens: Tokens
  readonly senders: Senders
  access(listener: ListenerName): Access
  /** Of the listeners with TLS. */
  readonly guards: ReadonlyMap<ListenerName, TlsGuard>
  /** Looks at the files of certificates now. */
  refresh(): void
}

/** Listeners that can have TLS, and where the configuration has it. */
export const TLS_OPTIONS = {
  http: 'http.tls',
  grpc: 'ingest.grpc.tls',
  'otlp-http': 'ingest.otlpHttp.tls',
  'statsd-tcp': 'ingest.statsd.tls',
  'syslog-tls': 'ingest.syslog.tls',
  fluentd: 'ingest.fluentd.tls',
} as const
export type ListenerName = keyof typeof TLS_OPTIONS | 'plain'

export const tlsConfigs = ({ http, ingest }: Config): Readonly<Record<keyof typeof TLS_OPTIONS, ServerTlsConfig>> => ({
  http: http.tls,
  grpc: ingest.grpc.tls,
  'otlp-http': ingest.otlpHttp.tls,
  'statsd-tcp': ingest.statsd.tls,
  'syslog-tls': ingest.syslog.tls,
  fluentd: ingest.fluentd.tls,
})

/** Throws SC1209 when a certificate cannot be used: a listener must not begin without what was asked for. */
export function createSafety({ config, log }: { config: Config; log: Log }): Safety {
  const tokens = createTokens(config.auth.tokens)
  const senders = createSenders(senderLimits(config))
  const guards = new Map<ListenerName, TlsGuard>()
  for (const [name, tls] of Object.entries(tlsConfigs(config)) as [keyof typeof TLS_OPTIONS, ServerTlsConfig][]) {
    const guard = createTlsGuard({ name, config: tls, option: TLS_OPTIONS[name], log })
    if (guard === null) continue
    try {
      guard.options()
    } catch (cause) {
      throw new SidecastError('SC1209', (cause as Error).message, {
        help: 'certificate and key are PEM files that belong together',
        cause,
      })
    }
    guards.set(name, guard)
  }
  return {
    tokens,
    senders,
    guards,
    access: (name) => ({ tokens, senders, tls: guards.get(name) ?? null }),
    refresh() {
      for (const guard of guards.values()) guard.refresh()
    },
  }
}

export function senderLimits({ limits: { sender } }: Config): SenderLimits {
  return {
    connectionsMax: sender.connections,
    streamsMax: sender.streams,
    bytesPerSecond: parseBytes(sender.bytesPerSecond)!,
  }
}
