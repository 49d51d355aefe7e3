import type { EntryReporter } from '../../entry/entry.ts'
import type { LineParser } from '../parser.ts'
import { apisixJson, knative, kongJson } from './api-gateways.ts'
import { type AutoParser, createAutoParser } from './auto.ts'
import { compileForms, EMISSARY_FORMATS, ENVOY_FORMATS, ISTIO_FORMATS, KUMA_FORMATS } from './formats.ts'
import { haproxy } from './haproxy.ts'
import type { JsonForm } from './json.ts'
import { createJsonKeys } from './json-keys.ts'
import { kmesh } from './kmesh.ts'
import { linkerdApache, linkerdJson } from './linkerd.ts'
import { mixer } from './mixer.ts'
import { mosn } from './mosn.ts'
import { apisix, nginx, nginxProxyManager } from './nginx.ts'
import { traefikCommon, traefikJson } from './traefik.ts'
import { ztunnel, ztunnelJson } from './ztunnel.ts'

/** The access log of one product, in every form that it writes when nobody chose another. */
export interface Preset {
  readonly name: string
  /** Products and forms, as the docs say them. */
  readonly title: string
  /** Resolution of its durations, for the docs: `1 ms`, `none` where it has no duration. */
  readonly precision: string
  readonly text: () => readonly LineParser[]
  readonly json: () => readonly JsonForm[]
  /** For products that are only gateways. */
  readonly reporter?: EntryReporter
}

const none = (): readonly never[] => []
const keys = (name: string) => (): readonly JsonForm[] => [createJsonKeys({ name, detects: () => true })]
const envoy = () => compileForms(ENVOY_FORMATS)

function createEnvoyGatewayKeys(detects: JsonForm['detects']): JsonForm {
  return createJsonKeys({ name: 'envoy-gateway', detects, reporter: 'gateway' })
}

export const PRESETS: readonly Preset[] = [
  {
    name: 'istio-text',
    title: 'Istio, text: 1.1 and 1.2, 1.3 to 1.8, since 1.9; 1.0 as `envoy-text`',
    precision: '1 ms',
    text: () => [...compileForms(ISTIO_FORMATS), ...envoy()],
    json: none,
  },
  {
    name: 'istio-json',
    title: 'Istio, `accessLogEncoding: JSON`',
    precision: '1 ms',
    text: none,
    json: keys('istio-json'),
  },
  {
    name: 'istio-mixer',
    title: "Istio up to 1.4, Mixer's log entry",
    precision: '1 ns',
    text: none,
    json: () => [mixer],
  },
  {
    name: 'ztunnel',
    title: 'ztunnel (Istio ambient), text and JSON',
    precision: '1 ms',
    text: () => [ztunnel],
    json: () => [ztunnelJson],
  },
  { name: 'kmesh', title: 'Kmesh', precision: '1 ns', text: () => [kmesh], json: none },
  {
    name: 'envoy-text',
    title: 'Envoy, its default text, also with `%RESPONSE_CODE_DETAILS%` after the flags',
    precision: '1 ms',
    text: envoy,
    json: none,
  },
  {
    name: 'envoy-json',
    title: 'Envoys in JSON, by the names of the keys',
    precision: '1 ms',
    text: none,
    json: keys('envoy-json'),
  },
  {
    name: 'envoy-gateway',
    title: 'Envoy Gateway, JSON of 1.0 and of later releases, and text',
    precision: '1 ms',
    text: envoy,
    json: () => [createEnvoyGatewayKeys(() => true)],
    reporter: 'gateway',
  },
  {
    name: 'contour',
    title: 'Contour, `envoy` and `json`',
    precision: '1 ms',
    text: envoy,
    json: keys('contour'),
    reporter: 'gateway',
  },
  {
    name: 'emissary',
    title: 'Emissary-ingress and Ambassador, text and `envoy_log_type: json`',
    precision: '1 ms',
    text: () => [...compileForms(EMISSARY_FORMATS), ...envoy()],
    json: keys('emissary'),
    reporter: 'gateway',
  },
  {
    name: 'gloo',
    title: 'Gloo, text and JSON with keys of one’s own choice',
    precision: '1 ms',
    text: envoy,
    json: keys('gloo'),
    reporter: 'gateway',
  },
  {
    name: 'kuma',
    title: 'Kuma and Kong Mesh: MeshAccessLog and TrafficLog, HTTP and TCP; JSON',
    precision: '1 ms',
    text: () => [...compileForms(KUMA_FORMATS), ...envoy()],
    json: keys('kuma'),
  },
  { name: 'consul', title: 'Consul service mesh, JSON and text', precision: '1 ms', text: envoy, json: keys('consul') },
  { name: 'app-mesh', title: 'AWS App Mesh, text and JSON', precision: '1 ms', text: envoy, json: keys('app-mesh') },
  {
    name: 'linkerd',
    title: 'Linkerd 2, `json` and `apache` (which has no duration)',
    precision: '1 ns',
    text: () => [linkerdApache],
    json: () => [linkerdJson],
  },
  {
    name: 'traefik',
    title: 'Traefik, `json` (1 ns) and `common` (1 ms)',
    precision: '1 ns, 1 ms',
    text: () => [traefikCommon],
    json: () => [traefikJson],
  },
  {
    name: 'nginx',
    title: 'NGINX `combined` and what people add to it; Kong’s NGINX',
    precision: 'none',
    text: () => [nginx],
    json: none,
  },
  {
    name: 'nginx-proxy-manager',
    title: 'Nginx Proxy Manager',
    precision: 'none',
    text: () => [nginxProxyManager],
    json: none,
  },
  {
    name: 'haproxy',
    title: 'HAProxy `httplog`, `httpslog`, `tcplog`',
    precision: '1 ms',
    text: () => [haproxy],
    json: none,
  },
  {
    name: 'kong',
    title: 'Kong’s log plugins, and its NGINX log',
    precision: '1 ms',
    text: () => [nginx],
    json: () => [kongJson],
  },
  {
    name: 'apisix',
    title: 'APISIX’s logger plugins, and its NGINX log',
    precision: '1 ms',
    text: () => [apisix, nginx],
    json: () => [apisixJson],
  },
  { name: 'mosn', title: 'MOSN, its default line', precision: '1 ns', text: () => [mosn], json: none },
  {
    name: 'knative',
    title: 'Knative queue-proxy, its stock template',
    precision: '0.1 ms',
    text: none,
    json: () => [knative],
  },
]

/** Every name that `createPreset` knows. */
export const PRESET_NAMES: readonly string[] = ['auto', ...PRESETS.map(({ name }) => name)]

/** A parser for one source: it remembers which form came last. Null: there is no such preset. */
export function createPreset(name: string): AutoParser | null {
  if (name === 'auto') return createAuto()
  const preset = PRESETS.find((candidate) => candidate.name === name)
  if (preset === undefined) return null
  return createAutoParser({
    name,
    text: preset.text(),
    json: preset.json(),
    ...(preset.reporter && { reporter: preset.reporter }),
  })
}

/**
 * Whatever the line is. Text forms exclude each other by their columns; where a shorter one could take a line of a
 * longer one, the longer is tried first. JSON forms exclude each other by their keys.
 */
export function createAuto(): AutoParser {
  return createAutoParser({
    text: [
      ...compileForms([...ISTIO_FORMATS, ...ENVOY_FORMATS, ...EMISSARY_FORMATS, ...KUMA_FORMATS]),
      ztunnel,
      kmesh,
      haproxy,
      traefikCommon,
      apisix,
      nginxProxyManager,
      linkerdApache,
      mosn,
      nginx,
    ],
    json: [
      ztunnelJson,
      mixer,
      traefikJson,
      linkerdJson,
      kongJson,
      apisixJson,
      knative,
      createEnvoyGatewayKeys((record) => 'x-envoy-origin-path' in record),
      createJsonKeys({ name: 'envoy-json', detects: () => true }),
    ],
  })
}
