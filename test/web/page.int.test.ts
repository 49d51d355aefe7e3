import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { duration, percent } from '../../src/web/page/format.ts'
import { startChromium, type Watched, watch } from '../support/chromium.ts'
import { type PageServer, startPageServer } from '../support/page/server.ts'

/** The page in a real browser, against made requests. Against the real API it is tested in test/e2e. */
const NOW = Date.now()
let browser: Browser
beforeAll(async () => {
  browser = await startChromium()
})
afterAll(() => browser.close())

async function open(
  options: { visits?: number; copies?: number; hash?: string; context?: BrowserContextOptions } = {},
): Promise<{ page: Page; server: PageServer; watched: Watched }> {
  const { visits = 3_000, copies = 1 } = options
  const server = await startPageServer({ nowMs: NOW, visits, copies })
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 }, ...options.context })
  onTestFinished(async () => {
    await page.close()
    server.stop()
  })
  const watched = await watch(page)
  await page.goto(`${server.url}${options.hash ?? ''}`)
  return { page, server, watched }
}

const services = (page: Page) => page.locator('section:has(#h-services) tbody tr')
const requests = (page: Page) => page.locator('section:has(#h-requests) tbody tr')
const heading = (page: Page) => textOf(page.locator('h1'))
const textOf = async (locator: Locator) => (await locator.textContent()) ?? ''
/** As a reader sees it, with ordinary spaces. */
const plain = (text: string) => text.replace(/[\u00a0\u2009]/g, ' ')

function clean(watched: Watched, server: PageServer): void {
  expect(watched.complaints).toEqual([])
  expect(watched.violations).toEqual([])
  expect([...watched.hosts]).toEqual([new URL(server.url).host])
}

test('figures on the page are those of the API; no error, no other host, no violation of the policy', async () => {
  const { page, server, watched } = await open()
  await services(page).first().waitFor()
  expect(await services(page).count()).toBe(5)

  const search = server.rows().filter((row) => row.service.startsWith('search'))
  const sorted = search.map((row) => row.ms).sort((a, b) => a - b)
  const p99 = sorted[Math.ceil(0.99 * sorted.length) - 1]!
  const failed = search.filter((row) => row.class === 'server_error').length
  const cells = (await services(page).filter({ hasText: 'search' }).locator('td').allTextContents()).map(plain)
  const number = (text: string) => Number(text.replaceAll(' ', ''))
  expect(number(cells[2]!)).toBe(search.length)
  expect(cells[4]).toBe(plain(percent(failed / search.length, search.length)))
  expect(cells[8]).toBe(plain(duration(p99, { unit: 'ms', bare: true })))

  const all = server
    .rows()
    .map((row) => row.ms)
    .sort((a, b) => a - b)
  const whole = plain(duration(all[Math.ceil(0.99 * all.length) - 1]!))
  expect(plain(await heading(page))).toContain(
    `All services: p99 ${whole}, n ${all.length.toLocaleString('en').replace(',', ' ')}.`,
  )
  expect(await requests(page).count()).toBe(25)
  expect(await textOf(page.locator('[role=status]'))).toContain('2 proxies · loss not known')
  clean(watched, server)
})

test('the chart draws lines, names itself in a sentence, and reads values out by keyboard', async () => {
  const { page, server, watched } = await open()
  const picture = page.locator('.picture')
  await picture.locator('canvas').waitFor()
  expect(plain((await picture.getAttribute('aria-label'))!)).toMatch(
    /^p99 (rose|fell|stayed).*highest .* at \d\d:\d\d:\d\d/,
  )
  // Pixels that are neither white nor grey: the lines.
  const coloured = await page.evaluate<number>(COLOURED_PIXELS)
  expect(coloured).toBeGreaterThan(1_000)
  await picture.focus()
  await page.keyboard.press('ArrowLeft')
  const first = plain(await textOf(page.locator('.readout')))
  expect(first).toMatch(/^\d\d:\d\d:\d\d {3}p50 .* {3}p99 .* {3}n \d+/)
  await page.keyboard.press('ArrowLeft')
  expect(plain(await textOf(page.locator('.readout')))).not.toBe(first)

  // The same data as a table.
  await page.keyboard.press('Shift+T')
  expect(await page.locator('#points tbody tr').count()).toBeGreaterThan(50)
  clean(watched, server)
})

test('dragging over the chart chooses a window; Back brings the old one again', async () => {
  const { page } = await open()
  const over = page.locator('.u-over')
  await over.waitFor()
  const box = (await over.boundingBox())!
  await page.mouse.move(box.x + box.width * 0.25, box.y + 50)
  await page.mouse.down()
  await page.mouse.move(box.x + box.width * 0.75, box.y + 60, { steps: 4 })
  await page.mouse.up()
  await expect.poll(() => page.url()).toMatch(/from=\d{4}-.*&to=\d{4}-/)
  const query = new URLSearchParams(new URL(page.url()).hash.slice(3))
  const width = Date.parse(query.get('to')!) - Date.parse(query.get('from')!)
  expect(width / 60_000).toBeGreaterThan(7)
  expect(width / 60_000).toBeLessThan(8)
  await page.goBack()
  await expect.poll(() => new URL(page.url()).hash).not.toContain('from=')
})

test('with the keyboard alone: filter, read, invert, remove, sort', async () => {
  const { page, server, watched } = await open()
  await services(page).first().waitFor()
  await page.keyboard.press('/')
  await page.keyboard.type('destination_service=cart.shop.svc.cluster.local')
  await page.keyboard.press('Enter')
  await expect.poll(() => services(page).count()).toBe(1)
  expect(await heading(page)).toMatch(/^cart\.shop\.svc\.cluster\.local: p99/)
  expect(server.calls.at(-1)).toContain('where=destination_service%3Dcart')

  await page.getByRole('button', { name: /^Remove filter/ }).press('Enter')
  await expect.poll(() => services(page).count()).toBe(5)

  const sort = page.getByRole('button', { name: /^p99/ })
  await sort.press('Enter')
  await expect.poll(() => page.url()).toContain('sort=p99')
  const values = async () =>
    (await services(page).locator('td:nth-child(9)').allTextContents()).map((text) =>
      Number.parseFloat(plain(text).replace(' ', '')),
    )
  expect(await values()).toEqual((await values()).sort((a, b) => b - a))
  expect(await textOf(page.locator('th[aria-sort=descending]'))).toContain('p99')
  await sort.press('Enter')
  expect(await values()).toEqual((await values()).sort((a, b) => a - b))
  // Focus stays where it was through every refresh.
  expect(await page.evaluate('document.activeElement.textContent')).toContain('p99')
  clean(watched, server)
})

test('a filter that cannot be read is said where it was typed, and asks nothing of the server', async () => {
  const { page, server } = await open()
  await services(page).first().waitFor()
  const calls = server.calls.filter((call) => call.includes('where')).length
  await page.getByLabel('Add a filter').fill('500')
  await page.keyboard.press('Enter')
  expect(await textOf(page.locator('#filter-error'))).toContain('“500” is no filter')
  expect(await page.getByLabel('Add a filter').getAttribute('aria-invalid')).toBe('true')
  expect(server.calls.filter((call) => call.includes('where')).length).toBe(calls)
})

test('an address is a picture: the same filters, order and set when it is opened anew', async () => {
  const { page } = await open({ hash: '#/?where=method%3DPOST&order=duration&set=slowest&sort=%2Bn' })
  await services(page).first().waitFor()
  expect(await textOf(page.locator('.chip code'))).toBe('method=POST')
  expect(await page.getByLabel('slowest', { exact: true }).isChecked()).toBe(true)
  expect(await page.getByLabel('the slowest 1 %').isChecked()).toBe(true)
  const took = (await requests(page).locator('td:nth-child(5)').allTextContents()).map((text) =>
    Number.parseFloat(plain(text).replace(' ', '')),
  )
  expect(took).toEqual([...took].sort((a, b) => b - a))
})

test('before anything has arrived there is a checklist that moves on by itself', async () => {
  const { page, server, watched } = await open({ visits: 0 })
  await page.getByRole('heading', { name: 'No requests yet' }).waitFor()
  expect(await page.locator('.steps .done').count()).toBe(2)
  expect(await textOf(page.locator('.steps .waiting'))).toContain('Point an Envoy at 127.0.0.1:9001.')
  expect(await textOf(page.locator('pre'))).toContain('address: 127.0.0.1, port_value: 9001')
  expect(await textOf(page.locator('[role=status]'))).toContain('nothing complete yet')
  server.set({ nowMs: NOW, visits: 500 })
  await services(page).first().waitFor({ timeout: 60_000 })
  clean(watched, server)
})

test('figures move on by themselves', async () => {
  const { page, server } = await open({ visits: 500 })
  await services(page).first().waitFor()
  const before = await heading(page)
  server.set({ nowMs: NOW, visits: 900 })
  await expect.poll(() => heading(page), { timeout: 60_000 }).not.toBe(before)
})

test('a server that fails is said in words, old figures stay, and Retry works', async () => {
  const { page, server } = await open()
  await services(page).first().waitFor()
  server.fail(503)
  const notice = page.locator('.notice')
  await notice.waitFor({ timeout: 60_000 })
  expect(await textOf(notice)).toContain('The store does not answer It is restarting. (store_unavailable)')
  expect(await services(page).count()).toBe(5)
  expect(await textOf(page.locator('[role=status]'))).toContain('as of')
  server.fail(null)
  await page.getByRole('button', { name: 'Retry' }).click()
  await notice.waitFor({ state: 'hidden' })
})

test('a refused filter names the parameter', async () => {
  const { page } = await open({ hash: '#/?where=colour%3Dred' })
  const notice = page.locator('.notice')
  await notice.waitFor()
  expect(await textOf(notice)).toContain('there is no column colour Parameter: where. (unknown_column)')
})

test('filters that leave nothing say so, and how to get out', async () => {
  const { page } = await open({ hash: '#/?where=response_code%3E%3D599' })
  await page.getByRole('heading', { name: 'No requests match' }).waitFor()
  await page.getByRole('button', { name: 'Remove all filters' }).click()
  await services(page).first().waitFor()
})

test('text from requests is text, whatever it holds', async () => {
  const { page, watched, server } = await open({
    hash: `#/?where=${encodeURIComponent('method=<img src=x onerror=alert(1)>')}`,
  })
  await page.locator('.chip').waitFor()
  expect(await textOf(page.locator('.chip code'))).toBe('method=<img src=x onerror=alert(1)>')
  expect(await page.locator('img').count()).toBe(0)
  expect(watched.violations).toEqual([])
  expect([...watched.hosts]).toEqual([new URL(server.url).host])
})

test.each(['light', 'dark'] as const)('in the %s theme text and marks have contrast enough', async (colorScheme) => {
  const { page } = await open({ context: { colorScheme } })
  await services(page).first().waitFor()
  const low = await page.evaluate<string[]>(LOW_CONTRAST)
  expect(low).toEqual([])
})

test('at 360 px and at twice the size nothing is lost sideways', async () => {
  const { page } = await open({ context: { viewport: { width: 360, height: 740 } } })
  await services(page).first().waitFor()
  expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0)
})

test('a hidden tab asks nothing', async () => {
  const { page, server } = await open({ visits: 200 })
  await services(page).first().waitFor()
  await page.evaluate(`
    Object.defineProperty(document, 'hidden', { value: true, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))`)
  const calls = server.calls.length
  await new Promise((resolve) => setTimeout(resolve, 4_000))
  expect(server.calls.length).toBe(calls)
})

test('of 500 services the worst are shown, by any figure, the rest are counted, and the page stays small', async () => {
  const { page, server } = await open({ copies: 100 })
  await services(page).first().waitFor()
  expect(await services(page).count()).toBe(80)
  const total = new Set(server.rows().map((row) => row.service)).size
  expect(await textOf(page.locator('section:has(#h-services)'))).toContain(`${total - 80} more services`)
  expect(await page.evaluate<number>(`document.querySelectorAll('*').length`)).toBeLessThan(3_000)

  await page.getByRole('button', { name: /^p99/ }).click()
  const slowest = Math.max(...server.rows().map((row) => row.ms))
  const name = server.rows().find((row) => row.ms === slowest)!.service
  await expect.poll(() => textOf(services(page).first())).toContain(name)
})

test('a picture takes six calls and few elements', async () => {
  const { page, server } = await open({ hash: '#/?to=2026-01-01T00%3A00%3A00Z&from=2025-12-31T00%3A00%3A00Z' })
  await services(page).first().waitFor()
  expect(server.calls.filter((call) => !call.includes('/status')).length).toBe(6)
  expect(await page.evaluate(`document.querySelectorAll('*').length`)).toBeLessThan(3_000)
})

// What runs in the browser is text here: these tests are checked without the browser's types.

/** Pixels of the chart that are neither white nor grey: its lines. */
const COLOURED_PIXELS = `(() => {
  const canvas = document.querySelector('canvas')
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let count = 0
  for (let i = 0; i < data.length; i += 4) {
    const rgb = data.subarray(i, i + 3)
    if (data[i + 3] > 200 && Math.max(...rgb) - Math.min(...rgb) > 40) count++
  }
  return count
})()`

/** Texts below 4.5:1 against what is behind them, and parts of strips below 3:1, by the formula of WCAG 2.2. */
const LOW_CONTRAST = `(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const luminance = (color) => {
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((byte) => {
      const v = byte / 255
      return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const ratio = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p)
    return (x + 0.05) / (y + 0.05)
  }
  const behind = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor
      if (color !== 'rgba(0, 0, 0, 0)') return color
    }
    return 'white'
  }
  const found = []
  for (const element of document.querySelectorAll('#app *')) {
    const style = getComputedStyle(element)
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== '')
    if (hasText && ratio(style.color, behind(element)) < 4.5) found.push(element.tagName + ' ' + element.textContent)
    const isPart = element.classList.contains('part')
    if (isPart && ratio(style.backgroundColor, behind(element.parentElement)) < 3) found.push(element.className)
  }
  return found
})()`
