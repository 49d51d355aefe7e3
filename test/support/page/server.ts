import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createWeb } from '../../../src/web/serve.ts'
import { type Answer, createFixtureApi, type FixtureOptions, type Made, UnknownColumn } from './api.ts'

/** The page and the fixture API on one port, with the page's own headers. */
export interface PageServer {
  readonly url: string
  readonly rows: () => readonly Made[]
  /** Calls of the API, in order, as paths. */
  readonly calls: string[]
  /** Changes what the API answers from now on. */
  set(options: FixtureOptions): void
  /** Answers every call with this status instead; null for the usual answers. */
  fail(status: number | null): void
  stop(): void
}

export async function startPageServer(options: FixtureOptions): Promise<PageServer> {
  const web = createWeb()
  const calls: string[] = []
  let fixture: { answer: Answer; rows: readonly Made[] } = createFixtureApi(options)
  let failing: number | null = null
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://page.test')
    const json = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' })
      response.end(JSON.stringify(body))
    }
    if (url.pathname.startsWith('/api/v1/')) {
      calls.push(`${url.pathname}${url.search}`)
      const problem = (status: number, code: string, title: string, detail: string, parameter?: string) =>
        json(status, { type: `urn:sidecast:problem:${code}`, status, code, title, detail, parameter })
      if (failing !== null) {
        problem(failing, 'store_unavailable', 'The store does not answer', 'It is restarting.')
        return
      }
      try {
        json(200, fixture.answer(url.pathname.slice('/api/v1/'.length), url.searchParams))
      } catch (error) {
        if (!(error instanceof UnknownColumn)) throw error
        problem(400, 'unknown_column', 'There is no such column', `there is no column ${error.message}`, 'where')
      }
      return
    }
    const file = await web(url.pathname)
    if (file === null) json(404, { title: 'not found', status: 404 })
    else {
      response.writeHead(200, {
        ...file.headers,
        'content-type': file.type,
        etag: file.etag,
        'content-encoding': 'gzip',
      })
      response.end(file.gzip)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    rows: () => fixture.rows,
    calls,
    set(next) {
      fixture = createFixtureApi(next)
    },
    fail(status) {
      failing = status
    },
    stop() {
      server.close()
      server.closeAllConnections()
    },
  }
}
