/** What is counted of who came and who was turned away. */
export interface SafetySource {
  readonly tokens: { readonly counters: Readonly<Record<string, number>> }
  readonly senders: { readonly counters: object }
  readonly guards: ReadonlyMap<string, GuardSource>
}

/** What is counted of other configurations for the running process. */
export interface ReloadSource {
  readonly counters: { readonly taken: number; readonly refused: number }
  readonly takenMs: number
  readonly last: { readonly taken: boolean } | null
}

/** The names are those that Prometheus has for its own. */
export function reloadMetrics(source: ReloadSource, counter: Declare, gauge: Declare): void {
  counter(
    'sidecast_config_reloads_total',
    'Reloads by what became of them',
    () => Object.entries(source.counters).map(([result, n]) => [{ result }, n] as const),
    ['result'],
  )
  gauge(
    'sidecast_config_last_reload_successful',
    '0 from a refused reload until one is taken',
    () => (source.last?.taken === false ? 0 : 1),
    [],
  )
  gauge(
    'sidecast_config_last_reload_success_timestamp_seconds',
    'When the configuration that counts was taken',
    () => source.takenMs / 1000,
    [],
  )
}

interface GuardSource {
  readonly counters: {
    readonly accepted: number
    readonly refused: Readonly<Record<string, number>>
    readonly renewed: number
  }
  readonly expiresMs: number | null
  readonly lastError: string | null
}

type Labelled = readonly (readonly [labels: Record<string, string>, value: number])[]
type Declare = (name: string, help: string, read: () => number | Labelled, labels: string[]) => void

/** Declares them by the means of the caller. */
export function safetyMetrics(source: SafetySource, counter: Declare, gauge: Declare): void {
  const perGuard = (value: (guard: GuardSource) => number) => (): Labelled =>
    [...source.guards].map(([listener, guard]) => [{ listener }, value(guard)] as const)
  const listener = ['listener']
  counter(
    'sidecast_tls_accepted_total',
    'TLS connections let in',
    perGuard((guard) => guard.counters.accepted),
    listener,
  )
  counter(
    'sidecast_tls_refused_total',
    'TLS connections turned away, by reason',
    () =>
      [...source.guards].flatMap(([name, { counters }]) =>
        Object.entries(counters.refused).map(([reason, n]) => [{ listener: name, reason }, n] as const),
      ),
    ['listener', 'reason'],
  )
  counter(
    'sidecast_tls_renewed_total',
    'Times that other certificates came into use',
    perGuard((guard) => guard.counters.renewed),
    listener,
  )
  gauge(
    'sidecast_tls_certificate_expiry_timestamp_seconds',
    'When the certificate of the listener ends',
    perGuard((guard) => (guard.expiresMs ?? 0) / 1000),
    listener,
  )
  gauge(
    'sidecast_tls_files_usable',
    '0 while the files of certificates cannot be used and older ones serve',
    perGuard((guard) => (guard.lastError === null ? 1 : 0)),
    listener,
  )
  counter(
    'sidecast_tokens_total',
    'Requests and streams by what their token was: ok, missing, unknown, scope (known, and not allowed this)',
    () => Object.entries(source.tokens.counters).map(([result, n]) => [{ result }, n] as const),
    ['result'],
  )
}
