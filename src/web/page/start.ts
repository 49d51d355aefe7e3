import type { StatusAnswer } from './api.ts'
import { fill, h } from './dom.ts'
import { span } from './format.ts'

/** The first view: nothing has arrived yet. Each step of the connection lights up by itself; a stuck one says why. */
export interface Start {
  readonly element: HTMLElement
  update(status: StatusAnswer, nowMs: number): void
}

export function createStart(): Start {
  const title = h('h1')
  const watching = h('p', { class: 'quiet' })
  const steps = h('ol', { class: 'steps' })
  const config = h('code')
  const copy = h(
    'button',
    {
      type: 'button',
      click: () => {
        getSelection()?.selectAllChildren(config)
        // Browsers keep the clipboard from pages that come neither from this machine nor over TLS.
        if (!isSecureContext) fill(copy, 'Selected')
        else
          navigator.clipboard.writeText(config.textContent).then(
            () => fill(copy, 'Copied'),
            () => fill(copy, 'Selected'),
          )
      },
    },
    'Copy',
  )
  const element = h(
    'section',
    { class: 'start' },
    title,
    watching,
    steps,
    h('h2', {}, 'Point an Envoy here'),
    h('p', {}, 'Add this logger to an HTTP connection manager, and the cluster beside your others:'),
    h('div', { class: 'snippet' }, h('pre', {}, config), copy),
    h(
      'p',
      {},
      'Or look at it with made traffic: ',
      h('code', {}, 'sidecast demo'),
      ', in a checkout ',
      h('code', {}, 'npm run demo'),
      '.',
    ),
  )
  return {
    element,
    update(status, nowMs) {
      const identified = status.first_run.some((step) => step.step === 'first_row' && step.done)
      fill(title, identified ? 'The first requests have arrived' : 'No requests yet')
      const open = status.listeners.filter((listener) => listener.state === 'listening')
      fill(watching, `Watching ${open.map(({ name, address }) => `${address} (${name})`).join(' · ') || 'nothing'}`)
      const next = status.first_run.find((step) => !step.done)?.step
      fill(
        steps,
        ...status.first_run.map((step) => {
          const waiting = step.step === next
          const mark = step.done ? '✔' : waiting ? '…' : '○'
          const age = step.done && step.at !== null ? `, ${span(nowMs - Date.parse(step.at))} ago` : ''
          const said = waiting ? [step.seen, step.help].filter((part) => part !== null).join(' ') : ''
          return h(
            'li',
            { class: step.done ? 'done' : waiting ? 'waiting' : 'later' },
            h('span', { class: 'mark', 'aria-hidden': 'true' }, mark),
            h('span', {}, `${step.title}${age}`),
            h(
              'span',
              { class: 'sr' },
              step.done ? ': done' : waiting ? ': waiting, this line changes by itself' : ': later',
            ),
            said !== '' && h('p', { class: 'quiet' }, said),
          )
        }),
      )
      const grpc = open.find((listener) => listener.name === 'grpc')?.address ?? '127.0.0.1:9001'
      const text = envoySnippet(grpc)
      if (config.textContent !== text) fill(config, text)
    },
  }
}

/** The part of a bootstrap that sends Envoy's access log to this address. */
export function envoySnippet(address: string): string {
  const colon = address.lastIndexOf(':')
  const [host, port] = [address.slice(0, colon), address.slice(colon + 1)]
  return `access_log:
- name: envoy.access_loggers.http_grpc
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
    common_config:
      log_name: http
      transport_api_version: V3
      grpc_service: { envoy_grpc: { cluster_name: sidecast } }

clusters:
- name: sidecast
  type: STRICT_DNS
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: { http2_protocol_options: {} }
  load_assignment:
    cluster_name: sidecast
    endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: ${host}, port_value: ${port} } } } }] }]`
}
