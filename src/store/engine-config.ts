import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type StoreLimits, TIME_GRACE_MS } from './limits.ts'

/**
 * The engine's configuration files. They, not `SET`, hold what must not be exceeded: constraints of the profile hold
 * for a SETTINGS clause too, and what is not granted cannot be done by any statement (no URL, no other server, no
 * backup, no access rights).
 */
export async function writeEngineConfig(directory: string, limits: StoreLimits): Promise<string> {
  const users = join(directory, 'users.xml')
  const config = join(directory, 'engine.xml')
  await writeFile(users, usersXml(limits), { mode: 0o600 })
  await writeFile(config, configXml(limits, users), { mode: 0o600 })
  return config
}

/** Caches are small fractions of the memory: columns are read in order, and marks of a few hundred parts are enough. */
function configXml(limits: StoreLimits, usersPath: string): string {
  const share = (divisor: number) => Math.floor(limits.memoryBytesMax / divisor)
  return xml({
    users_config: usersPath,
    timezone: 'UTC',
    max_server_memory_usage: limits.memoryBytesMax,
    max_server_memory_usage_to_ram_ratio: 0.9,
    mark_cache_size: share(32),
    primary_index_cache_size: share(64),
    index_mark_cache_size: share(64),
    query_condition_cache_size: share(128),
    compiled_expression_cache_size: share(64),
    background_pool_size: limits.mergeThreads,
    background_merges_mutations_concurrency_ratio: 1,
    background_schedule_pool_size: limits.mergeThreads,
    // Pools that the defaults make for machines with a hundred disks.
    max_thread_pool_size: 256,
    max_thread_pool_free_size: 8,
  })
}

function usersXml(limits: StoreLimits): string {
  const { statementMemoryBytesMax: memory, writeMsMax, threadsMax } = limits
  const seconds = (writeMsMax + TIME_GRACE_MS) / 1000
  return xml({
    users: {
      default: {
        password: '',
        profile: 'default',
        quota: 'default',
        networks: { ip: '::/0' },
        grants: { query: GRANTS },
      },
    },
    profiles: {
      default: {
        max_memory_usage: memory,
        max_execution_time: seconds,
        max_threads: threadsMax,
        max_insert_threads: 1,
        // Bound parameters are part of the text that the engine parses.
        max_query_size: 16 * 1024 * 1024,
        // A statement that only names a column or a number is a slip, not a SELECT.
        implicit_select: 0,
        // A mapped file that is cut short under the engine would end the process (SIGBUS); a read only fails.
        storage_file_read_method: 'pread',
        constraints: {
          max_memory_usage: { min: 1, max: memory },
          max_execution_time: { min: 0.001, max: seconds },
          max_threads: { min: 1, max: threadsMax },
        },
      },
    },
    quotas: { default: '' },
  })
}

const GRANTS = [
  'GRANT SHOW, SELECT, INSERT, ALTER, CREATE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, CHECK, KILL QUERY, SYSTEM, dictGet ON *.*',
  'GRANT TABLE ENGINE ON *',
  'GRANT READ ON FILE',
]

type Xml = string | number | readonly string[] | { readonly [name: string]: Xml }

function xml(tree: Xml): string {
  return `<clickhouse>${element(tree)}</clickhouse>\n`
}

function element(tree: Xml): string {
  if (typeof tree === 'string') return tree.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  if (typeof tree !== 'object') return String(tree)
  return Object.entries(tree)
    .map(([name, value]: [string, Xml]) =>
      (Array.isArray(value) ? (value as readonly string[]) : [value])
        .map((one) => `<${name}>${element(one)}</${name}>`)
        .join(''),
    )
    .join('')
}
