import { expect, test } from 'vitest'
import { configuredTags } from '../../src/metrics/configured-tags.ts'
import { createEnvoyNames } from '../../src/metrics/envoy-names.ts'
import { ENVOY_TAGS } from '../../src/metrics/envoy-tags.ts'
import { ISTIO_TAGS } from '../../src/metrics/istio-tags.ts'

test('own rules stand behind those of Envoy or of Istio', () => {
  expect(configuredTags({ rules: 'envoy', custom: [] })).toEqual(ENVOY_TAGS)
  expect(configuredTags({ rules: 'istio', custom: [] })).toEqual(ISTIO_TAGS)
  const rules = configuredTags({
    rules: 'none',
    custom: [
      { tag: 'zone', regex: '', value: 'a' },
      { tag: 'shard', regex: '^shard_((\\d+)\\.)', value: '' },
      { tag: 'envoy.cluster_name', regex: '', value: '' },
    ],
  })
  expect(createEnvoyNames({ rules }).ofStat('shard_7.requests')).toEqual({
    name: 'envoy_shard_requests',
    labels: [
      ['zone', 'a'],
      ['shard', '7'],
    ],
  })
  expect(createEnvoyNames({ rules }).ofStat('cluster.web.x').labels).toContainEqual(['envoy_cluster_name', 'web'])
})

test('a rule that is none says so at the start', () => {
  expect(() => configuredTags({ rules: 'envoy', custom: [{ tag: 'x', regex: '(', value: '' }] })).toThrow(
    /^ingest\.statsTags\.custom: x: /,
  )
})
