import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ClickHouse, createClickHouse } from '../../src/adapters/clickhouse/client.ts'
import { migrate } from '../../src/adapters/clickhouse/migrations.ts'
import { type ClickHouseSink, createClickHouseSink } from '../../src/adapters/clickhouse/sink.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { type Store, startStore } from '../../src/store/supervisor.ts'
import { silentLog } from '../../src/telemetry/log.ts'

/** An embedded store with our tables in the database `bench`, and the sink that fills them; in a directory that goes with it. */
export interface BenchStore {
  readonly dir: string
  readonly store: Store
  readonly clickhouse: ClickHouse
  readonly sink: ClickHouseSink
  /** CPU time so far, ms: of this process, and of the store's (utime and stime of proc_pid_stat(5), in ticks of 10 ms). */
  cpu(): Promise<Cpu>
  rows<Row>(sql: string): Promise<Row[]>
  /** Resolves when no merge has run for a while. */
  quiet(): Promise<void>
  close(): Promise<void>
}

export interface Cpu {
  readonly own: number
  readonly store: number
}

const DAY_MS = 86_400_000
const RETENTION = { rowsMs: 30 * DAY_MS, minutesMs: 90 * DAY_MS, hoursMs: 900 * DAY_MS, metricsMs: 30 * DAY_MS }

export async function openBenchStore(name: string, { keysMax }: { readonly keysMax: number }): Promise<BenchStore> {
  const dir = await mkdtemp(join(tmpdir(), `sidecast-bench-${name}-`))
  const [log, clock, signal] = [silentLog, systemClock, new AbortController().signal]
  const store = await startStore({ dir: join(dir, 'store'), log })
  const clickhouse = createClickHouse({ url: () => store.url, database: 'bench', ...store.credentials.writer, log })
  const rows = async <Row>(sql: string): Promise<Row[]> =>
    (await clickhouse.query<never>({ sql, params: {} }, { signal })).rows
  const close = async (): Promise<void> => {
    await clickhouse.close()
    await store.stop(AbortSignal.timeout(10_000))
    await rm(dir, { recursive: true, force: true })
  }
  try {
    await migrate({ clickhouse, retention: RETENTION, log, signal })
    const shared = { clickhouse, log, clock, readsFiles: true, retention: RETENTION, kept: () => [] }
    const sink = createClickHouseSink({ ...shared, keysMax })
    await sink.start()
    return { dir, store, clickhouse, sink, cpu: () => cpuOf(store.pid!), rows, quiet: () => quiet(rows), close }
  } catch (error) {
    await close()
    throw error
  }
}

async function cpuOf(pid: number): Promise<Cpu> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const { user, system } = process.cpuUsage()
  return { store: (Number(fields[11]) + Number(fields[12])) * 10, own: (user + system) / 1000 }
}

async function quiet(rows: BenchStore['rows']): Promise<void> {
  for (let times = 0; times < 4; times++) {
    while (Number((await rows<{ n: number }>('SELECT count() AS n FROM system.merges'))[0]!.n) > 0) {
      times = 0
      await sleep(200)
    }
    await sleep(300)
  }
}
