import { type Browser, chromium as driver, type Page } from 'playwright-core'
import { chromium } from './programs.ts'

/**
 * Debian's Chromium, told to leave the network alone: what is then requested is what the page asked for.
 * `watch` keeps everything a page should not do.
 */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export async function startChromium(): Promise<Browser> {
  return driver.launch({ executablePath: await chromium(), args: FLAGS, headless: true })
}

export interface Watched {
  /** Messages of the console of kind error or warning, and uncaught errors. */
  readonly complaints: string[]
  /** Hosts that were asked for anything. */
  readonly hosts: Set<string>
  /** Violations of the content security policy. */
  readonly violations: string[]
}

/** Call it before the page is opened. */
export async function watch(page: Page): Promise<Watched> {
  const watched: Watched = { complaints: [], hosts: new Set(), violations: [] }
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') watched.complaints.push(message.text())
  })
  page.on('pageerror', (error) => watched.complaints.push(String(error)))
  page.on('request', (request) => {
    if (!request.url().startsWith('data:')) watched.hosts.add(new URL(request.url()).host)
  })
  await page.exposeFunction('sidecastViolation', (text: string) => watched.violations.push(text))
  await page.addInitScript(`addEventListener('securitypolicyviolation', (event) =>
    sidecastViolation(event.violatedDirective + ' ' + event.blockedURI))`)
  return watched
}
