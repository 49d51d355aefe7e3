import { readdir } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { createWeb, toJavaScript, WEB_HEADERS } from '../../src/web/serve.ts'

/** Everything a browser loads, from the page on: what its files name, and what those name. */
async function closure(): Promise<Map<string, { body: string; gzipBytes: number; type: string }>> {
  const web = createWeb()
  const found = new Map<string, { body: string; gzipBytes: number; type: string }>()
  const visit = async (path: string): Promise<void> => {
    if (found.has(path)) return
    const file = await web(path)
    expect(file, path).not.toBeNull()
    const body = file!.body.toString('utf8')
    found.set(path, { body, gzipBytes: file!.gzip.length, type: file!.type })
    const names = path === '/' ? body.matchAll(/(?:src|href)="(\/[^"]+)"/g) : body.matchAll(/^.*\bfrom '([^']+)'$/gm)
    for (const [, name = ''] of names) await visit(new URL(name, `http://x${path}`).pathname)
  }
  await visit('/')
  return found
}

test('every file the page loads is served, without types, and all together are small', async () => {
  const files = await closure()
  expect([...files.keys()]).toEqual(
    expect.arrayContaining(['/', '/page/main.js', '/page/page.css', '/vendor/uplot.js']),
  )
  for (const [path, { body, type }] of files) {
    if (!path.endsWith('.js')) continue
    expect(type).toBe('text/javascript; charset=utf-8')
    expect(body, path).not.toMatch(/\.ts'/)
    expect(body, path).not.toMatch(/^interface |^export (interface|type) /m)
  }
  // The budget of a view over the wire.
  const total = [...files.values()].reduce((sum, file) => sum + file.gzipBytes, 0)
  expect(total).toBeLessThan(120_000)
})

test('no module of the page is left unused', async () => {
  const modules = await readdir(new URL('../../src/web/page', import.meta.url))
  const served = new Set((await closure()).keys())
  for (const name of modules.filter((each) => each.endsWith('.ts'))) {
    expect(served, name).toContain(`/page/${name.replace('.ts', '.js')}`)
  }
})

test.each([
  '/page/../serve.ts',
  '/page/%2e%2e/serve.ts',
  '/page/main.ts',
  '/page/tsconfig.json',
  '/page/index.html',
  '/etc/passwd',
  '',
  '/page/',
  '/page/constructor',
])('%j is not a file of the page', async (path) => {
  expect(await createWeb()(path)).toBeNull()
})

test('a file keeps its validator while it does not change', async () => {
  const [a, b] = [await createWeb()('/page/main.js'), await createWeb()('/page/main.js')]
  expect(a?.etag).toMatch(/^"[\w-]+"$/)
  expect(a?.etag).toBe(b?.etag)
  expect(a?.etag).not.toBe((await createWeb()('/page/state.js'))?.etag)
})

test('the policy allows nothing inline and no other host', () => {
  const policy = WEB_HEADERS['content-security-policy']!
  expect(policy).toContain("default-src 'none'")
  expect(policy).not.toMatch(/unsafe|https?:|\*|data:/)
})

test('the page holds no inline script, style or handler', async () => {
  const html = (await createWeb()('/'))!.body.toString('utf8')
  expect(html).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/)
})

test('imports over several lines, and types of imports, are rewritten too', () => {
  const source =
    "import {\n  a,\n  type B,\n} from './b.ts'\nimport type { C } from './c.ts'\nexport { d } from './d.ts'\nconst x: B = a\n"
  const out = toJavaScript(source)
  expect(out).toContain("} from './b.js'")
  expect(out).toContain("export { d } from './d.js'")
  expect(out).not.toContain('c.ts')
})
