/** What is counted of alerts of objectives, and of those who are told of them. */
export interface AlertMetricsSource {
  readonly counters: { readonly known: number; readonly unknown: number; readonly failed: number }
  readonly last: { readonly startedMs: number; readonly tookMs: number; readonly atMs: number | null } | null
  readonly peers: readonly {
    readonly url: string
    readonly counters: { readonly sent: number; readonly rejected: number; readonly failed: number }
    readonly lastError: string | null
  }[]
  alerts(): Iterable<{ readonly state: string }>
}

type Labelled = readonly (readonly [labels: Record<string, string>, value: number])[]
type Declare = (name: string, help: string, read: () => number | Labelled, labels: string[]) => void

/** Declares them by the means of the caller. */
export function alertMetrics(source: AlertMetricsSource, counter: Declare, gauge: Declare): void {
  counter(
    'sidecast_alerts_evaluations_total',
    'Looks at all objectives: known, unknown (the store is behind), failed',
    () => Object.entries(source.counters).map(([result, n]) => [{ result }, n] as const),
    ['result'],
  )
  gauge(
    'sidecast_alerts_evaluation_seconds',
    'How long the last look took',
    () => (source.last?.tookMs ?? 0) / 1000,
    [],
  )
  gauge(
    'sidecast_alerts_evaluated_timestamp_seconds',
    'End of the windows that were looked at last; 0 while it is not known',
    () => (source.last?.atMs ?? 0) / 1000,
    [],
  )
  gauge(
    'sidecast_alerts',
    'Alerts by state',
    () => {
      const states = { pending: 0, firing: 0, resolved: 0 } as Record<string, number>
      for (const { state } of source.alerts()) states[state]!++
      return Object.entries(states).map(([state, n]) => [{ state }, n] as const)
    },
    ['state'],
  )
  const perPeer = (read: (peer: AlertMetricsSource['peers'][number]) => number) => (): Labelled =>
    source.peers.map((peer) => [{ alertmanager: peer.url }, read(peer)] as const)
  const label = ['alertmanager']
  counter(
    'sidecast_alertmanager_sent_total',
    'Alerts that it has taken',
    perPeer(({ counters }) => counters.sent),
    label,
  )
  counter(
    'sidecast_alertmanager_rejected_total',
    'Alerts that it will not have',
    perPeer(({ counters }) => counters.rejected),
    label,
  )
  counter(
    'sidecast_alertmanager_failures_total',
    'Requests that failed, and were tried again',
    perPeer(({ counters }) => counters.failed),
    label,
  )
  gauge(
    'sidecast_alertmanager_up',
    '0 while the last request to it failed, or was refused',
    perPeer(({ lastError }) => (lastError === null ? 1 : 0)),
    label,
  )
}
