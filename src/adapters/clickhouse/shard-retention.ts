import type { StoreRetention, Usage } from './retention.ts'

/** Room of all shards as one: each keeps to its own share of the budget. */
export function createShardedRetention(shards: readonly StoreRetention[]): StoreRetention {
  return {
    name: 'retention',
    async start() {
      for (const shard of shards) await shard.start()
    },
    async stop(deadline) {
      await Promise.all(shards.map((shard) => shard.stop(deadline)))
    },
    async enforce(signal) {
      return total(await Promise.all(shards.map((shard) => shard.enforce(signal))))
    },
    async oldestRow(table, signal) {
      const oldest = await Promise.all(shards.map((shard) => shard.oldestRow(table, signal)))
      const known = oldest.filter((time) => time !== null)
      return known.length === 0 ? null : Math.min(...known)
    },
    setBytesMax(bytesMax) {
      for (const shard of shards) shard.setBytesMax(Math.floor(bytesMax / shards.length))
    },
    get usage() {
      return total(shards.map(({ usage }) => usage))
    },
  }
}

function total(usages: readonly Usage[]): Usage {
  const sum = (of: (usage: Usage) => number) => usages.reduce((all, usage) => all + of(usage), 0)
  return {
    bytes: sum(({ bytes }) => bytes),
    bytesMax: sum(({ bytesMax }) => bytesMax),
    over: usages.some(({ over }) => over),
    partitionsDropped: sum(({ partitionsDropped }) => partitionsDropped),
    rowsDropped: sum(({ rowsDropped }) => rowsDropped),
  }
}
