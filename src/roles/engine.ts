import { resolve } from 'node:path'
import type { Config } from '../config.ts'
import { parseBytes, parseDuration } from '../lib/units.ts'
import { createStore, type Store } from '../store/supervisor.ts'
import type { Log } from '../telemetry/log.ts'

/** The embedded engine, where no server is configured. */
export function openEngine(config: Config, log: Log): Store | undefined {
  if (config.store.clickhouse.url !== '') return undefined
  const memoryBytesMax = parseBytes(config.store.memory.max)!
  const limits = {
    memoryBytesMax,
    statementMemoryBytesMax: Math.min(parseBytes(config.http.queryMemoryMax)!, memoryBytesMax),
    readMsMax: parseDuration(config.http.queryTimeout)!,
  }
  return createStore({ dir: resolve(config.data, 'store'), log, limits })
}
