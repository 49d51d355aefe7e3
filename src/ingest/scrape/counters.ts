import type { GetFailure } from './http-get.ts'
import type { PageFailure, Rejection } from './page.ts'

/** Why a scrape brought nothing. */
export type ScrapeFailure = GetFailure | PageFailure | 'content_type' | 'internal'

export interface ScrapeCounters {
  scrapes: number
  failed: Map<ScrapeFailure, number>
  /** Left out because the journal took nothing, or because the one before was still under way. */
  skipped: { gate: number; late: number }
  samples: number
  /** Parts of pages, by reason. */
  rejected: Map<Rejection, number>
  exemplars: number
  /** Those of them that are stored: new, and with a time. */
  exemplarsStored: number
  /** As they came over the wire. */
  bytes: number
  staleMarkers: number
  /** Times that a page's memory was given back because all pages together had too much. */
  forgotten: number
  /** Targets of files or configuration that are none. */
  invalidTargets: number
  /** Wall clock, ms, of the last page that was read; 0 before the first. */
  lastMs: number
}

export function createScrapeCounters(): ScrapeCounters {
  return {
    scrapes: 0,
    failed: new Map(),
    skipped: { gate: 0, late: 0 },
    samples: 0,
    rejected: new Map(),
    exemplars: 0,
    exemplarsStored: 0,
    bytes: 0,
    staleMarkers: 0,
    forgotten: 0,
    invalidTargets: 0,
    lastMs: 0,
  }
}
