import type { ClickHouse } from '../adapters/clickhouse/client.ts'
import { createNoDays } from '../adapters/clickhouse/days.ts'
import type { ClickHouseStore } from '../adapters/clickhouse/open.ts'
import { noClickHouseCounts } from '../adapters/clickhouse/sink.ts'
import type { Delivery } from '../pipeline/delivery.ts'
import { Problem } from '../query/problem.ts'

/**
 * What stands in the store's place where a process has none: an edge gives everything to Kafka, and writers have the store.
 * Nothing is ever put into it, and every question is answered with where to ask instead.
 */
export function createNoStore(): ClickHouseStore {
  const absent = (): never => {
    throw new Problem('store_unavailable', 'this process is an edge and has no store', {
      help: 'ask a process with --role query or writer',
    })
  }
  const client: ClickHouse = {
    database: '',
    query: async () => absent(),
    // biome-ignore lint/correctness/useYield: there is nothing to give before it fails.
    stream: async function* () {
      absent()
    },
    // Nothing is missing: it is not a reason to send this process no work.
    ping: async () => true,
    execute: async () => absent(),
    insert: async () => absent(),
    end: async () => true,
    createDatabase: async () => absent(),
    close: async () => {},
  }
  const idle = { name: 'no store', start: async () => {}, stop: async () => {} }
  return {
    reader: client,
    all: client,
    sink: {
      ...idle,
      counters: noClickHouseCounts(),
      send: async () => absent(),
      engineStarted: () => {},
      settle: async () => ({ status: 'accepted' }),
      exclusive: (work) => work(),
    },
    disk: {
      ...idle,
      enforce: async () => NO_DISK,
      oldestRow: async () => null,
      setBytesMax: () => {},
      usage: NO_DISK,
    },
    days: createNoDays(),
    migrate: async () => {},
    close: async () => {},
  }
}

const NO_DISK = { bytes: 0, bytesMax: 0, over: false, partitionsDropped: 0, rowsDropped: 0 }

/** A delivery to nobody. */
export function createNoDelivery(): Delivery {
  return {
    name: 'no delivery',
    sink: 'none',
    start: async () => {},
    stop: async () => {},
    stats: () => ({
      deliveredSegments: 0,
      deliveredRows: 0,
      rejectedSegments: 0,
      rejectedRows: 0,
      attempts: 0,
      retries: 0,
      lastError: null,
      failures: 0,
      lastAcceptedMs: null,
      circuit: { state: 'closed', failures: 0, sinceMs: null, nextAttemptMs: null },
    }),
    backlog: () => ({ segments: 0, bytes: 0, rows: 0, oldestMs: null }),
    account: () => ({ received: 0, delivered: 0, rejected: 0, dropped: 0, lost: 0, held: 0 }),
  }
}
