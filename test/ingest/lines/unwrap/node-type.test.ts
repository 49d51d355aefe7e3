import { expect, it } from 'vitest'
import { NO_HINTS, nodeTypeOf } from '../../../../src/ingest/lines/unwrap/index.ts'

it.each([
  [{ pod: 'web-6d5f7c9b8-x2k4j', container: 'istio-proxy' }, 'sidecar'],
  [{ pod: 'istio-ingressgateway-6d5f7c9b8-x2k4j', container: 'istio-proxy' }, 'router'],
  [{ app: 'istio-egressgateway', container: 'istio-proxy' }, 'router'],
  [{ pod: 'shop-gateway-istio-6d5f7c9b8-x2k4j', container: 'istio-proxy' }, 'router'],
  [{ pod: 'waypoint-6d5f7c9b8-x2k4j', container: 'istio-proxy' }, 'waypoint'],
  [{ pod: 'reviews-istio-waypoint-6d5f7c9b8-x2k4j', container: 'istio-proxy' }, 'waypoint'],
  [{ pod: 'ztunnel-x2k4j', container: 'istio-proxy' }, 'ztunnel'],
  [{ pod: 'web-6d5f7c9b8-x2k4j', container: 'kuma-sidecar' }, 'sidecar'],
  [{ pod: 'about-istio-6d5f7c9b8-x2k4j', container: 'web' }, 'unknown'],
  [{ container: 'envoy-1', app: 'envoy' }, 'unknown'],
  [{}, 'unknown'],
])('%o is a proxy of type %s', (hints, type) => {
  expect(nodeTypeOf({ ...NO_HINTS, ...hints })).toBe(type)
})
