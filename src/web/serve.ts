import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { createRequire, stripTypeScriptTypes } from 'node:module'
import { dirname, extname, join } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'

/**
 * The files of the page. There is no build step: in a checkout the modules are TypeScript and their types are stripped
 * when a file is first asked for; the published package has them as JavaScript already. Either way a browser sees
 * `/page/<name>.js`. Everything comes from this host: the page works offline.
 *
 *   /                     page/index.html
 *   /page/<name>.js       page/<name>.ts without its types, or page/<name>.js
 *   /page/<name>          stylesheet, icon
 *   /vendor/uplot.js      uPlot, and /vendor/uplot.css its stylesheet
 */
export interface WebFile {
  readonly type: string
  readonly body: Buffer
  /** The same, compressed, for clients that accept gzip. */
  readonly gzip: Buffer
  /** Strong validator, in quotes. Files are small: clients ask again every time, and get 304. */
  readonly etag: string
  readonly headers: Readonly<Record<string, string>>
}

export type Web = (path: string) => Promise<WebFile | null>

/** Headers of every file of the page. Scripts and styles only from here, no inline ones, no frames, no forms elsewhere. */
export const WEB_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-cache',
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** Answers by path; null for what is not a file of the page. Nothing outside the list above can be asked for. */
export function createWeb(): Web {
  const directory = join(import.meta.dirname, 'page')
  const files = new Map<string, Promise<WebFile>>()
  let routes: Promise<ReadonlyMap<string, string>> | undefined

  return async (path) => {
    routes ??= listRoutes(directory)
    const source = (await routes).get(path)
    if (source === undefined) return null
    let file = files.get(path)
    if (file === undefined) {
      file = load(path, source)
      files.set(path, file)
      file.catch(() => files.delete(path))
    }
    return file
  }
}

/** URL path → file. */
async function listRoutes(directory: string): Promise<ReadonlyMap<string, string>> {
  const uplot = dirname(createRequire(import.meta.url).resolve('uplot'))
  const routes = new Map([
    ['/', join(directory, 'index.html')],
    ['/vendor/uplot.js', join(uplot, 'uPlot.esm.js')],
    ['/vendor/uplot.css', join(uplot, 'uPlot.min.css')],
  ])
  for (const name of await readdir(directory)) {
    const extension = extname(name)
    if (extension === '.ts' && !name.endsWith('.d.ts')) {
      routes.set(`/page/${name.slice(0, -3)}.js`, join(directory, name))
    } else if (extension in TYPES && extension !== '.html') routes.set(`/page/${name}`, join(directory, name))
  }
  return routes
}

async function load(path: string, source: string): Promise<WebFile> {
  const bytes = await readFile(source)
  const body = source.endsWith('.ts') ? Buffer.from(toJavaScript(bytes.toString('utf8'))) : bytes
  const type = TYPES[path === '/' ? '.html' : extname(path)] ?? 'application/octet-stream'
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
  return { type, body, gzip: await promisify(gzip)(body), etag, headers: WEB_HEADERS }
}

/** Strips types, and names imported modules as the browser sees them. */
export function toJavaScript(typescript: string): string {
  return withoutWarning(() => stripTypeScriptTypes(typescript)).replace(
    /^(?:import|export|\}) .*from '(\.\/[\w-]+)\.ts'$/gm,
    (line, name) => line.replace(`${name}.ts`, `${name}.js`),
  )
}

/** Node calls the function experimental; whoever opens the page has no use for that line. */
function withoutWarning<T>(run: () => T): T {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return run()
  } finally {
    process.emitWarning = emitWarning
  }
}
