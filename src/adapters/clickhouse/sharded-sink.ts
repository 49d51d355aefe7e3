import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../lib/clock.ts'
import { SOURCE_TABLES } from '../../model/schema.ts'
import type { Segment } from '../../pipeline/segment.ts'
import type { Outcome } from '../../pipeline/sink.ts'
import type { ClickHouse } from './client.ts'
import { quoteName } from './ddl.ts'
import { storeError } from './failure.ts'
import type { ClickHouseCounters, ClickHouseSink } from './sink.ts'
import { dateOf, inDays, tableOf } from './stored.ts'
import { shardOf } from './topology.ts'

/**
 * A sink for each shard of a cluster, as one: a segment goes whole to the shard that its id says, and is looked up there.
 *
 *   segment ── CRC32(id) mod n ──► sink of shard k ──► its replicas
 *
 * Segments go in order, so a shard of which no replica answers holds those behind it too: its rows would be missing from
 * every answer anyway, and the journal keeps them all.
 *
 * A segment that an earlier process sent when there were other shards is looked for on all of them, and stays where it is.
 */
export interface ShardedSinkOptions {
  readonly shards: readonly ShardStore[]
  /** Whether a process before this one may have sent segments to other shards. */
  readonly layout: ShardLayout
  readonly clock: Pick<Clock, 'now'>
}

export interface ShardStore {
  readonly sink: ClickHouseSink
  /** Of the local tables. */
  readonly clickhouse: ClickHouse
}

/** Which shards segments are sent to, as remembered from one start to the next. */
export interface ShardLayout {
  readonly same: boolean
  /** All that was sent under the layout before is where it belongs. */
  remember(): Promise<void>
}

const LOOKUP_TIMEOUT_MS = 60_000

export function createShardedSink({ shards, layout, clock }: ShardedSinkOptions): ClickHouseSink {
  const sinks = shards.map(({ sink }) => sink)
  let startedMs = 0
  let moved = !layout.same

  async function homeOf(segment: Segment, signal: AbortSignal): Promise<ClickHouseSink> {
    const own = shardOf(segment.id, sinks.length)
    if (!moved) return sinks[own]!
    if (segment.openedMs > startedMs) {
      // Oldest first: whatever was sent before the start is accepted by now.
      await layout.remember()
      moved = false
      return sinks[own]!
    }
    for (const [k, { clickhouse }] of shards.entries()) {
      if (k !== own && (await hasRows(clickhouse, segment, signal))) return sinks[k]!
    }
    return sinks[own]!
  }

  return {
    name: 'clickhouse',
    async start() {
      startedMs = clock.now()
      for (const sink of sinks) await sink.start()
    },
    async stop(deadline) {
      await Promise.all(sinks.map((sink) => sink.stop(deadline)))
    },
    async send(segment, signal) {
      let home: ClickHouseSink
      try {
        home = await homeOf(segment, signal)
      } catch (error) {
        return { status: 'retry', error: storeError(error, `the shard of segment ${segment.id} is not known`) }
      }
      return await home.send(segment, signal)
    },
    async settle(signal) {
      for (const sink of sinks) {
        const outcome: Outcome = await sink.settle(signal)
        if (outcome.status !== 'accepted') return outcome
      }
      return { status: 'accepted' }
    },
    engineStarted(options) {
      for (const sink of sinks) sink.engineStarted(options)
    },
    async exclusive(work) {
      const all = sinks.reduceRight((inner, sink) => () => sink.exclusive(inner), work)
      return await all()
    },
    get counters() {
      return addCounters(sinks.map(({ counters }) => counters))
    },
  }
}

async function hasRows(clickhouse: ClickHouse, segment: Segment, signal: AbortSignal): Promise<boolean> {
  for (const table of SOURCE_TABLES) {
    const days = tableOf(segment, table)?.days
    if (days === undefined) continue
    const { rows } = await clickhouse.query(
      {
        sql: `SELECT 1 AS found FROM ${quoteName(clickhouse.database)}.${table}
          WHERE segment = {segment:String} AND ${inDays(table)} LIMIT 1`,
        params: { segment: segment.id, days: [...days.keys()].map(dateOf) },
      },
      { signal, timeoutMs: LOOKUP_TIMEOUT_MS },
    )
    if (rows.length > 0) return true
  }
  return false
}

function addCounters(all: readonly Readonly<ClickHouseCounters>[]): ClickHouseCounters {
  const sum = structuredClone(all[0]!) as ClickHouseCounters
  for (const counters of all.slice(1)) {
    for (const [name, value] of Object.entries(counters)) {
      if (name === 'rows') continue
      sum[name as Exclude<keyof ClickHouseCounters, 'rows'>] += value as number
    }
    for (const [table, rows] of Object.entries(counters.rows))
      sum.rows[table as keyof ClickHouseCounters['rows']] += rows
  }
  return sum
}

const FILE = 'clickhouse-shards'

/** Reads what `remember` left in `dir`. Servers may change; how many shards there are decides which one a segment is of. */
export async function readShardLayout(dir: string, shards: number): Promise<ShardLayout> {
  const now = String(shards)
  const path = join(dir, FILE)
  const before = (await readFile(path, 'utf8').catch(() => '')).trim()
  return {
    same: before === now,
    async remember() {
      await writeFile(`${path}.new`, `${now}\n`)
      await rename(`${path}.new`, path)
    },
  }
}
