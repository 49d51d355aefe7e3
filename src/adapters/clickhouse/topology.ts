import { crc32 } from 'node:zlib'
import type { ClickHouse } from './client.ts'
import { storeError } from './failure.ts'

/**
 * Which servers of a cluster have a segment.
 *
 *   segment ── CRC32(id) mod shards ──► shard ──► one of its replicas; another one of the same shard when it fails
 *
 * A segment goes to one shard whole, rows and rollup, so that a shard can be held against itself, and always to the same
 * one, because a token is of use on one shard alone. The Distributed tables are sharded by the same expression.
 */
export interface Shard {
  /** From 1, as in `system.clusters`. */
  readonly number: number
  /** HTTP URLs of its replicas. */
  readonly urls: readonly string[]
}

/** Sharding key of tables whose rows know their segment. */
export const SHARDING_KEY = 'CRC32(segment)'

/** Index of the shard that has the segment: the polynomial is that of zlib, as in ClickHouse's `CRC32`. */
export function shardOf(segmentId: string, shards: number): number {
  return crc32(segmentId) % shards
}

/**
 * Shards as the servers know them. They tell their names and the port of the native protocol, so protocol and port of
 * HTTP are taken from the URL that was asked.
 */
export async function discoverShards(
  clickhouse: ClickHouse,
  options: { readonly cluster: string; readonly like: string; readonly signal: AbortSignal },
): Promise<Shard[]> {
  const { cluster, like, signal } = options
  const { rows } = await clickhouse.query<{ shard: number; host: string }>(
    {
      sql: `SELECT shard_num AS shard, host_name AS host FROM system.clusters
        WHERE cluster = {cluster:String} ORDER BY shard_num, replica_num`,
      params: { cluster },
    },
    { signal },
  )
  if (rows.length === 0) throw storeError(new Error('it is not in system.clusters'), `cluster ${cluster} is not known`)
  const shards = new Map<number, string[]>()
  for (const { shard, host } of rows) {
    const urls = shards.get(Number(shard)) ?? []
    shards.set(Number(shard), [...urls, urlLike(like, host)])
  }
  return [...shards].map(([number, urls]) => ({ number, urls }))
}

function urlLike(like: string, host: string): string {
  const url = new URL(like)
  const port = url.port === '' ? '' : `:${url.port}`
  return `${url.protocol}//${host.includes(':') ? `[${host}]` : host}${port}`
}
