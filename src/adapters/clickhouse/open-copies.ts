import type { Config } from '../../config.ts'
import { SidecastError } from '../../errors.ts'
import { clientTls } from '../../lib/tls.ts'
import { parseDuration } from '../../lib/units.ts'
import type { Adapter, AdapterShared } from '../../pipeline/adapter.ts'
import { createDelivery } from '../../pipeline/delivery.ts'
import { type ClickHouse, createClickHouse } from './client.ts'
import { checkStatement, mappedCopies } from './column-map.ts'
import type { Copy } from './copies.ts'
import { createCopySink } from './copy-sink.ts'
import { quoteName } from './ddl.ts'
import { exceptionCode } from './failure.ts'
import { urlsOf } from './open.ts'
import { otelCopies } from './otel-copies.ts'
import { otelStatements } from './otel-ddl.ts'

export type CopiesConfig = Config['adapters']['clickhouse']

const TIMEOUT_MS = 60_000
const MS_PER_DAY = 86_400_000
const ACCESS_DENIED = 497
const SERVERS_OF_ONE_CONNECTION = 8

/**
 * Copies into tables that are not the store's: OpenTelemetry's, users' own. A durable sink of its own with its own cursor, so
 * that neither waits for the other. Null where no server is named.
 */
export function openClickHouseCopies(config: CopiesConfig, shared: AdapterShared): Adapter | null {
  if (config.url === '') return null
  const { journal, clock, log } = shared
  const { username, password, token, database } = config
  const own = mappedCopies(config.tables, database)
  const otel = otelCopies({ ...config.otel, database: config.otel.database || database })
  if (own.length + otel.length === 0) {
    throw new SidecastError('SC1205', 'adapters.clickhouse: a server is named, and nothing to copy', {
      help: 'name tables, or switch on otel.logs, otel.traces or otel.metrics',
    })
  }
  const clickhouse = createClickHouse({
    url: urlsOf(config.url),
    database,
    username,
    password,
    ...(token === '' ? {} : { token }),
    tls: clientTls(config.tls, 'adapters.clickhouse.tls'),
    compress: true,
    connectionsMax: SERVERS_OF_ONE_CONNECTION,
    log,
  })
  const sink = createCopySink({
    clickhouse,
    copies: [...otel, ...own],
    prepare: (signal) => prepareCopies({ clickhouse, otel, own, config, signal }),
    insertTimeoutMs: parseDuration(config.insertTimeout)!,
    clock,
    log,
  })
  const delivery = createDelivery({ sink, journal, clock, log })
  return {
    name: sink.name,
    endpoint: urlsOf(config.url)
      .map((url) => new URL(url).origin)
      .join(', '),
    stages: [sink, delivery],
    deliveries: [delivery],
    counters: () => ({ segments_taken_out_total: sink.counters.takenOut, retries_total: sink.counters.retries }),
  }
}

export interface PrepareOptions {
  readonly clickhouse: ClickHouse
  readonly otel: readonly Copy[]
  readonly own: readonly Copy[]
  readonly config: { readonly otel: { readonly create: boolean; readonly database: string; readonly keep: string } }
  readonly signal: AbortSignal
}

/** Makes OpenTelemetry's tables, and fits the copies to those that were there before. Throws when something is wrong. */
export async function prepareCopies({
  clickhouse,
  otel,
  own,
  config,
  signal,
}: PrepareOptions): Promise<readonly Copy[]> {
  const { create, keep } = config.otel
  const options = { signal, timeoutMs: TIMEOUT_MS }
  if (otel.length > 0 && create) {
    const { database } = otel[0]!.into
    await databaseThere(clickhouse, database, signal)
    const keepDays = Math.ceil((parseDuration(keep) ?? 0) / MS_PER_DAY)
    for (const sql of otelStatements({ database, keepDays })) await clickhouse.execute({ sql, params: {} }, options)
  }
  for (const copy of own) await clickhouse.query({ sql: checkStatement(copy), params: {} }, options)
  return [...(await Promise.all(otel.map((copy) => fitted(clickhouse, copy, options)))), ...own]
}

/** Who may not make databases has one already. */
async function databaseThere(clickhouse: ClickHouse, database: string, signal: AbortSignal): Promise<void> {
  try {
    await clickhouse.execute(
      { sql: `CREATE DATABASE IF NOT EXISTS ${quoteName(database)}`, params: {} },
      { signal, timeoutMs: TIMEOUT_MS },
    )
  } catch (error) {
    if (exceptionCode(error) !== ACCESS_DENIED) throw error
  }
}

/** Exporters of different versions made tables with fewer columns. */
async function fitted(
  clickhouse: ClickHouse,
  copy: Copy,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<Copy> {
  const { database, table } = copy.into
  const { rows } = await clickhouse.query<{ name: string }>(
    {
      sql: 'SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}',
      params: { database, table },
    },
    options,
  )
  const there = new Set(rows.map(({ name }) => name))
  if (there.size === 0) {
    throw new SidecastError('SC4103', `table ${database}.${table} is not there`, {
      help: 'let adapters.clickhouse.otel.create make it, or start the exporter that does',
    })
  }
  return {
    ...copy,
    columns: copy.columns.filter(({ name }) => there.has(name)),
    segmentColumn: copy.segmentColumn !== null && there.has(copy.segmentColumn) ? copy.segmentColumn : null,
  }
}
