import { expect, test } from 'vitest'
import { createIdentityResolver } from '../../../src/ingest/als/identity.ts'
import type { AccessEntry } from '../../../src/ingest/entry/entry.ts'
import { createWriting, TEXT_ORIGIN } from '../../support/entry-writing.ts'
import type { ReadRow } from '../../support/native-rows.ts'

/** The row of one entry, with the real identity resolver. */
function rowOf(fill: (entry: AccessEntry) => void, origin = TEXT_ORIGIN): ReadRow {
  const writing = createWriting({ resolver: createIdentityResolver() })
  writing.add((entry) => {
    entry.type = 6
    entry.method = 'GET'
    fill(entry)
  }, origin)
  expect(writing.writer.commit()).toMatchObject({ added: 1, rejected: 0 })
  return writing.take().requests[0]!
}

test('both ends that the source names are in the row, and not in the filter state', () => {
  const row = rowOf((entry) => {
    entry.source.set('workload', 'web-v1')
    entry.source.set('namespace', 'shop')
    entry.source.set('service', 'web')
    entry.source.set('principal', 'spiffe://cluster.local/ns/shop/sa/web')
    entry.destination.set('workload', 'cart-v2')
    entry.destination.set('service', 'cart.shop.svc.cluster.local')
    entry.destination.set('version', 'v2')
    entry.reporter = 'destination'
  })
  expect(row).toMatchObject({
    reporter: 'destination',
    source_workload: 'web-v1',
    source_namespace: 'shop',
    source_service: 'web',
    source_principal: 'spiffe://cluster.local/ns/shop/sa/web',
    destination_workload: 'cart-v2',
    destination_namespace: 'shop',
    destination_service: 'cart',
    destination_version: 'v2',
    filter_state: {},
  })
})

test('what the source does not say is worked out as for every other row', () => {
  const row = rowOf((entry) => {
    entry.upstreamCluster = 'outbound|9080|v3|reviews.shop.svc.cluster.local'
    entry.destination.set('workload', 'reviews-v3')
  })
  expect(row).toMatchObject({
    reporter: 'source',
    destination_workload: 'reviews-v3',
    destination_service: 'reviews',
    destination_namespace: 'shop',
    destination_version: 'v3',
  })
})

test('a workload stands in for a service that nobody names, before cluster, route and authority do', () => {
  const said = rowOf((entry) => {
    entry.authority = 'shop.example'
    entry.destination.set('workload', 'mysql')
  })
  expect(said.destination_service).toBe('mysql')
  const unsaid = rowOf((entry) => {
    entry.authority = 'shop.example'
    entry.source.set('namespace', 'shop')
  })
  expect(unsaid).toMatchObject({ destination_service: 'shop.example', source_namespace: 'shop' })
})

test('the reporter alone can be said', () => {
  const self = { ...TEXT_ORIGIN.self, workload: 'gw', namespace: 'edge' }
  const row = rowOf(
    (entry) => {
      entry.reporter = 'source'
      entry.upstreamCluster = 'cart'
    },
    { ...TEXT_ORIGIN, self },
  )
  expect(row).toMatchObject({ reporter: 'source', source_workload: 'gw', source_namespace: 'edge' })
})

test('peers of filter state are read from JSON text as they are from ALS', () => {
  const row = rowOf((entry) => {
    entry.upstreamCluster = 'inbound|9080||'
    entry.filterState.add(
      'downstream_peer',
      '{"workload":"web","namespace":"shop","service":"web","labels":{"app":"w"}}',
    )
  })
  expect(row).toMatchObject({ reporter: 'destination', source_workload: 'web', source_namespace: 'shop' })
  expect(JSON.parse((row.filter_state as Record<string, string>).downstream_peer!)).toMatchObject({ workload: 'web' })
})

test.each([
  ['an answer of the upstream that nothing but its service time shows', true, '', 'upstream'],
  ['an answer of the proxy itself', false, '', 'proxy'],
  ['details, which know better', true, 'direct_response', 'proxy'],
])('%s', (_, answered, details, outcome) => {
  const row = rowOf((entry) => {
    entry.code = 200
    entry.answered = answered
    entry.responseCodeDetails = details
  })
  expect(row).toMatchObject({ outcome, class: 'success' })
})

test.each([
  ['a code is all there is', { code: 200 }, 'unknown', 'success'],
  ['not even a code is there', {}, 'unknown', 'unknown'],
  ['a flag tells all the same', { code: 503, flags: 'UF' }, 'proxy', 'server_error'],
  ['details tell all the same', { code: 200, responseCodeDetails: 'via_upstream' }, 'upstream', 'success'],
  ['the client left', { code: 499 }, 'client', 'aborted'],
])('a source that cannot say who answered: %s', (_, fields, outcome, kind) => {
  const row = rowOf((entry) => Object.assign(entry, { untold: true, protocol: 'HTTP/1.1' }, fields))
  expect(row).toMatchObject({ outcome, class: kind })
})
