import { expect, it } from 'vitest'
import { createIdentityResolver } from '../../../src/ingest/als/identity.ts'
import { createOrigins } from '../../../src/ingest/entry/origins.ts'
import { createPreset } from '../../../src/ingest/lines/presets/index.ts'
import { createLineReader } from '../../../src/ingest/lines/read-line.ts'
import { createUnwrapper } from '../../../src/ingest/lines/unwrap/index.ts'
import { createWriting } from '../../support/entry-writing.ts'

/** The row of one line, as a receiver makes it. */
function rowOf(line: string) {
  const writing = createWriting({ resolver: createIdentityResolver() })
  const reader = createLineReader({
    parser: createPreset('auto')!,
    unwrapper: createUnwrapper(),
    writer: writing.writer,
    origins: createOrigins(),
    sender: {},
  })
  expect(reader.read(line)).toBe('added')
  writing.writer.commit()
  return writing.take().requests[0]!
}

const ISTIO =
  '"GET /reviews/1 HTTP/1.1" 200 - via_upstream - "-" 0 295 44 43 "-" "curl/8.5.0" "8b3c0f52-63f0-9a1d-b0d4-54f3c1f8a7aa" "reviews:9080" "10.244.0.31:9080" outbound|9080|v2|reviews.shop.svc.cluster.local 10.244.0.12:40512 10.96.12.3:9080 10.244.0.12:51730 - default'
const TIMED = `[2026-01-01T00:00:00.250Z] ${ISTIO}`

it('takes the reporting side from the pod, and the called service from the line', () => {
  expect(rowOf(`[pod/web-6d5f7c9b8-x2k4j/istio-proxy] ${TIMED}`)).toMatchObject({
    node_id: 'web-6d5f7c9b8-x2k4j',
    reporter: 'source',
    source_workload: 'web',
    destination_service: 'reviews',
    destination_namespace: 'shop',
    destination_version: 'v2',
    precision_ns: 1_000_000,
    source: 'text',
  })
})

it('knows gateways and waypoints by the names of their pods', () => {
  const reporter = (pod: string): unknown => rowOf(`[pod/${pod}/istio-proxy] ${TIMED}`).reporter
  expect(reporter('istio-ingressgateway-6d5f7c9b8-x2k4j')).toBe('gateway')
  expect(reporter('shop-istio-6d5f7c9b8-x2k4j')).toBe('gateway')
  expect(reporter('waypoint-6d5f7c9b8-x2k4j')).toBe('waypoint')
})

it('takes the time from the envelope where the line has none', () => {
  const row = rowOf(`2026-01-01T00:00:01.000000000Z stdout F ${ISTIO}`)
  expect(row).toMatchObject({ duration_ns: 44_000_000n, end_time: 1_767_225_601_000_000_000n })
})
