import {
  CART_RETRIES,
  CHECKOUT_TIMEOUT_MS,
  clusterOf,
  hostOf,
  nodeOf,
  PAY_V2_SHARE,
  SEARCH_TIMEOUT_MS,
} from './shop.ts'

/** Configurations of the demo's two proxies, as objects: Envoy reads JSON as well as YAML. */
export interface ProxyPorts {
  readonly admin: number
  /** Where the proxy listens. */
  readonly listen: number
  /** Sidecast's gRPC listener. */
  readonly als: number
}

export interface UpstreamPorts {
  readonly checkout: number
  readonly cart: number
  readonly search: number
  readonly mail: number
  readonly payV1: number
  readonly payV2: number
}

/** The gateway: everything from outside to four services. */
export function gatewayConfig(ports: ProxyPorts, upstream: UpstreamPorts): object {
  return proxyConfig('gateway', ports, {
    routes: [
      route('checkout', '/checkout', { cluster: clusterOf('checkout'), timeout: seconds(CHECKOUT_TIMEOUT_MS) }),
      route('cart', '/cart', {
        cluster: clusterOf('cart'),
        timeout: '5s',
        retry_policy: { retry_on: '5xx', num_retries: CART_RETRIES, retry_back_off: { base_interval: '0.01s' } },
      }),
      route('search', '/search', { cluster: clusterOf('search'), timeout: seconds(SEARCH_TIMEOUT_MS) }),
      route('mail', '/mail', { cluster: clusterOf('mail'), timeout: '5s' }),
    ],
    clusters: [
      cluster(clusterOf('checkout'), upstream.checkout),
      cluster(clusterOf('cart'), upstream.cart),
      cluster(clusterOf('search'), upstream.search),
      {
        ...cluster(clusterOf('mail'), upstream.mail),
        health_checks: [
          {
            timeout: '0.5s',
            interval: '0.5s',
            no_traffic_interval: '0.5s',
            unhealthy_threshold: 1,
            healthy_threshold: 1,
            http_health_check: { path: '/health' },
          },
        ],
        // Without this Envoy would send to unhealthy hosts rather than to none.
        common_lb_config: { healthy_panic_threshold: { value: 0 } },
      },
    ],
  })
}

/** The sidecar of checkout: its calls to both versions of pay. */
export function checkoutConfig(ports: ProxyPorts, upstream: UpstreamPorts): object {
  const v2 = Math.round(PAY_V2_SHARE * 100)
  return proxyConfig('checkout', ports, {
    routes: [
      route('pay', '/pay', {
        weighted_clusters: {
          clusters: [
            { name: clusterOf('pay', 'v1'), weight: 100 - v2 },
            { name: clusterOf('pay', 'v2'), weight: v2 },
          ],
        },
        timeout: '5s',
      }),
    ],
    clusters: [cluster(clusterOf('pay', 'v1'), upstream.payV1), cluster(clusterOf('pay', 'v2'), upstream.payV2)],
  })
}

function proxyConfig(
  workload: 'gateway' | 'checkout',
  ports: ProxyPorts,
  { routes, clusters }: { readonly routes: readonly object[]; readonly clusters: readonly object[] },
): object {
  return {
    node: nodeOf(workload),
    admin: { address: socket(ports.admin) },
    stats_flush_interval: '2s',
    stats_sinks: [statsSink()],
    static_resources: {
      listeners: [
        {
          name: workload,
          address: socket(ports.listen),
          filter_chains: [
            {
              filters: [
                {
                  name: 'envoy.filters.network.http_connection_manager',
                  typed_config: {
                    '@type': type('filters.network.http_connection_manager.v3.HttpConnectionManager'),
                    stat_prefix: workload,
                    generate_request_id: true,
                    access_log: [accessLog(workload)],
                    route_config: { name: workload, virtual_hosts: [{ name: 'shop', domains: ['*'], routes }] },
                    http_filters: [
                      {
                        name: 'envoy.filters.http.router',
                        typed_config: { '@type': type('filters.http.router.v3.Router') },
                      },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [...clusters, sidecastCluster(ports.als)],
    },
  }
}

/** The part a mesh needs to send its access log here: this logger, and the cluster it names. */
function accessLog(workload: string): object {
  return {
    name: 'envoy.access_loggers.http_grpc',
    typed_config: {
      '@type': type('access_loggers.grpc.v3.HttpGrpcAccessLogConfig'),
      common_config: {
        log_name: workload,
        transport_api_version: 'V3',
        buffer_flush_interval: '0.2s',
        grpc_service: { envoy_grpc: { cluster_name: 'sidecast' } },
      },
    },
  }
}

/**
 * The part that says how many requests the proxy finished, without which nobody can know whether any is missing. Totals,
 * so that a flush which did not arrive is made up for by the next.
 */
function statsSink(): object {
  return {
    name: 'envoy.stat_sinks.metrics_service',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig',
      transport_api_version: 'V3',
      grpc_service: { envoy_grpc: { cluster_name: 'sidecast' } },
      emit_tags_as_labels: true,
      report_counters_as_deltas: false,
    },
  }
}

function sidecastCluster(port: number): object {
  return {
    ...cluster('sidecast', port),
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': type('upstreams.http.v3.HttpProtocolOptions'),
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  }
}

function cluster(name: string, port: number): object {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socket(port) } }] }],
    },
  }
}

function route(service: 'checkout' | 'cart' | 'search' | 'mail' | 'pay', prefix: string, action: object): object {
  return { name: service, match: { prefix }, route: { ...action, host_rewrite_literal: hostOf(service) } }
}

function socket(port: number): object {
  return { socket_address: { address: '127.0.0.1', port_value: port } }
}

function type(name: string): string {
  return `type.googleapis.com/envoy.extensions.${name}`
}

function seconds(ms: number): string {
  return `${ms / 1000}s`
}
