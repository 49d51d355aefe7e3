import { mkdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startApp } from '../../src/app.ts'
import { requireConfig } from '../../src/config.ts'
import { runDemo } from '../../src/demo/demo.ts'
import { createLog, silentLog } from '../../src/telemetry/log.ts'
import { startChromium } from './chromium.ts'
import { startPageServer } from './page/server.ts'

/**
 * Pictures of the page for the documentation, light and dark, of `--made` requests, of a running Sidecast (`--url`), or
 * of the demo, which it then runs for `--seconds` first:
 *
 *   node test/support/screenshot.ts [--made | --url URL | --seconds 330] [--hash '#/?from=-5m'] [--out docs/images]
 */
const { values } = parseArgs({
  options: {
    made: { type: 'boolean' },
    url: { type: 'string' },
    seconds: { type: 'string', default: '330' },
    hash: { type: 'string' },
    out: { type: 'string', default: 'docs/images' },
  },
})

if (values.url !== undefined) await takePictures(values.url, values.hash ?? '')
else if (values.made) await ofMadeRequests()
else await ofTheDemo(Number(values.seconds))

async function ofMadeRequests(): Promise<void> {
  const server = await startPageServer({ nowMs: Date.now(), visits: 36_000 })
  await takePictures(server.url, values.hash ?? '').finally(() => server.stop())
}

async function ofTheDemo(seconds: number): Promise<void> {
  const stop = new AbortController()
  const url = Promise.withResolvers<string>()
  const demo = runDemo({
    start: async (overrides) => {
      const { config } = requireConfig({ set: overrides, env: {} })
      const app = await startApp({ config, log: silentLog })
      url.resolve(`http://${app.addresses.http}/`)
      return app
    },
    dataGiven: undefined,
    seconds: Number.POSITIVE_INFINITY,
    signal: stop.signal,
    print: (line) => process.stderr.write(`${line}\n`),
    env: process.env,
    log: createLog(),
    seed: 1,
  })
  demo.catch(url.reject)
  try {
    const page = await url.promise
    await sleep(seconds * 1000)
    await takePictures(page, values.hash ?? '#/?from=-5m')
  } finally {
    stop.abort()
    await demo
  }
}

async function takePictures(url: string, hash: string): Promise<void> {
  await mkdir(values.out, { recursive: true })
  const browser = await startChromium()
  try {
    for (const [colorScheme, name] of [
      ['light', 'page'],
      ['dark', 'page-dark'],
    ] as const) {
      const page = await browser.newPage({ colorScheme, viewport: { width: 1400, height: 1120 } })
      await page.goto(`${url}${hash}`)
      await page.locator('[aria-label="Requests"] tbody tr').first().waitFor({ timeout: 60_000 })
      const path = `${values.out}/${name}.png`
      await page.screenshot({ path })
      process.stderr.write(`${path}\n`)
      await page.close()
    }
  } finally {
    await browser.close()
  }
}
