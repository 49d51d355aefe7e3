import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { openSlos, type SloBookOptions } from '../../../src/query/slo/book.ts'
import { runSlo } from '../../../src/query/slo/command.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createAnswerChecker } from '../../support/openapi.ts'
import { createTestServer } from '../../support/query.ts'

const document = (name: string, { where = 'class!=server_error', targets = ['0.999'] } = {}) => `apiVersion: openslo/v1
kind: SLO
metadata: { name: ${name} }
spec:
  service: shop
  indicator:
    spec:
      ratioMetric:
        total: { metricSource: { type: sidecast, spec: {} } }
        good: { metricSource: { type: sidecast, spec: { where: ['${where}'] } } }
  timeWindow: [{ duration: 30d, isRolling: true }]
  objectives: [${targets.map((target) => `{ target: ${target} }`).join(', ')}]
`
const NOTHING = {
  query: async () => ({ rows: [], rowsRead: 0, bytesRead: 0, elapsedMs: 0 }),
  stream: () => [],
  ping: async () => true,
} as never

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-slo-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function rig(options: Partial<SloBookOptions> = {}) {
  const root = options.dir === undefined ? await folder() : ''
  const dir = options.dir ?? join(root, 'slos')
  const book = await openSlos({ files: [], dir, log: silentLog, ...options })
  const server = createTestServer(NOTHING, { slos: { slos: book.slos, documents: book } })
  onTestFinished(() => server.stop(AbortSignal.abort()))
  const send = async (method: 'PUT' | 'DELETE', name: string, payload?: string, headers: object = {}) => {
    const type = payload === undefined ? {} : { 'content-type': 'application/yaml' }
    const answer = await server.app.inject({
      method,
      url: `/api/v1/slos/${name}`,
      ...(payload === undefined ? {} : { payload }),
      headers: { host: 'localhost', ...type, ...headers },
    })
    return {
      status: answer.statusCode,
      body: answer.body === '' ? null : answer.json(),
      type: answer.headers['content-type'],
    }
  }
  const names = () => book.slos().map(({ name }) => name)
  return { dir, book, server, names, send, put: (name: string, text: string) => send('PUT', name, text) }
}

describe('objectives over HTTP', () => {
  it('are on disk as they were sent before the answer, replaced, and deleted', async () => {
    const { dir, names, put, send } = await rig()
    const text = `# why\n${document('cart', { targets: ['0.99', '0.999'] })}`
    expect(await put('cart', text)).toMatchObject({
      status: 201,
      body: { name: 'cart', created: true, objectives: ['cart-1', 'cart-2'], warnings: [], as_of: expect.any(String) },
    })
    expect(await readFile(join(dir, 'cart.yaml'), 'utf8')).toBe(text)
    expect(await put('cart', document('cart', { targets: ['0.9'] }))).toMatchObject({
      status: 200,
      body: { created: false, objectives: ['cart'], warnings: [{ line: 12, field: 'spec.objectives[0]' }] },
    })
    expect(names()).toEqual(['cart'])
    expect(await send('DELETE', 'cart')).toMatchObject({ status: 204, body: null })
    expect(names()).toEqual([])
    expect(await readdir(dir)).toEqual([])
    expect(await send('DELETE', 'cart')).toMatchObject({ status: 404, body: { code: 'not_found' } })
  })

  it('come as JSON as well, and are listed with where they are from', async () => {
    const root = await folder()
    await writeFile(join(root, 'a.yaml'), document('a'))
    const { server, send } = await rig({ files: [join(root, 'a.yaml')] })
    const json = JSON.stringify({
      apiVersion: 'openslo/v1',
      kind: 'SLO',
      metadata: { name: 'b' },
      spec: {
        indicator: { spec: { thresholdMetric: { metricSource: { type: 'sidecast', spec: {} } } } },
        timeWindow: [{ duration: '1d', isRolling: true }],
        objectives: [{ op: 'lte', value: 180, target: 0.99 }],
      },
    })
    expect(await send('PUT', 'b', json, { 'content-type': 'application/json' })).toMatchObject({ status: 201 })
    const check = await createAnswerChecker(server.app)
    const { slos } = await check.get<{ slos: object[] }>('/api/v1/slos')
    expect(slos).toMatchObject([
      { name: 'a', document: 'a', origin: 'file', place: expect.stringMatching(/a\.yaml:3$/) },
      { name: 'b', document: 'b', origin: 'api', place: expect.stringMatching(/b\.yaml:1$/) },
    ])
  })

  it('outlive the process and a reload, and those of files with them', async () => {
    const root = await folder()
    const file = join(root, 'a.yaml')
    await writeFile(file, document('a'))
    const { dir, book, names, put } = await rig({ files: [file] })
    await put('b', document('b'))
    const takeOver = await book.prepare([file])
    // Between making ready and taking over.
    await put('c', document('c'))
    takeOver()
    expect(names()).toEqual(['a', 'b', 'c'])
    await writeFile(join(dir, 'half.yaml.new'), 'apiVer')
    const again = await openSlos({ files: [file], dir, log: silentLog })
    expect(again.slos().map(({ name }) => name)).toEqual(['a', 'b', 'c'])
    expect((await readdir(dir)).sort()).toEqual(['b.yaml', 'c.yaml'])
  })

  it('of a file are changed in the file', async () => {
    const root = await folder()
    const file = join(root, 'a.yaml')
    await writeFile(file, document('a', { targets: ['0.99', '0.999'] }))
    const { send, put, names } = await rig({ files: [file] })
    for (const [method, name] of [
      ['PUT', 'a'],
      ['DELETE', 'a'],
      ['PUT', 'a-1'],
      ['DELETE', 'a-2'],
    ] as const) {
      const answer = await send(method, name, method === 'PUT' ? document(name) : undefined)
      expect(answer, `${method} ${name}`).toMatchObject({
        status: 409,
        type: 'application/problem+json; charset=utf-8',
        body: { code: 'objective_of_file', file: `${file}:3` },
      })
    }
    expect(await put('a-1x', document('a-1x'))).toMatchObject({ status: 201 })
    expect(names()).toEqual(['a-1', 'a-2', 'a-1x'])
  })

  it('a file that takes the name of one is refused by a reload, with both places', async () => {
    const root = await folder()
    const { book, put, names } = await rig()
    await put('b', document('b'))
    const file = join(root, 'b.yaml')
    await writeFile(file, document('b'))
    await expect(book.prepare([file])).rejects.toMatchObject({
      code: 'SC1208',
      message: expect.stringContaining(`there is another objective b, ${file}:3`),
    })
    expect(names()).toEqual(['b'])
  })

  const wrong: [string, string, object][] = [
    ['no YAML', 'kind: [', { line: 1 }],
    [
      'a key that is unknown',
      document('x').replace('service:', 'servise:'),
      { line: 5, column: 3, field: 'spec.servise' },
    ],
    ['a condition that cannot be read', document('x', { where: 'clas=1' }), { line: 7, field: 'spec.indicator.spec' }],
    ['another name', document('y'), { line: 3, field: 'metadata.name' }],
    ['several documents', `${document('x')}---\n${document('y')}`, { field: '' }],
    ['nothing', '', { line: 1 }],
    ['an SLI', 'apiVersion: openslo/v1\nkind: SLI\nmetadata: { name: x }\nspec: {}\n', { field: 'kind' }],
    [
      'an SLI that is nowhere',
      document('x').replace(/indicator:[\s\S]*(?=\n {2}timeWindow)/, 'indicatorRef: y'),
      { line: 6, field: 'spec.indicatorRef' },
    ],
    ['a billion laughs', laughs(), { line: 1 }],
    ['an alias of nothing', 'kind: *a', { line: 1 }],
    ['a list without end', 'apiVersion: &a [*a]', { line: 1, field: 'apiVersion' }],
    ['brackets without end', '['.repeat(50_000), { line: 1, column: 101 }],
    ['keys without end', Array.from({ length: 300 }, (_, k) => `${' '.repeat(k)}a:`).join('\n'), {}],
    [
      'keys in place of a text',
      document('x').replace('kind: SLO', 'kind: { toString: 1 }'),
      { line: 2, field: 'kind' },
    ],
  ]
  it('are refused when the body is wrong, with line and field', async () => {
    const { put, names } = await rig()
    for (const [what, text, figures] of wrong) {
      const { status, body, type } = await put('x', text)
      expect({ status, ...body }, what).toMatchObject({ status: 400, code: 'bad_objective', ...figures })
      expect(type).toBe('application/problem+json; charset=utf-8')
      expect(JSON.stringify(body).length, what).toBeLessThan(20_000)
    }
    expect(names()).toEqual([])
  })

  it('are bounded: bytes, number, names and types', async () => {
    const { put, send, names } = await rig({ storedMax: 2 })
    expect(await put('x', `${document('x')}#${'x'.repeat(64 * 1024)}`)).toMatchObject({ status: 413 })
    expect(await send('PUT', 'x', document('x'), { 'content-type': 'text/html' })).toMatchObject({ status: 415 })
    expect(await send('PUT', 'x')).toMatchObject({ status: 400 })
    for (const name of ['X', '..%2fx', 'a.b', 'a'.repeat(64), '-a']) {
      expect(await put(name, document('x')), name).toMatchObject({ status: 400, body: { code: 'bad_parameter' } })
    }
    await put('a', document('a'))
    await put('b', document('b'))
    expect(await put('c', document('c'))).toMatchObject({ status: 422, body: { code: 'too_many_objectives' } })
    expect(await put('a', document('a', { targets: ['0.5'] }))).toMatchObject({ status: 200 })
    expect(names()).toEqual(['a', 'b'])
  })

  it('are not written by pages of other sites', async () => {
    const { send, names } = await rig()
    for (const headers of [
      { origin: 'http://evil.example' },
      { host: 'evil.example' },
      { 'sec-fetch-site': 'cross-site' },
    ]) {
      expect(await send('PUT', 'x', document('x'), headers)).toMatchObject({
        status: 403,
        body: { code: 'forbidden_origin' },
      })
    }
    expect(names()).toEqual([])
  })

  it('change nothing when the disk does not take them', async () => {
    const { dir, put, send, names } = await rig()
    await put('a', document('a'))
    await rm(dir, { recursive: true })
    await writeFile(dir, 'not a folder')
    expect(await put('b', document('b'))).toMatchObject({ status: 503, body: { code: 'not_written' } })
    expect(await send('DELETE', 'a')).toMatchObject({ status: 503, body: { code: 'not_written' } })
    expect(names()).toEqual(['a'])
  })

  it('take turns', async () => {
    const { dir, book, names } = await rig()
    const all = Array.from({ length: 8 }, (_, k) => `o${k}`)
    await Promise.all([
      ...all.map((name) => book.put(name, document(name))),
      ...all.slice(0, 4).map((name) => book.remove(name)),
    ])
    expect(names().sort()).toEqual(all.slice(4).sort())
    expect((await readdir(dir)).length).toBe(4)
  })

  it('are those that the command looks at when no file is named', async () => {
    const { dir, put } = await rig()
    await put('a', document('a'))
    let out = ''
    const world = { stdout: (text: string) => (out += text), stderr: (text: string) => (out += text) }
    expect(await runSlo(['check'], { ...world, configured: () => ({ files: [], dir }) })).toBe(0)
    expect(out).toContain('1 objective: ok')
    await chmod(join(dir, 'a.yaml'), 0o600)
    await writeFile(join(dir, 'a.yaml'), 'kind: SLO')
    await expect(runSlo(['rules'], { ...world, configured: () => ({ files: [], dir }) })).rejects.toMatchObject({
      code: 'SC1208',
    })
  })
})

function laughs(): string {
  const lines = ['a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]']
  for (let k = 1; k < 12; k++)
    lines.push(
      `a${k}: &a${k} [${Array(8)
        .fill(`*a${k - 1}`)
        .join(', ')}]`,
    )
  return lines.join('\n')
}
