import { Counter, Gauge, Histogram, Registry, type RegistryContentType, Summary } from 'prom-client'
import { describe, expect, test } from 'vitest'
import { formatOf } from '../../../src/ingest/scrape/accept.ts'
import { commitPage } from '../../../src/ingest/scrape/commit.ts'
import { Page } from '../../../src/ingest/scrape/page.ts'
import { createTextParser } from '../../../src/ingest/scrape/text.ts'
import { recordMetrics } from '../../support/metric-recorder.ts'

/** Pages of the client library that thousands of Node.js services have. */
async function scrapeOf(contentType: RegistryContentType) {
  const registry = new Registry<RegistryContentType>()
  registry.setContentType(contentType)
  const registers = [registry]
  const requests = new Counter({ name: 'requests_total', help: 'All "of" \\ them', labelNames: ['path'], registers })
  requests.inc({ path: '/a"b\\c\nd' }, 3)
  requests.inc({ path: '/ü' }, 1e21)
  new Gauge({ name: 'depth', help: 'x', registers }).set(-1.5e-9)
  const seconds = new Histogram({ name: 'seconds', help: 'x', labelNames: ['code'], buckets: [0.1, 1], registers })
  for (const value of [0.05, 0.5, 0.7, 5]) seconds.observe({ code: '200' }, value)
  const sizes = new Summary({ name: 'sizes', help: 'x', percentiles: [0.5, 0.99], registers })
  for (const value of [1, 2, 3]) sizes.observe(value)
  const bytes = Buffer.from(await registry.metrics())
  const page = new Page()
  const openMetrics = formatOf(contentType) === 'openmetrics'
  const result = createTextParser().parse(page, bytes, 0, bytes.length, { openMetrics, timestamps: true })
  expect(result).toMatchObject({ rejected: 0, failure: null })
  const store = recordMetrics()
  commitPage(page, { store, timeMs: 1, attach: (labels) => ({ job: 'j', instance: 'i', labels }) })
  return store
}

describe('pages of prom-client', () => {
  test.each([Registry.PROMETHEUS_CONTENT_TYPE, Registry.OPENMETRICS_CONTENT_TYPE])('%s', async (contentType) => {
    const store = await scrapeOf(contentType)
    expect(store.last('requests_total', { path: '/a"b\\c\nd' })).toMatchObject({ type: 'counter', value: 3 })
    expect(store.last('requests_total', { path: '/ü' })).toMatchObject({ value: 1e21 })
    expect(store.last('depth')).toMatchObject({ type: 'gauge', value: -1.5e-9 })
    expect(store.last('seconds', { code: '200' })?.distribution).toMatchObject({
      kind: 'explicit',
      bounds: [0.1, 1],
      counts: Float64Array.of(1, 2, 1),
      count: 4,
      sum: 6.25,
    })
    expect(store.last('sizes')?.distribution).toMatchObject({
      kind: 'summary',
      count: 3,
      sum: 6,
      quantiles: [
        [0.5, 2],
        [0.99, 3],
      ],
    })
    expect(store.written).toHaveLength(5)
  })
})
