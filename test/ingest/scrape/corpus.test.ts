import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { commitPage } from '../../../src/ingest/scrape/commit.ts'
import { Page } from '../../../src/ingest/scrape/page.ts'
import { createProtobufParser } from '../../../src/ingest/scrape/protobuf.ts'
import { createTextParser } from '../../../src/ingest/scrape/text.ts'
import type { ExplicitBuckets, ExponentialBuckets, QuantileSummary } from '../../../src/metrics/distribution.ts'
import { readText } from '../../support/exposition.ts'
import { type MetricRecorder, recordMetrics } from '../../support/metric-recorder.ts'

// Pages of a real Envoy 1.40 after every scenario of its test rig.

const file = (name: string): Buffer => readFileSync(new URL(`../../fixtures/stats/${name}`, import.meta.url))

function scrape(name: string, page = new Page()): MetricRecorder {
  const bytes = file(name)
  const options = { openMetrics: false, timestamps: true }
  const result = name.endsWith('.pb')
    ? createProtobufParser().parse(page, bytes, 0, bytes.length, options)
    : createTextParser().parse(page, bytes, 0, bytes.length, options)
  expect(result).toMatchObject({ rejected: 0, failure: null })
  const store = recordMetrics()
  commitPage(page, { store, timeMs: 1, attach: (labels) => ({ job: 'envoy-scrape', instance: 'edge', labels }) })
  return store
}

/** Lines of the page that has these writes, as numbers by series text. */
function lines(store: MetricRecorder): Map<string, number> {
  const out = new Map<string, number>()
  const put = (name: string, labels: Readonly<Record<string, string>>, value: number) =>
    out.set(key(name, labels), value)
  for (const { name, labels, value, distribution } of store.written) {
    if (distribution === undefined) put(name, labels, value)
    else if (distribution.kind === 'summary') {
      for (const [quantile, at] of distribution.quantiles) put(name, { ...labels, quantile: String(quantile) }, at)
    } else {
      const { bounds, counts } = distribution as ExplicitBuckets
      let total = 0
      for (let k = 0; k <= bounds.length; k++) {
        total += counts[k]!
        put(`${name}_bucket`, { ...labels, le: String(bounds[k] ?? '+Inf') }, total)
      }
    }
    if (distribution !== undefined && distribution.kind !== 'values') {
      put(`${name}_sum`, labels, distribution.sum!)
      put(`${name}_count`, labels, distribution.count!)
    }
  }
  return out
}

/** An empty label is no label. */
function key(name: string, labels: Readonly<Record<string, string>>): string {
  return JSON.stringify([
    name,
    ...Object.entries(labels)
      .filter(([, value]) => value !== '')
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  ])
}

describe('recorded pages', () => {
  test.each(['stats-prometheus.txt', 'stats-prometheus-part.txt', 'stats-prometheus-part-text-readouts.txt'])(
    '%s, line for line as another reader has it',
    (name) => {
      const expected = new Map<string, number>()
      const families = readText(file(name).toString(), false)
      for (const { samples } of families.values()) {
        for (const { name, labels, le, value } of samples) {
          expected.set(
            key(name, le === undefined ? labels : { ...labels, le: le === Infinity ? '+Inf' : String(le) }),
            value,
          )
        }
      }
      expect(expected.size).toBeGreaterThan(70)
      const page = new Page()
      expect(lines(scrape(name, page))).toEqual(expected)
      // And by what is remembered of the first time.
      expect(lines(scrape(name, page))).toEqual(expected)
    },
  )

  test('text and protobuf of the same stats say the same', () => {
    const text = lines(scrape('stats-prometheus-part.txt'))
    const protobuf = lines(scrape('stats-prometheus-part.pb'))
    expect([...protobuf.keys()].sort()).toEqual([...text.keys()].sort())
    let same = 0
    for (const [line, value] of protobuf) if (text.get(line) === value) same++
    // They were taken one after the other; few stats move in between.
    expect(same / text.size).toBeGreaterThan(0.97)
  })

  test('native histograms hold as many observations as the classic ones', () => {
    const classic = scrape('stats-prometheus-part.pb').written.filter(({ distribution }) => distribution !== undefined)
    const native = scrape('stats-prometheus-part-native.pb')
    expect(classic.length).toBeGreaterThan(5)
    for (const { name, labels, distribution } of classic) {
      const { count, positive, zeroCount } = native.last(name, labels)!.distribution as ExponentialBuckets
      expect(count).toBeGreaterThanOrEqual((distribution as ExplicitBuckets).count!)
      let inBuckets = zeroCount
      for (let k = 0; k < positive.counts.length; k++) inBuckets += positive.counts[k]!
      expect(inBuckets).toBe(count)
    }
  })

  test('summaries have the quantiles that Envoy computes', () => {
    const summaries = scrape('stats-prometheus-part-summary.txt').written.filter(({ type }) => type === 'summary')
    expect(summaries.length).toBeGreaterThan(5)
    for (const { distribution } of summaries) {
      const { quantiles } = distribution as QuantileSummary
      expect(quantiles.map(([quantile]) => quantile)).toEqual([0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1])
    }
  })
})
