import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { startChromium } from './chromium.ts'
import { startPageServer } from './page/server.ts'

/**
 * Pictures of the page: `node test/support/screenshot.ts [--url URL] [--out docs/images] [--hash '#/…']`.
 * Without a URL it shows made requests; with one, a running Sidecast, for example `npm run demo`.
 */
const { values } = parseArgs({
  options: { url: { type: 'string' }, out: { type: 'string', default: 'docs/images' }, hash: { type: 'string' } },
})
const server = values.url === undefined ? await startPageServer({ nowMs: Date.now(), visits: 36_000 }) : undefined
const browser = await startChromium()
try {
  for (const [colorScheme, name] of [
    ['light', 'page'],
    ['dark', 'page-dark'],
  ] as const) {
    const page = await browser.newPage({ colorScheme, viewport: { width: 1400, height: 1080 }, deviceScaleFactor: 1.5 })
    await page.goto(`${values.url ?? server?.url}${values.hash ?? ''}`)
    await page.locator('[aria-label="Requests"] tbody tr').first().waitFor({ timeout: 60_000 })
    await page.evaluate('document.fonts.ready')
    const path = `${values.out}/${name}.png`
    await mkdir(dirname(path), { recursive: true })
    await page.screenshot({ path })
    process.stderr.write(`${path}\n`)
    await page.close()
  }
} finally {
  await browser.close()
  server?.stop()
}
