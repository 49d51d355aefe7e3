import { expect, test } from 'vitest'
import { parsePrincipal } from '../../../src/ingest/als/principal.ts'

test.each([
  ['', { id: '', namespace: '', service: '' }],
  ['spiffe://east/ns/bank/sa/ledger', { id: 'spiffe://east/ns/bank/sa/ledger', namespace: 'bank', service: '' }],
  ['east/ns/bank/sa/ledger', { id: 'spiffe://east/ns/bank/sa/ledger', namespace: 'bank', service: '' }],
  [
    'ledger.bank.svc,spiffe://east/ns/bank/sa/ledger',
    { id: 'spiffe://east/ns/bank/sa/ledger', namespace: 'bank', service: '' },
  ],
  [
    'spiffe://0f3a.consul/ns/fin/dc/east/svc/billing',
    { id: 'spiffe://0f3a.consul/ns/fin/dc/east/svc/billing', namespace: 'fin', service: 'billing' },
  ],
  [
    'spiffe://0f3a.consul/ap/team1/ns/fin/dc/east/svc/billing',
    { id: 'spiffe://0f3a.consul/ap/team1/ns/fin/dc/east/svc/billing', namespace: 'fin', service: 'billing' },
  ],
  [
    'spiffe://prod/basket_store_svc_8080,kuma://kuma.io/service/basket_store_svc_8080',
    { id: 'spiffe://prod/basket_store_svc_8080', namespace: 'store', service: 'basket' },
  ],
  ['gateway.example.com', { id: 'gateway.example.com', namespace: '', service: '' }],
  ['spiffe://east/anything', { id: 'spiffe://east/anything', namespace: '', service: '' }],
])('the certificate of %s', (names, principal) => {
  expect(parsePrincipal(names)).toEqual(principal)
})
