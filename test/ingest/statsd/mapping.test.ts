import { expect, test } from 'vitest'
import { type Mapper, parseMapping } from '../../../src/ingest/statsd/mapping.ts'

function mapperOf(text: string): Mapper {
  const result = parseMapping(text)
  if ('errors' in result) throw new Error(result.errors.join('; '))
  return result.mapper
}

const EXAMPLE = `
defaults:
  observer_type: histogram
  buckets: [.005, .01, .025, .05, .1, .25, .5, 1, 2.5]
  match_type: glob
  glob_disable_ordering: false
  ttl: 1m30s
  histogram_options: { buckets: [1, 2], native_histogram_bucket_factor: 1.1 }
mappings:
  - match: 'test.*.*.counter'
    name: '\${2}_total'
    help: 'Of \${1}'
    labels: { provider: '$1' }
  - match: 'envoy.cluster.*.upstream_rq_time'
    name: envoy_cluster_upstream_rq_time
    timer_type: histogram
    match_metric_type: observer
    honor_labels: true
    ttl: 0
    labels: { cluster_name: '$1' }
  - match: '^client\\.(\\w+)\\.(.+)$'
    match_type: regex
    name: 'client_$1'
    scale: 0.001
    summary_options: { quantiles: [ { quantile: 0.9, error: 0.01 } ], max_age: 1m }
    labels: { path: '$2' }
  - match: 'noise.*'
    action: drop
    name: dropped
  - match: '.'
    match_type: regex
    match_metric_type: gauge
    action: drop
`

test('globs, expressions, types, labels, ttl and scale', () => {
  const mapper = mapperOf(EXAMPLE)
  expect(mapper.rules).toBe(5)
  expect(mapper.map('test.disk.io.counter', 'c')).toEqual({
    action: 'map',
    name: 'io_total',
    labels: [['provider', 'disk']],
    honorLabels: false,
    help: 'Of $' + '{1}',
    ttlMs: 90_000,
    scale: 1,
  })
  expect(mapper.map('envoy.cluster.web.upstream_rq_time', 't')).toMatchObject({
    name: 'envoy_cluster_upstream_rq_time',
    labels: [['cluster_name', 'web']],
    honorLabels: true,
    ttlMs: 0,
  })
  expect(mapper.map('envoy.cluster.web.upstream_rq_time', 'c')).toBeNull()
  expect(mapper.map('client.get.a.b.c', 'c')).toMatchObject({
    name: 'client_get',
    labels: [['path', 'a.b.c']],
    scale: 0.001,
  })
  expect(mapper.map('noise.a', 'c')).toEqual({ action: 'drop' })
  expect(mapper.map('noise.a.b', 'c')).toBeNull()
  expect(mapper.map('anything', 'g')).toEqual({ action: 'drop' })
  expect(mapper.map('anything', 'c')).toBeNull()
})

test('a star is one part of a name, and a glob is no expression', () => {
  const mapper = mapperOf("mappings: [{ match: 'a.*.c+(d)', name: 'x' }]")
  expect(mapper.map('a.b.c+(d)', 'c')).toMatchObject({ name: 'x' })
  expect(mapper.map('a.b.b.c+(d)', 'c')).toBeNull()
  expect(mapper.map('a..c+(d)', 'c')).toMatchObject({ name: 'x' })
})

test('globs come before expressions, whatever their order in the file', () => {
  const mapper = mapperOf(
    "mappings: [{ match: 'a.*', match_type: regex, name: 'second' }, { match: 'a.*', name: 'first' }]",
  )
  expect(mapper.map('a.b', 'c')).toMatchObject({ name: 'first' })
})

test('an empty file has no rules', () => {
  expect(mapperOf('').map('a', 'c')).toBeNull()
})

test.each([
  ['mappings: [{ name: x }]', 'mappings[0]: match is missing'],
  ['mappings: [{ match: a }]', 'mappings[0]: name is missing'],
  ['mappings: [{ match: a, name: x, action: keep }]', 'mappings[0]: action is keep, it can be map or drop'],
  ['mappings: [{ match: a, name: x, match_type: fuzzy }]', 'mappings[0]: match_type is fuzzy, it can be glob or regex'],
  [
    'mappings: [{ match: a, name: x, match_metric_type: set }]',
    'mappings[0]: match_metric_type is set, it can be counter, gauge or observer',
  ],
  ['mappings: [{ match: a, name: x, ttl: soon }]', 'mappings[0]: ttl is soon, it can be a duration such as 1m30s'],
  ['mappings: [{ match: a, name: x, labels: { b: 1 } }]', 'mappings[0]: labels are not texts'],
  ['mappings: [{ match: a, name: x, nmae: y }]', 'mappings[0]: unknown key nmae'],
  ['mappings: { a: b }', 'mappings is not a list'],
  ['maps: []', 'unknown key maps'],
  ['- a', 'the file is not a mapping'],
])('%s is refused', (text, error) => {
  expect(parseMapping(text)).toEqual({ errors: [error] })
})

test.each(["mappings: [{ match: '(', match_type: regex, name: x }]", 'a: [', 'mappings: [3]'])(
  '%s is refused as well',
  (text) => {
    expect(parseMapping(text)).toEqual({ errors: [expect.any(String)] })
  },
)
