import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { readBlock } from '../../src/model/native-read.ts'
import type { SegmentTable } from '../../src/pipeline/segment.ts'
import type { Behaviour, ContractTarget } from './sink-contract.ts'

/**
 * The part of ClickHouse's HTTP interface that copies need: it counts the rows of Native blocks, once for each token, and
 * knows no tables.
 */
export interface FakeClickHouse extends ContractTarget {
  readonly url: string
  /** Statements of inserts, in order. */
  readonly inserts: readonly string[]
  /** Tokens of what was taken, in the order in which each came first. */
  tokens(): readonly string[]
}

/** `table`: whose blocks are sent. */
export async function startFakeClickHouse(table: SegmentTable['table'] = 'requests'): Promise<FakeClickHouse> {
  let how: Behaviour = 'accept'
  const rows = new Map<string, number>()
  const inserts: string[] = []
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://x')
    const raw = await buffer(request)
    const body = request.headers['content-encoding'] === 'zstd' ? await promisify(zstdDecompress)(raw) : raw
    const statement = url.searchParams.get('query') ?? body.toString()
    if (!statement.startsWith('INSERT')) return answer(response, statement)
    if (how === 'hang') return
    if (how === 'retry') return refuse(response, 241, 'MEMORY_LIMIT_EXCEEDED')
    if (how === 'reject') return refuse(response, 33, 'CANNOT_READ_ALL_DATA')
    if (how === 'slow') await new Promise((resolve) => setTimeout(resolve, 200))
    inserts.push(statement)
    rows.set(url.searchParams.get('insert_deduplication_token') ?? '', countRows(table, body))
    response.end()
  })
  let port = await listen(server, 0)
  return {
    url: `http://127.0.0.1:${port}`,
    inserts,
    async behave(next) {
      if (how === 'away' && next !== 'away') port = await listen(server, port)
      if (next === 'away' && how !== 'away') await close(server)
      how = next
    },
    tokens: () => [...rows.keys()],
    taken: () => [...rows.values()].reduce((sum, n) => sum + n, 0),
    close: () => close(server),
  }
}

function answer(response: ServerResponse, statement: string): void {
  const n = statement.includes('count()') ? [{ n: 0 }] : []
  response.setHeader('content-type', 'application/json')
  response.end(/FORMAT JSON\s*$/.test(statement) ? JSON.stringify({ meta: [], data: n, rows: n.length }) : '')
}

function refuse(response: ServerResponse, code: number, name: string): void {
  response.statusCode = 500
  response.setHeader('X-ClickHouse-Exception-Code', String(code))
  response.end(`Code: ${code}. DB::Exception: as told. (${name}) (version 26.7.2.1)`)
}

function countRows(table: SegmentTable['table'], body: Uint8Array): number {
  let rows = 0
  for (let at = 0; at < body.length; ) {
    const { block, end } = readBlock(table, body, at)
    rows += block.rows
    at = end
  }
  return rows
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}
