import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { COLUMN_NAMES, type KnownColumn, requireColumn } from '../columns.ts'
import { answerWith, envelopeOf, nowNanos, type QueryContext } from '../context.ts'
import { type Cursor, readCursor, writeCursor } from '../cursor.ts'
import { filterSql, parseFilters, timeSql } from '../filters.ts'
import { partSql } from '../parts-sql.ts'
import { planRollups, planRows, withEverySource } from '../plan.ts'
import { Problem } from '../problem.ts'
import type { Question } from '../question.ts'
import { type CellValue, csvField, negotiate, ROW_TYPES, rowText } from '../rows-format.ts'
import { requestsAnswer, requestsQuery } from '../schemas.ts'
import { allOf, Bindings } from '../sql.ts'
import { formatTime, type Interval, type Nanos, parseInterval } from '../time.ts'
import { effectiveView, NO_CENSUS, type ResolvedView, resolveView, takeCensus } from '../view.ts'
import { documented } from './documented.ts'

type RequestsQuery = Static<typeof requestsQuery>
const LIMIT = 100

/** Header with the envelope as JSON, and with the next cursor, where the body is rows alone. */
const ENVELOPE_HEADER = 'sidecast-envelope'
const CURSOR_HEADER = 'sidecast-next-cursor'

export function requestsRoute(app: FastifyInstance, context: QueryContext): void {
  const options = documented('requests', 'The very requests, newest or slowest first', requestsQuery, requestsAnswer)
  app.get<{ Querystring: RequestsQuery }>('/api/v1/requests', options, (request, reply) =>
    answerWith(context, request, reply, async (question) => {
      const { query } = request
      const type = negotiate(request.headers.accept)
      const columns = parseColumns(query.columns)
      const page = await readPage(context, question, query, columns, (row) => rowText(type, columns, row))
      const envelope = envelopeOf(context, {
        interval: page.interval,
        stored: page.rows.length,
        precisionNs: page.precisionNs,
      })
      reply.type(`${type}; charset=utf-8`).header('vary', 'accept')
      if (type === ROW_TYPES[0]) {
        const head = {
          ...envelope,
          from: formatTime(page.interval.from),
          to: formatTime(page.interval.to),
          view: page.view,
          order: query.order ?? 'time',
        }
        // Every row is text already: a page is written out once.
        return `${JSON.stringify(head).slice(0, -1)},"rows":[${page.rows.join(',')}],"next_cursor":${JSON.stringify(page.next)}}`
      }
      reply.header(ENVELOPE_HEADER, JSON.stringify(envelope))
      if (page.next !== null) reply.header(CURSOR_HEADER, page.next)
      const header = type === 'text/csv' ? [columns.map((column) => csvField(column.name)).join(',')] : []
      const end = type === 'text/csv' ? '\r\n' : '\n'
      return [...header, ...page.rows].map((line) => line + end).join('')
    }),
  )
}

function parseColumns(text: string | undefined): readonly KnownColumn[] {
  const names = text === undefined ? COLUMN_NAMES : text.split(',').map((name) => name.trim())
  const columns = names.map((name) => requireColumn(name, 'columns'))
  const twice = columns.find((column, k) => columns.indexOf(column) !== k)
  if (twice !== undefined) {
    throw new Problem('bad_parameter', `columns names ${twice.name} twice`, { parameter: 'columns' })
  }
  return columns
}

interface Page {
  readonly interval: Interval
  readonly view: ResolvedView['view']
  readonly rows: readonly string[]
  readonly next: string | null
  readonly precisionNs: number | null
}

/** What a row is ordered by, besides its columns. */
interface StoredRow {
  readonly [column: string]: CellValue
  readonly _key: string
  readonly _end: string
  readonly _tie: string
  readonly _precision: number
}

/**
 * Two statements: one finds the key of the first row after the page, reading that column alone; the other reads the rows
 * down to it, and needs to sort no more than them.
 */
async function readPage(
  context: QueryContext,
  question: Question,
  query: RequestsQuery,
  columns: readonly KnownColumn[],
  write: (row: StoredRow) => string,
): Promise<Page> {
  const now = nowNanos(context)
  const filters = parseFilters(query.where ?? [])
  const order = query.order ?? 'time'
  const limit = query.limit ?? LIMIT
  const identity = [
    order,
    query.view ?? '',
    ...[query.from, query.to, query.around, query.width].map((text) => text ?? ''),
    ...(query.where ?? []),
  ]
  const cursor = query.cursor === undefined ? null : readCursor(query.cursor, identity)
  const interval = cursor?.interval ?? parseInterval(query, now)
  const horizon = await context.horizon.read(question)
  const named = filters.map((filter) => filter.column.name)
  const plan = withEverySource(planRows(interval, horizon, 'single requests are asked'), named)
  const name = effectiveView(query.view, filters, [])
  let censusPlan = withEverySource(planRollups(interval, null, horizon)!, named)
  let census = NO_CENSUS
  if (name === 'auto' || name === 'server') {
    census = await takeCensus(question, censusPlan, filters, now)
    if (census.overflow) {
      censusPlan = plan
      census = await takeCensus(question, plan, filters, now)
    }
  }
  const view = resolveView(name, census, censusPlan, filters, now)
  const selection = (bindings: Bindings) =>
    allOf([
      partSql(plan.parts[0]!, bindings),
      ...filters.map((filter) => filterSql(filter, bindings, now)),
      view.condition(bindings),
    ])
  const edge = await edgeOfPage(question, order, limit, cursor, selection)
  const bindings = new Bindings()
  const sql = pageSql({ order, limit, cursor, edge, columns, bindings, where: selection(bindings) })

  const rows: string[] = []
  let [skip, bytes, precision] = [cursor?.shown ?? 0, 0, -1]
  let [last, same, more]: [StoredRow | null, number, boolean] = [null, 0, false]
  reading: for await (const batch of question.stream<StoredRow>(bindings.statement(sql))) {
    for (const row of batch) {
      if (skip > 0 && cursor !== null && isAt(row, cursor)) {
        skip--
        continue
      }
      if (rows.length === limit || (rows.length > 0 && bytes > context.limits.pageBytesMax)) {
        more = true
        break reading
      }
      const text = write(row)
      rows.push(text)
      bytes += text.length
      precision = Math.max(precision, Number(row._precision))
      same = last !== null && isSame(row, last) ? same + 1 : cursor !== null && isAt(row, cursor) ? cursor.shown + 1 : 1
      last = row
    }
  }
  const next =
    more && last !== null
      ? writeCursor(
          { interval, key: BigInt(last._key), endTime: BigInt(last._end), tie: BigInt(last._tie), shown: same },
          identity,
        )
      : null
  return { interval, view: view.view, rows, next, precisionNs: precision < 0 ? null : precision }
}

function isAt(row: StoredRow, cursor: Cursor): boolean {
  return BigInt(row._key) === cursor.key && BigInt(row._end) === cursor.endTime && BigInt(row._tie) === cursor.tie
}

function isSame(a: StoredRow, b: StoredRow): boolean {
  return a._key === b._key && a._end === b._end && a._tie === b._tie
}

const END_NANOS = 'toUnixTimestamp64Nano(end_time)'
/** Tells rows of one end time apart; made from what differs between any two requests. */
const TIE =
  'cityHash64(segment, node_id, stream_uuid, stream_text, request_uuid, request_text, trace_uuid, span_number, received, path, downstream_remote_address, downstream_remote_port, upstream_remote_address, upstream_remote_port)'

/** The key of the first row after a full page; null when what is left is no more than a page. */
async function edgeOfPage(
  question: Question,
  order: 'time' | 'duration',
  limit: number,
  cursor: Cursor | null,
  selection: (bindings: Bindings) => string,
): Promise<bigint | null> {
  const bindings = new Bindings()
  const where = [selection(bindings)]
  if (cursor !== null) where.push(`${orderColumn(order)} < ${boundKey(order, cursor.key, bindings)}`)
  const key = order === 'time' ? END_NANOS : 'duration_ns'
  const sql = `SELECT toString(${key}) AS edge FROM requests WHERE ${allOf(where)} ORDER BY ${orderColumn(order)} DESC LIMIT 1 OFFSET ${limit}`
  const [row] = await question.run<{ edge: string }>(bindings.statement(sql), 1, 'too_many_points')
  return row === undefined ? null : BigInt(row.edge)
}

function pageSql(page: {
  readonly order: 'time' | 'duration'
  readonly limit: number
  readonly cursor: Cursor | null
  readonly edge: bigint | null
  readonly columns: readonly KnownColumn[]
  readonly bindings: Bindings
  readonly where: string
}): string {
  const { order, cursor, edge, bindings } = page
  const column = orderColumn(order)
  const where = [page.where]
  if (edge !== null) where.push(`${column} >= ${boundKey(order, edge, bindings)}`)
  if (cursor !== null) {
    const key = boundKey(order, cursor.key, bindings)
    const end = timeSql(cursor.endTime, bindings)
    const tie = bindings.bind(cursor.tie, 'UInt64')
    where.push(
      `${column} < ${key} OR (${column} = ${key} AND (end_time < ${end} OR (end_time = ${end} AND ${TIE} >= ${tie})))`,
    )
  }
  const selected = [
    ...page.columns.map(({ name }) => name),
    `toString(${order === 'time' ? END_NANOS : 'duration_ns'}) AS _key`,
    `toString(${END_NANOS}) AS _end`,
    `toString(${TIE}) AS _tie`,
    'precision_ns AS _precision',
  ]
  const orderBy = order === 'time' ? [] : ['duration_ns DESC']
  return `SELECT ${selected.join(', ')} FROM requests WHERE ${allOf(where)} ORDER BY ${[...orderBy, 'end_time DESC', TIE].join(', ')} LIMIT ${page.limit + (cursor?.shown ?? 0) + 1}`
}

function orderColumn(order: 'time' | 'duration'): string {
  return order === 'time' ? 'end_time' : 'duration_ns'
}

function boundKey(order: 'time' | 'duration', key: Nanos, bindings: Bindings): string {
  return order === 'time' ? timeSql(key, bindings) : bindings.bind(key, 'UInt64')
}
