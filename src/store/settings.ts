import { engineError } from './engine-error.ts'
import { type StoreLimits, TIME_GRACE_MS } from './limits.ts'

/** `reader` may only look; `writer` is the process itself. */
export type User = 'reader' | 'writer'
export type Setting = readonly [name: string, value: string]

/** Parameters of ClickHouse's HTTP interface that are not settings, and settings of it that mean nothing here. */
const HTTP_PARAMETERS = new Set([
  'query',
  'query_id',
  'database',
  'default_format',
  'user',
  'password',
  'quota_key',
  'role',
  'compress',
  'decompress',
  'wait_end_of_query',
  'buffer_size',
  'enable_http_compression',
  'http_zlib_compression_level',
  'send_progress_in_http_headers',
  'http_headers_progress_interval_ms',
  'http_write_exception_in_output_format',
  'cancel_http_readonly_queries_on_client_close',
  'add_http_cors_header',
  'http_native_compression_disable_checksumming_on_decompress',
  'readonly',
])

/** What a caller may set by URL. A name that ends in `_` stands for all that begin with it. */
const READER_SETTINGS = [
  'max_execution_time',
  'max_memory_usage',
  'max_threads',
  'max_result_rows',
  'max_result_bytes',
  'result_overflow_mode',
  'max_rows_to_',
  'max_bytes_to_',
  'max_bytes_before_external_',
  'read_overflow_mode',
  'group_by_overflow_mode',
  'sort_overflow_mode',
  'group_by_two_level_threshold',
  'max_block_size',
  'max_ast_',
  'max_expanded_ast_elements',
  'output_format_',
  'format_',
  'date_time_input_format',
  'date_time_output_format',
  'session_timezone',
  'extremes',
  'final',
  'limit',
  'offset',
  'join_',
  'transform_null_in',
  'aggregate_functions_null_for_empty',
  'optimize_',
  'query_plan_',
  'enable_',
  'allow_experimental_',
  'force_',
  'use_',
  'prefer_column_name_to_alias',
  'totals_mode',
]
const WRITER_SETTINGS = [
  'async_insert',
  'wait_for_async_insert',
  'insert_',
  'input_format_',
  'deduplicate_blocks_in_dependent_materialized_views',
  'materialized_views_',
  'parallel_view_processing',
  'max_insert_',
  'min_insert_block_size_',
  'max_partitions_per_insert_block',
  'throw_on_max_partitions_per_insert_block',
  'fsync_metadata',
  'alter_sync',
  'mutations_sync',
  'lightweight_deletes_sync',
  'lightweight_delete_mode',
  'apply_mutations_on_fly',
  'lock_acquire_timeout',
  'allow_suspicious_',
  'allow_nondeterministic_mutations',
  'allow_drop_detached',
  'max_table_size_to_drop',
  'max_partition_size_to_drop',
  'allow_',
  'data_type_default_nullable',
  'database_',
  'storage_file_',
]

export interface RequestSettings {
  readonly settings: readonly Setting[]
  /** `param_…`, as they came. */
  readonly bound: readonly Setting[]
  /** How long the statement may run: `max_execution_time` of the request, or the limit. */
  readonly timeMsMax: number
}

/**
 * The settings of a request, checked against the lists and brought within the limits. The engine's own time limit is
 * set beyond ours, see `TIME_GRACE_MS`.
 */
export function settingsOf(
  parameters: Iterable<readonly [string, string]>,
  user: User,
  limits: StoreLimits,
): RequestSettings {
  const settings = new Map<string, string>()
  const bound: Setting[] = []
  for (const [name, value] of parameters) {
    if (name.startsWith('param_')) bound.push([name, value])
    else if (!HTTP_PARAMETERS.has(name)) {
      if (!allowed(name, user)) {
        throw engineError('SETTING_CONSTRAINT_VIOLATION', `Setting ${name} cannot be set by a ${user} of this store`)
      }
      settings.set(name, value)
    }
  }
  clamp(settings, 'max_execution_time', (user === 'reader' ? limits.readMsMax : limits.writeMsMax) / 1000)
  const timeMsMax = Number(settings.get('max_execution_time')) * 1000
  settings.set('max_execution_time', String((timeMsMax + TIME_GRACE_MS) / 1000))
  clamp(settings, 'max_memory_usage', limits.statementMemoryBytesMax)
  clamp(settings, 'max_threads', limits.threadsMax)
  if (user === 'reader') clamp(settings, 'max_result_bytes', limits.resultBytesMax)
  return { settings: [...settings], bound, timeMsMax }
}

/** The text that puts a connection in order: database, settings, parameters, and last of all the door shut. */
export function preamble(options: {
  readonly database: string | undefined
  readonly settings: readonly Setting[]
  readonly user: User
}): string {
  const { database, settings, user } = options
  const use = database === undefined || database === 'default' ? '' : `USE ${quoteName(database)}; `
  const list = [...settings, ...(user === 'reader' ? [['readonly', '1'] as const] : [])]
  return `${use}SET ${list.map(([name, value]) => `${name}=${quoteText(value)}`).join(', ')}`
}

/** A string literal. Its value is what a server would have read from the URL. */
export function quoteText(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\0', '\\0')}'`
}

export function quoteName(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`').replaceAll('\0', '\\0')}\``
}

function allowed(name: string, user: User): boolean {
  if (!/^\w{1,128}$/.test(name)) return false
  const covers = (entry: string) => (entry.endsWith('_') ? name.startsWith(entry) : name === entry)
  return READER_SETTINGS.some(covers) || (user === 'writer' && WRITER_SETTINGS.some(covers))
}

/** Zero means "no limit" to the engine, so it becomes the limit as well. */
function clamp(settings: Map<string, string>, name: string, most: number): void {
  const asked = settings.get(name)
  const value = asked === undefined || asked.trim() === '' ? 0 : Number(asked)
  if (Number.isNaN(value) || value < 0) throw engineError('BAD_ARGUMENTS', `Setting ${name} cannot be ${asked}`)
  settings.set(name, String(value === 0 ? most : Math.min(value, most)))
}
