import { createHash, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Answer, Engine, EngineStatement } from './engine.ts'
import { asEngineError, engineError } from './engine-error.ts'
import { bodyOf, readForm, readText } from './http-body.ts'
import { encodingFor } from './http-formats.ts'
import { type Delivery, sendAnswer, sendError, sendFile } from './http-result.ts'
import type { StoreLimits } from './limits.ts'
import { killByOurIds, processesByOurIds } from './query-ids.ts'
import { type Setting, settingsOf, type User } from './settings.ts'
import { fromFile, intoFile, type Spool } from './spool.ts'
import { type InsertData, type StatementShape, shapeOf } from './statement.ts'

/**
 * The part of ClickHouse's HTTP interface that its clients use, in front of the embedded engine, so that a query knows
 * no difference (https://clickhouse.com/docs/interfaces/http): the statement in the URL or the body, data in the body,
 * bound parameters, settings by URL, compression both ways, exceptions as text with their code.
 *
 * Not there: `session_id` (every statement is on its own), external tables, progress headers. Roles are ignored.
 */
export interface HttpFaceOptions {
  readonly engine: Engine
  readonly spool: Spool
  readonly limits: StoreLimits
  readonly version: string
  readonly passwords: Readonly<Record<User, string>>
}

/** As ClickHouse's `http_max_uri_size`. */
const URL_BYTES_MAX = 1024 * 1024

export function createHttpFace(options: HttpFaceOptions): Server {
  return createServer({ maxHeaderSize: URL_BYTES_MAX, keepAliveTimeout: 10_000 }, (request, response) => {
    answer(options, request, response).catch((error: unknown) => {
      sendError({ response, version: options.version }, asEngineError(error))
    })
  })
}

/** One request, from its head to the end of its answer. */
interface Call {
  readonly options: HttpFaceOptions
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly parameters: readonly (readonly [string, string])[]
  readonly user: User
  readonly id: string
  /** Aborts when the client leaves before it has its answer. */
  readonly left: AbortSignal
}

async function answer(options: HttpFaceOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://store')
  const id = url.searchParams.get('query_id') || randomUUID()
  response.setHeader('X-ClickHouse-Timezone', 'UTC')
  response.setHeader('X-ClickHouse-Query-Id', encodeURI(id).slice(0, 256))
  if (url.pathname === '/ping') return plain(response, 200, 'Ok.\n')
  if (url.pathname !== '/') return plain(response, 404, `There is no handle ${url.pathname}\n`)
  if (request.method !== 'GET' && request.method !== 'POST') return plain(response, 405, 'Use GET or POST\n')
  const user = authenticate(options.passwords, request, url.searchParams)
  const left = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) left.abort()
  })
  const type = request.headers['content-type'] ?? ''
  const form = type.startsWith('multipart/form-data') ? await readForm(request, type) : []
  const parameters = [...url.searchParams, ...form]
  const effective = asAsked(user, request, parameters)
  await run({ options, request, response, parameters, user: effective, id, left: left.signal })
}

/** A writer has less by GET, as on a server, or when it asks for it: `readonly` in the URL. */
function asAsked(user: User, request: IncomingMessage, parameters: readonly (readonly [string, string])[]): User {
  const readonly = parameters.find(([name]) => name === 'readonly')?.[1] ?? '0'
  return readonly === '0' && request.method !== 'GET' ? user : 'reader'
}

/** Where the statement and where its data are decides the way. */
async function run(call: Call): Promise<void> {
  const head = parameter(call, 'query') ?? ''
  const headShape = shapeOf(head)
  if (headShape.data !== undefined) {
    check(call, headShape)
    return insert(call, head, headShape.data, undefined)
  }
  const body = call.request.complete ? Buffer.alloc(0) : await readText(call.request)
  if (head === '') {
    // Looked at byte by byte, since the data may be of any encoding.
    const shape = shapeOf(body.toString('latin1'))
    if (shape.data !== undefined) {
      check(call, shape)
      const { start } = shape.data
      const text = body.subarray(0, start).toString('utf8')
      return insert(call, text, shapeOf(text).data ?? shape.data, body.subarray(start))
    }
  }
  const text = body.toString('utf8')
  const sql = head === '' || text === '' ? head + text : `${head}\n${text}`
  const shape = shapeOf(sql)
  check(call, shape)
  if (RESULT_VERBS.has(shape.verb)) return select(call, sql, shape)
  const statement = sql.slice(0, shape.end)
  if (shape.verb === 'INSERT') {
    return sendAnswer(delivery(call, 'Null'), await execute(call, { sql: statement, kind: 'insert', lane: 'insert' }))
  }
  const format = shape.format?.name ?? defaultFormat(call)
  if (shape.verb === 'KILL') {
    const known = killByOurIds(statement, call.user)
    if (known === undefined) throw engineError('READONLY', 'Cannot kill other than by query_id in readonly mode')
    return sendAnswer(
      delivery(call, format),
      await execute(call, { sql: known, kind: 'result', lane: 'urgent', format }),
    )
  }
  const lane = call.user === 'reader' ? 'read' : 'admin'
  sendAnswer(delivery(call, format), await execute(call, { sql: statement, kind: 'result', lane, format }))
}

/** Statements with rows to answer; their result goes through a file. */
const RESULT_VERBS = new Set(['SELECT', 'WITH', '(', 'FROM'])
/** What a reader may do besides. The engine's own `readonly` would let any KILL pass: see `killByOurIds`. */
const READER_VERBS = new Set([...RESULT_VERBS, 'SHOW', 'DESCRIBE', 'DESC', 'EXPLAIN', 'EXISTS', 'KILL'])
/** Pings, as clients send them. */
const PING = /^\s*SELECT\s+(?:1|'ping')\s*$/i

function check({ user }: Call, shape: StatementShape): void {
  if (shape.verb === '') throw engineError('SYNTAX_ERROR', 'Syntax error: Empty query')
  if (shape.odd !== undefined) {
    throw engineError('SYNTAX_ERROR', `Syntax error: ${shape.odd} outside of quotes is not supported by this store`)
  }
  if (shape.multiple) throw engineError('SYNTAX_ERROR', 'Syntax error (Multi-statements are not allowed)')
  if (shape.files) throw engineError('NOT_IMPLEMENTED', 'INTO OUTFILE and FROM INFILE are not supported over HTTP')
  if (shape.input) throw engineError('NOT_IMPLEMENTED', 'The table function input() is not supported by this store')
  if (!READER_VERBS.has(shape.verb) && user === 'reader') {
    throw engineError('READONLY', 'Cannot execute query in readonly mode')
  }
}

async function select(call: Call, sql: string, shape: StatementShape): Promise<void> {
  const { spool } = call.options
  const path = spool.newPath()
  try {
    const known = processesByOurIds(sql.slice(0, shape.end))
    const woven = intoFile(known, known.length === shape.end ? shape : shapeOf(known), path, defaultFormat(call))
    const isUrgent = known.length !== shape.end || PING.test(known)
    const lane = isUrgent ? 'urgent' : call.user === 'reader' ? 'read' : 'admin'
    const statement = execute(call, { sql: woven.sql, kind: 'result', lane })
    const waitForEnd = parameter(call, 'wait_end_of_query') === '1'
    await sendFile({ ...delivery(call, woven.format), path, waitForEnd }, statement)
  } finally {
    await spool.remove(path)
  }
}

async function insert(call: Call, sql: string, data: InsertData, inline: Buffer | undefined): Promise<void> {
  const { spool, limits } = call.options
  const path = spool.newPath()
  try {
    await spool.write(path, inline === undefined ? bodyOf(call.request, limits.bodyBytesMax) : [inline])
    const answer = await execute(call, { sql: fromFile(sql, data, path), kind: 'insert', lane: 'insert' })
    sendAnswer(delivery(call, 'Null'), answer)
  } finally {
    await spool.remove(path)
  }
}

function execute(
  call: Call,
  statement: Pick<EngineStatement, 'sql' | 'kind' | 'lane'> & { format?: string },
): Promise<Answer> {
  const { options, user, id, left } = call
  const { settings, bound, timeMsMax } = settingsOf(call.parameters, user, options.limits)
  const database = parameter(call, 'database') ?? headerOf(call.request, 'x-clickhouse-database')
  const all: Setting[] = [...settings, ...bound]
  return options.engine.execute({ format: 'Null', ...statement, id, user, database, settings: all, timeMsMax }, left)
}

function delivery({ options, request, response, parameters }: Call, format: string): Delivery {
  const asked = parameters.some(([name, value]) => name === 'enable_http_compression' && value === '1')
  const encoding = encodingFor(headerOf(request, 'accept-encoding'), asked)
  return { response, format, encoding, version: options.version }
}

function defaultFormat(call: Call): string {
  const format = parameter(call, 'default_format') ?? headerOf(call.request, 'x-clickhouse-format') ?? 'TabSeparated'
  if (!/^\w{1,64}$/.test(format)) throw engineError('BAD_ARGUMENTS', `${format} is not the name of a format`)
  return format
}

/** Basic, the `X-ClickHouse-User` and `-Key` headers, or `user` and `password` in the URL. */
function authenticate(
  passwords: Readonly<Record<User, string>>,
  request: IncomingMessage,
  parameters: URLSearchParams,
): User {
  const [name, password] = credentials(request, parameters)
  if ((name === 'reader' || name === 'writer') && same(password, passwords[name])) return name
  throw engineError('AUTHENTICATION_FAILED', 'Authentication failed: password is incorrect, or there is no such user')
}

function credentials(request: IncomingMessage, parameters: URLSearchParams): readonly [string, string] {
  const basic = /^Basic +(\S+)$/i.exec(headerOf(request, 'authorization') ?? '')?.[1]
  if (basic !== undefined) {
    const pair = Buffer.from(basic, 'base64').toString('utf8')
    const colon = pair.indexOf(':')
    return colon < 0 ? [pair, ''] : [pair.slice(0, colon), pair.slice(colon + 1)]
  }
  return [
    headerOf(request, 'x-clickhouse-user') ?? parameters.get('user') ?? '',
    headerOf(request, 'x-clickhouse-key') ?? parameters.get('password') ?? '',
  ]
}

/** Digests, so that neither length nor content shows in the time it takes. */
function same(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

function parameter({ parameters }: Call, name: string): string | undefined {
  return parameters.find(([key]) => key === name)?.[1]
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name]
  return Array.isArray(value) ? value[0] : value
}

function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=UTF-8' }).end(text)
}
