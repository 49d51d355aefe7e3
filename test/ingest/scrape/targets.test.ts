import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { acceptHeader, formatOf } from '../../../src/ingest/scrape/accept.ts'
import { createFileTargets, parseTargets } from '../../../src/ingest/scrape/file-targets.ts'
import { attachTo, firstDueMs, type Target, type TargetDefaults, targetOf } from '../../../src/ingest/scrape/target.ts'
import { parseDuration } from '../../../src/lib/units.ts'

const DEFAULTS: TargetDefaults = {
  job: 'envoy-scrape',
  scheme: 'http',
  path: '/stats/prometheus?usedonly',
  labels: { mesh: 'blue' },
  intervalMs: 15_000,
  timeoutMs: 10_000,
}

function target(address: string, labels: Record<string, string> = {}): Target {
  const made = targetOf(address, labels, DEFAULTS, parseDuration)
  if (typeof made === 'string') throw new Error(made)
  return made
}

describe('targets', () => {
  test('address, path, labels', () => {
    const { url, job, address, instance, labels } = target('edge:9901', { zone: 'a', empty: '' })
    expect(url.href).toBe('http://edge:9901/stats/prometheus?usedonly')
    expect({ job, address, instance }).toEqual({ job: 'envoy-scrape', address: 'edge:9901', instance: null })
    expect(labels).toEqual([
      ['mesh', 'blue'],
      ['zone', 'a'],
    ])
  })

  test('labels with a meaning of their own', () => {
    const made = target('x', {
      __address__: '[::1]:15020',
      __scheme__: 'https',
      __metrics_path__: '/metrics',
      __param_filter: 'a b',
      __scrape_interval__: '30s',
      __scrape_timeout__: '40s',
      __meta_kubernetes_pod: 'p',
      job: 'istio',
      instance: 'pod-1',
    })
    expect(made.url.href).toBe('https://[::1]:15020/metrics?filter=a+b')
    expect(made).toMatchObject({ job: 'istio', instance: 'pod-1', intervalMs: 30_000, timeoutMs: 30_000 })
    expect(made.labels).toEqual([['mesh', 'blue']])
  })

  test('a port that goes without saying', () => {
    expect(target('edge').address).toBe('edge:80')
    expect(target('edge', { __scheme__: 'https' }).address).toBe('edge:443')
    expect(target('[::1]').address).toBe('[::1]:80')
  })

  test.each(['', 'http://edge:80', 'user:pw@edge:80', 'edge:port', 'a b:1', 'edge:99999', '::1', 'edge:80/path'])(
    '%j is no target',
    (address) => {
      expect(targetOf(address, {}, DEFAULTS, parseDuration)).toBeTypeOf('string')
    },
  )

  test('labels that the page and the target both have', () => {
    const { labels, ...rest } = attachTo(
      target('edge:1', { zone: 'a' }),
      'node',
      false,
    )([
      ['instance', 'own'],
      ['zone', 'b'],
      ['x', '1'],
      ['exported_zone', 'c'],
    ])
    expect(rest).toEqual({ job: 'envoy-scrape', instance: 'node' })
    expect(Object.fromEntries(labels)).toEqual({
      exported_instance: 'own',
      exported_exported_zone: 'b',
      exported_zone: 'c',
      x: '1',
      mesh: 'blue',
      zone: 'a',
    })
  })

  test('honoured labels stay as the page has them', () => {
    const { labels, ...rest } = attachTo(
      target('edge:1', { zone: 'a' }),
      'node',
      true,
    )([
      ['instance', 'own'],
      ['job', 'theirs'],
      ['zone', 'b'],
    ])
    expect(rest).toEqual({ job: 'theirs', instance: 'own' })
    expect(Object.fromEntries(labels)).toEqual({ zone: 'b', mesh: 'blue' })
  })

  test('targets are spread over the interval, each always at its own place', () => {
    const one = target('edge:1')
    const due = firstDueMs(one, 1_000_000, 12_345)
    expect(due % one.intervalMs).toBe(12_345)
    for (let now = 1_000_000; now < 1_015_000; now += 997) {
      const next = firstDueMs(one, now, 12_345)
      expect(next).toBeGreaterThanOrEqual(now)
      expect(next - now).toBeLessThan(one.intervalMs)
      expect(next % one.intervalMs).toBe(12_345)
    }
    expect(firstDueMs(one, 0, -1)).toBe(0xffff_ffff % one.intervalMs)
  })
})

describe('files of targets', () => {
  test('JSON and YAML in Prometheus’s format', () => {
    const groups = [{ targets: ['a:1', 'b:2'], labels: { zone: 'x' } }]
    expect(parseTargets(JSON.stringify(groups), true)).toEqual(groups)
    expect(parseTargets('- targets: ["a:1", b:2]\n  labels: { zone: x }\n- targets: []\n', false)).toEqual([
      ...groups,
      { targets: [], labels: {} },
    ])
    expect(parseTargets('', false)).toEqual([])
  })

  test.each([
    ['{', true],
    ['{}', true],
    ['[1]', true],
    ['[{"targets":"a:1"}]', true],
    ['[{"targets":[1]}]', true],
    ['[{"targets":[],"labels":{"a-b":"c"}}]', true],
    ['[{"targets":[],"labels":{"a":1}}]', true],
    ['[{"target":[]}]', true],
    [JSON.stringify([{ targets: Array(10_001).fill('a:1') }]), true],
    ['a: [&a x, *b]', false],
    [`a: &a [x,x]\nb: &b [${'*a,'.repeat(99)}]\nc: [${'*b,'.repeat(99)}]`, false],
  ])('%# is refused with a reason', (text, isJson) => {
    expect(parseTargets(text, isJson)).toBeTypeOf('string')
  })

  test('are read again when they change; a broken one keeps what it said before', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sidecast-file-targets-'))
    onTestFinished(() => rmSync(dir, { recursive: true }))
    const invalid: string[] = []
    const targets = createFileTargets({
      files: [join(dir, '*.json'), join(dir, 'more.yaml')],
      onInvalid: (_, reason) => invalid.push(reason),
    })
    const write = (name: string, text: string) => {
      writeFileSync(join(dir, `${name}.tmp`), text)
      renameSync(join(dir, `${name}.tmp`), join(dir, name))
    }
    const all = () => targets.groups.flatMap((group) => group.targets)
    expect(await targets.refresh()).toBe(false)
    write('a.json', '[{"targets":["a:1"]}]')
    write('more.yaml', '- targets: [m:1]')
    expect(await targets.refresh()).toBe(true)
    expect(all()).toEqual(['a:1', 'm:1'])
    expect(await targets.refresh()).toBe(false)
    write('a.json', '[{"targets":["a:1"')
    expect(await targets.refresh()).toBe(false)
    expect(all()).toEqual(['a:1', 'm:1'])
    await targets.refresh()
    expect(invalid).toHaveLength(1)
    write('a.json', '[{"targets":["a:2"]}]')
    write('b.json', '[{"targets":["b:1"]}]')
    expect(await targets.refresh()).toBe(true)
    expect(all()).toEqual(['a:2', 'b:1', 'm:1'])
    rmSync(join(dir, 'more.yaml'))
    expect(await targets.refresh()).toBe(true)
    expect(all()).toEqual(['a:2', 'b:1'])
    expect(targets.counters).toMatchObject({ files: 2, invalid: 1 })
  })
})

describe('content negotiation', () => {
  test('asks for protobuf first when it is wanted', () => {
    expect(acceptHeader(true)).toMatch(/^application\/vnd\.google\.protobuf;.*encoding=delimited;q=0\.8,/)
    expect(acceptHeader(false)).not.toContain('protobuf')
  })

  test.each([
    ['text/plain; version=0.0.4; charset=utf-8', 'text'],
    ['text/plain; charset=UTF-8', 'text'],
    ['', 'text'],
    ['application/openmetrics-text; version=1.0.0; charset=utf-8', 'openmetrics'],
    [
      'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=values',
      'protobuf',
    ],
    ['application/vnd.google.protobuf; proto=other; encoding=delimited', null],
    ['application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text', null],
    ['text/html', null],
    ['application/json', null],
  ])('%j is %s', (type, format) => {
    expect(formatOf(type)).toBe(format)
  })
})
