import type { Adapter } from '../pipeline/adapter.ts'

type Labelled = readonly (readonly [labels: Record<string, string>, value: number])[]
type Declare = (name: string, help: string, read: () => number | Labelled, labels: string[]) => void

const STATES = { closed: 0, half_open: 1, open: 2 } as const
const RESULTS = ['received', 'delivered', 'rejected', 'dropped', 'lost'] as const

/** What adapters count, by sink: one target may have several. Declared by the means of the caller. */
export function adapterMetrics(
  adapters: () => readonly Adapter[],
  now: () => number,
  declare: { readonly counter: Declare; readonly gauge: Declare },
): void {
  const { counter, gauge } = declare
  // Other ones may be configured while the process runs.
  const deliveries = () => adapters().flatMap((adapter) => adapter.deliveries)
  type One = ReturnType<typeof deliveries>[number]
  const each = (value: (delivery: One) => number) => (): Labelled =>
    deliveries().map((delivery) => [{ sink: delivery.sink }, value(delivery)] as const)
  const sink = ['sink']
  counter(
    'sidecast_sink_rows_total',
    'Rows since the process started: received = delivered + rejected + dropped + lost + held',
    () =>
      deliveries().flatMap((delivery) => {
        const account = delivery.account()
        return RESULTS.map((result) => [{ sink: delivery.sink, result }, account[result]] as const)
      }),
    ['sink', 'result'],
  )
  gauge(
    'sidecast_sink_held_rows',
    'Rows that the sink does not have yet',
    each((one) => one.account().held),
    sink,
  )
  gauge(
    'sidecast_sink_held_bytes',
    'Bytes of the journal that it waits for',
    each((one) => one.backlog().bytes),
    sink,
  )
  gauge(
    'sidecast_sink_lag_seconds',
    'Age of the oldest row that the sink does not have yet',
    each((one) => {
      const { oldestMs } = one.backlog()
      return oldestMs === null ? 0 : Math.max(0, (now() - oldestMs) / 1000)
    }),
    sink,
  )
  counter(
    'sidecast_sink_attempts_total',
    'Attempts to deliver',
    each((one) => one.stats().attempts),
    sink,
  )
  counter(
    'sidecast_sink_retries_total',
    'Attempts that failed and are repeated',
    each((one) => one.stats().retries),
    sink,
  )
  gauge(
    'sidecast_sink_circuit',
    '0: works; 2: failed again and again, waits before the next attempt; 1: that attempt',
    each((one) => STATES[one.stats().circuit.state]),
    sink,
  )
  counter(
    'sidecast_adapter_figures_total',
    'What only this adapter counts; its page says what each is',
    () =>
      adapters().flatMap(({ name, counters }) =>
        Object.entries(counters?.() ?? {}).map(([figure, n]) => [{ adapter: name, figure }, n] as const),
      ),
    ['adapter', 'figure'],
  )
}
