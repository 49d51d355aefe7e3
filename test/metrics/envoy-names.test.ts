import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createEnvoyNames, envoyName, sanitise } from '../../src/metrics/envoy-names.ts'
import { tagRegex, tagRules } from '../../src/metrics/envoy-tags.ts'
import { ISTIO_TAGS } from '../../src/metrics/istio-tags.ts'

const fixture = (name: string): string[] =>
  readFileSync(new URL(`../fixtures/stats/${name}`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '')

/** `name{label="value",…}` with labels sorted. */
const shown = ({ name, labels }: { name: string; labels: readonly (readonly [string, string])[] }): string =>
  `${name}{${labels
    .map(([label, value]) => `${label}="${value}"`)
    .sort()
    .join(',')}}`

/** Series of an exposition page, those of a histogram under its own name. */
function seriesOf(page: readonly string[]): Set<string> {
  const series = new Set<string>()
  const histograms = new Set<string>()
  for (const line of page) {
    const type = /^# TYPE (\S+) (\S+)$/.exec(line)
    if (type !== null) {
      if (type[2] === 'histogram') histograms.add(type[1]!)
      continue
    }
    const [, name = '', text = ''] = /^([a-zA-Z0-9_:]+)\{(.*)\} \S+$/.exec(line)!
    const labels = [...text.matchAll(/(\w+)="((?:\\.|[^"\\])*)"/g)].map(([, label, value]) => [label!, value!] as const)
    const family = name.replace(/_(bucket|sum|count)$/, '')
    if (!histograms.has(family)) series.add(shown({ name, labels }))
    else series.add(shown({ name: family, labels: labels.filter(([label]) => label !== 'le') }))
  }
  return series
}

test('every stat of a real Envoy has the name and labels of its own Prometheus page, and none is left over', () => {
  const names = createEnvoyNames()
  const own = new Set(fixture('stats.txt').map((line) => shown(names.ofStat(line.slice(0, line.indexOf(': '))))))
  const page = seriesOf(fixture('stats-prometheus.txt'))
  expect(page.size).toBe(1039)
  expect([...own].filter((series) => !page.has(series))).toEqual([])
  expect([...page].filter((series) => !own.has(series))).toEqual([])
})

test.each([
  [
    'cluster.backend.upstream_rq_503',
    'envoy_cluster_upstream_rq{envoy_cluster_name="backend",envoy_response_code="503"}',
  ],
  [
    'cluster.backend.upstream_rq_5xx',
    'envoy_cluster_upstream_rq_xx{envoy_cluster_name="backend",envoy_response_code_class="5"}',
  ],
  ['cluster.a|b;c.upstream_cx_total', 'envoy_cluster_upstream_cx_total{envoy_cluster_name="a|b;c"}'],
  [
    'listener.0.0.0.0_80.downstream_cx_total',
    'envoy_listener_downstream_cx_total{envoy_listener_address="0.0.0.0_80"}',
  ],
  [
    'listener.[__1]_10000.downstream_cx_total',
    'envoy_listener_downstream_cx_total{envoy_listener_address="[__1]_10000"}',
  ],
  ['listener.admin.downstream_cx_total', 'envoy_listener_admin_downstream_cx_total{}'],
  [
    'listener.127.0.0.1_80.worker_3.downstream_cx_active',
    'envoy_listener_worker_downstream_cx_active{envoy_listener_address="127.0.0.1_80",envoy_worker_id="3"}',
  ],
  [
    'listener.127.0.0.1_80.http.edge.downstream_rq_2xx',
    'envoy_listener_http_downstream_rq_xx{envoy_http_conn_manager_prefix="edge",envoy_listener_address="127.0.0.1_80",envoy_response_code_class="2"}',
  ],
  [
    'listener.127.0.0.1_80.ssl.ciphers.ECDHE-RSA-AES',
    'envoy_listener_ssl_ciphers{envoy_listener_address="127.0.0.1_80",envoy_ssl_cipher="ECDHE-RSA-AES"}',
  ],
  ['cluster.c.ssl.ciphers.X-1', 'envoy_cluster_ssl_ciphers{cipher_suite="X-1",envoy_cluster_name="c"}'],
  ['cluster.c.ssl.versions.TLSv1.3', 'envoy_cluster_ssl_versions{envoy_cluster_name="c",envoy_ssl_version="TLSv1.3"}'],
  ['cluster.c.ssl.curves.P-256', 'envoy_cluster_ssl_curves{envoy_cluster_name="c",envoy_ssl_curve="P-256"}'],
  ['cluster.c.ssl.sigalgs.rsa_pss', 'envoy_cluster_ssl_sigalgs{envoy_cluster_name="c",envoy_ssl_sigalg="rsa_pss"}'],
  [
    'cluster.c.ssl.certificate.leaf.expiration_unix_time_seconds',
    'envoy_cluster_ssl_certificate_expiration_unix_time_seconds{envoy_cluster_name="c",envoy_tls_certificate="leaf"}',
  ],
  [
    'cluster.c.grpc.shop.Cart.Add.success',
    'envoy_cluster_grpc_Add_success{envoy_cluster_name="c",envoy_grpc_bridge_method="Cart",envoy_grpc_bridge_service="shop"}',
  ],
  ['cluster.c.ext_authz.p.ok', 'envoy_cluster_ext_authz_ok{envoy_cluster_name="c",envoy_ext_authz_prefix="p"}'],
  [
    'cluster.c.health_check.name.hc1.success',
    'envoy_cluster_health_check_success{envoy_cluster_name="c",envoy_health_check_name="hc1"}',
  ],
  [
    'http.p.user_agent.ios.downstream_cx_total',
    'envoy_http_user_agent_downstream_cx_total{envoy_http_conn_manager_prefix="p",envoy_http_user_agent="ios"}',
  ],
  [
    'http.p.fault.c.aborts_injected',
    'envoy_http_fault_aborts_injected{envoy_fault_downstream_cluster="c",envoy_http_conn_manager_prefix="p"}',
  ],
  [
    'http.p.rds.a.b/c.update_attempt',
    'envoy_http_rds_update_attempt{envoy_http_conn_manager_prefix="p",envoy_rds_route_config="a.b/c"}',
  ],
  [
    'http.p.rbac.policy.pol.denied',
    'envoy_http_rbac_policy_denied{envoy_http_conn_manager_prefix="p",envoy_rbac_policy_name="pol"}',
  ],
  [
    'http.p.rbac.pre.allowed',
    'envoy_http_rbac_allowed{envoy_http_conn_manager_prefix="p",envoy_rbac_http_prefix="pre"}',
  ],
  [
    'http.p.dynamodb.table.t.capacity.GetItem.__partition_id=1234567',
    'envoy_http_dynamodb_table_capacity{envoy_dynamo_operation="GetItem",envoy_dynamo_partition_id="1234567",envoy_dynamo_table="t",envoy_http_conn_manager_prefix="p"}',
  ],
  ['net.rbac.allowed', 'envoy_rbac_allowed{envoy_rbac_prefix="net"}'],
  [
    'mongo.m.collection.users.callsite.find.query.scatter_get',
    'envoy_mongo_collection_callsite_query_scatter_get{envoy_mongo_callsite="find",envoy_mongo_collection="users",envoy_mongo_prefix="m"}',
  ],
  ['mongo.m.cmd.ping.total', 'envoy_mongo_cmd_total{envoy_mongo_cmd="ping",envoy_mongo_prefix="m"}'],
  [
    'vhost.v.vcluster.other.upstream_rq_total',
    'envoy_vhost_vcluster_upstream_rq_total{envoy_virtual_cluster="other",envoy_virtual_host="v"}',
  ],
  [
    'vhost.v.route.r.upstream_rq_200',
    'envoy_vhost_route_upstream_rq{envoy_response_code="200",envoy_route="r",envoy_virtual_host="v"}',
  ],
  ['tcp.t.downstream_cx_total', 'envoy_tcp_downstream_cx_total{envoy_tcp_prefix="t"}'],
  [
    'edge.http_local_rate_limit.rate_limited',
    'envoy_http_local_rate_limit_rate_limited{envoy_local_http_ratelimit_prefix="edge"}',
  ],
  [
    'proxy_proto.pp.versions.v2.found',
    'envoy_proxy_proto_found{envoy_proxy_protocol_prefix="pp",envoy_proxy_protocol_version="2"}',
  ],
  ['proxy_proto.versions.v1.found', 'envoy_proxy_proto_found{envoy_proxy_protocol_version="1"}'],
  ['sds.cert1.update_success', 'envoy_sds_update_success{envoy_xds_resource_name="cert1"}'],
  ['redis.r.splitter.invalid_request', 'envoy_redis_splitter_invalid_request{envoy_redis_prefix="r"}'],
  ['server.live', 'envoy_server_live{}'],
  ['server.worker_0.watchdog_miss', 'envoy_server_worker_watchdog_miss{envoy_worker_id="0"}'],
  ['nodots', 'envoy_nodots{}'],
  ['wasmcustom.my-metric', 'my_metric{}'],
  ['', 'envoy_{}'],
])('%s is %s', (stat, expected) => {
  expect(shown(createEnvoyNames().ofStat(stat))).toBe(expected)
})

test("Istio's request metrics are taken apart by their labels, whose values may have dots or be empty", () => {
  const stat =
    'istiocustom.istio_requests_total.reporter.source.source_workload.sleep.source_canonical_service.sleep.source_version.source_cluster.Kubernetes' +
    '.destination_service.reviews.shop.svc.cluster.local.request_protocol.http.response_code.200.grpc_response_status.response_flags.-'
  const { name, labels } = createEnvoyNames().ofStat(stat)
  expect(name).toBe('istio_requests_total')
  expect(Object.fromEntries(labels)).toEqual({
    reporter: 'source',
    source_workload: 'sleep',
    source_canonical_service: 'sleep',
    source_version: '',
    source_cluster: 'Kubernetes',
    destination_service: 'reviews.shop.svc.cluster.local',
    request_protocol: 'http',
    response_code: '200',
    grpc_response_status: '',
    response_flags: '-',
  })
})

test.each([
  [
    'cluster.outbound|80||web.shop.svc.cluster.local;.upstream_rq_200',
    'envoy_cluster_upstream_rq{cluster_name="outbound|80||web.shop.svc.cluster.local",response_code="200"}',
  ],
  [
    'cluster.outbound|80||web.shop.svc.cluster.local.upstream_rq_2xx',
    'envoy_cluster_upstream_rq{cluster_name="outbound|80||web.shop.svc.cluster.local",response_code_class="2xx"}',
  ],
  [
    'http.0.0.0.0_80.rbac.allowed',
    'envoy_http_rbac{authz_enforce_result="allowed",http_conn_manager_prefix="0.0.0.0_80"}',
  ],
  [
    'reporter=.=source;.;source_workload=.=web;.;istio_requests_total',
    'envoy_istio_requests_total{reporter="source",source_workload="web"}',
  ],
])("%s by Istio's rules is %s", (stat, expected) => {
  expect(shown(createEnvoyNames({ rules: ISTIO_TAGS }).ofStat(stat))).toBe(expected)
})

test('rules of stats_config: fixed values, expressions, names of own tags, and what is wrong with them', () => {
  const { rules, errors } = tagRules(
    [
      { tag_name: 'zone', fixed_value: 'a' },
      { tag_name: 'subset', regex: String.raw`^cluster\.((\w+)~)` },
      { tag_name: 'envoy.response_code' },
      { tag_name: 'nothing' },
      { tag_name: 'broken', regex: '(' },
      { tag_name: '', regex: 'x' },
    ],
    false,
  )
  expect(errors).toEqual([
    "nothing: it has no regex and is none of Envoy's own tags",
    expect.stringMatching(/^broken: .*regular expression/),
    'tag_name is empty',
  ])
  const names = createEnvoyNames({ rules })
  expect(shown(names.ofStat('cluster.v2~web.upstream_rq_200'))).toBe(
    'envoy_cluster_web_upstream_rq{envoy_response_code="200",subset="v2",zone="a"}',
  )
})

test('expressions with POSIX classes', () => {
  expect(tagRegex('^listener\\.(([_.[:digit:]]*)\\.)').exec('listener.0.0.0.0_80.x')![2]).toBe('0.0.0.0_80')
})

test('names are made valid byte by byte; values are kept', () => {
  expect(sanitise('9é-€😀.a')).toBe('_9_________' + '_' + '_a')
  expect(envoyName('a.b', [['x.y', 'é"\n']])).toEqual({ name: 'envoy_a_b', labels: [['x_y', 'é"\n']] })
})

test('the cache is bounded and gives the same object', () => {
  const names = createEnvoyNames({ cacheMax: 100 })
  const first = names.ofStat('cluster.a.x')
  expect(names.ofStat('cluster.a.x')).toBe(first)
  for (let k = 0; k < 1000; k++) names.ofStat(`cluster.c${k}.x`)
  expect(names.size).toBeLessThanOrEqual(100)
})
