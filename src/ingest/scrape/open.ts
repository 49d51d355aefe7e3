import type { ClientTlsConfig } from '../../lib/tls.ts'
import { parseBytes, parseDuration } from '../../lib/units.ts'
import { createScrapeReceiver, type ScrapeJob, type ScrapeReceiver, type ScrapeReceiverOptions } from './receiver.ts'

/** One entry of `ingest.scrape`, as the configuration has it. */
export interface ScrapeConfig {
  readonly job: string
  readonly targets: readonly string[]
  readonly files: readonly string[]
  readonly scheme: 'http' | 'https'
  readonly path: string
  readonly interval: string
  readonly timeout: string
  readonly labels: Readonly<Record<string, string>>
  readonly honorLabels: boolean
  readonly honorTimestamps: boolean
  readonly protobuf: boolean
  readonly nodeId: boolean
  readonly bodyMax: string
  readonly samplesMax: number
  readonly tls: ClientTlsConfig
  readonly token: string
  readonly tokenFile: string
  readonly username: string
  readonly password: string
}

/** The receiver of `ingest.scrape`; without jobs it does nothing. */
export function openScrape(
  jobs: readonly ScrapeConfig[],
  parts: Pick<ScrapeReceiverOptions, 'store' | 'gate' | 'log' | 'userAgent' | 'clock'>,
): ScrapeReceiver {
  return createScrapeReceiver({ ...parts, jobs: scrapeJobs(jobs) })
}

/** With units resolved. */
export function scrapeJobs(jobs: readonly ScrapeConfig[]): ScrapeJob[] {
  return jobs.map(({ interval, timeout, bodyMax, ...job }) => ({
    ...job,
    intervalMs: parseDuration(interval)!,
    timeoutMs: parseDuration(timeout)!,
    bodyBytesMax: parseBytes(bodyMax)!,
  }))
}
