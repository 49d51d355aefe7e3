import { describe, expect, it } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { parse } from '../../../src/query/promql/parse.ts'
import { readOpenSlo } from '../../../src/query/slo/openslo.ts'
import { prometheusRules } from '../../../src/query/slo/prometheus-rules.ts'

interface Rules {
  readonly groups: readonly {
    readonly name: string
    readonly rules: readonly {
      readonly record?: string
      readonly alert?: string
      readonly expr: string
      readonly labels: Readonly<Record<string, string>>
    }[]
  }[]
}

const slo = (metric: object, duration = '30d', objective: object = { target: 0.99 }) =>
  JSON.stringify({
    apiVersion: 'openslo/v1',
    kind: 'SLO',
    metadata: { name: 'x', labels: { 'team.io/name': 'a', '1st': 'b' } },
    spec: { indicator: { spec: metric }, timeWindow: [{ duration, isRolling: true }], objectives: [objective] },
  })
const source = (spec: object) => ({ metricSource: { type: 'sidecast', spec } })
const ratio = (part: 'good' | 'bad', where: string[], total: object = {}) => ({
  ratioMetric: { total: source(total), [part]: source({ where }) },
})

function rules(text: string): Rules {
  const { slos, findings } = readOpenSlo([{ name: 'f.yaml', text }])
  expect(findings.filter(({ severity }) => severity === 'error')).toEqual([])
  return parseYaml(prometheusRules(slos, { bucketsMs: [100, 250, 1000] })) as Rules
}
const fiveMinutes = (text: string) => rules(text).groups[0]!.rules[0]!.expr

describe('rules of an objective', () => {
  it('select by the labels that hold what columns do', () => {
    const where = [
      'destination_service=cart',
      'source_namespace!=edge',
      'destination_version=~v1|v2',
      'source_workload=',
    ]
    expect(fiveMinutes(slo(ratio('bad', ['response_code>=500'], { where, view: 'server' })))).toBe(
      '((sum(sum by (destination_service_name, destination_service_namespace) (rate(istio_requests_total{reporter=~"destination|waypoint", destination_canonical_service="cart", source_workload_namespace!="edge", destination_version=~"v1|v2", source_workload="unknown", response_code=~"[5-9].."}[5m]))) or vector(0))) / (((sum(sum by (destination_service_name, destination_service_namespace) (rate(istio_requests_total{reporter=~"destination|waypoint", destination_canonical_service="cart", source_workload_namespace!="edge", destination_version=~"v1|v2", source_workload="unknown"}[5m]))) or vector(0))) > 0)',
    )
  })

  it('count what is slower than a bucket, of the answers that count as good', () => {
    const expr = fiveMinutes(slo(ratio('good', ['class=success', 'duration_ns<=250ms'], { view: 'all' })))
    expect(expr).toContain(
      'istio_request_duration_milliseconds_bucket{grpc_response_status=~"0?", response_code=~"[123]..", le=~"250([.]0)?"}',
    )
    expect(expr).toContain('istio_request_duration_milliseconds_count{}')
  })

  it('can be read, whatever the view', () => {
    for (const view of ['auto', 'all', 'server', 'client']) {
      for (const metric of [
        ratio('bad', ['duration_ns>100ms'], { view }),
        ratio('good', ['class!=server_error'], { view }),
      ]) {
        for (const { rules: list } of rules(slo(metric, '7d')).groups) {
          for (const { expr, record } of list) {
            if (!expr.includes('group_left')) expect(() => parse(expr), record).not.toThrow()
          }
        }
      }
    }
  })

  it('have the windows of their period, and labels that Prometheus takes', () => {
    const { groups } = rules(slo(ratio('bad', ['class=server_error']), '6h'))
    expect(groups[0]!.rules.map(({ record }) => record?.split('ratio_rate')[1])).toEqual([
      '5m',
      '30m',
      '1h',
      '2h',
      '6h',
    ])
    expect(groups[0]!.rules.at(-1)!.expr).toContain('[6h]')
    const [page, ...more] = groups[2]!.rules
    expect(more).toEqual([])
    expect(page).toMatchObject({ alert: 'ErrorBudgetBurn', labels: { severity: 'page', team_io_name: 'a', _1st: 'b' } })
    expect(page!.expr).toContain('ratio_rate6h{sloth_id="x"} > 1 * 0.01')
  })

  it('leave out alerts that can never fire', () => {
    const { groups } = rules(slo(ratio('bad', ['class=server_error']), '30d', { target: 0.9 }))
    expect(groups[2]!.rules[0]!.expr).not.toContain('14.4')
    expect(groups[2]!.rules[0]!.expr).toContain('> 6 * 0.1')
  })

  const refused: [string, object, string][] = [
    [
      'a threshold that is no bucket',
      ratio('good', ['duration_ns<=300ms']),
      '300 ms is no bucket of istio_request_duration_milliseconds; near are 100 and 250 ms',
    ],
    [
      'a column that is no label',
      ratio('bad', ['class=server_error'], { where: ['path=/x'] }),
      "Istio's metrics have no label for path",
    ],
    [
      'a phase',
      ratio('bad', ['phase_upstream_wait_ns>1s']),
      'Istio has no histogram of phase_upstream_wait_ns, or not for >',
    ],
    [
      'a class that labels do not tell',
      ratio('bad', ['class=aborted']),
      "class=aborted: Istio's labels tell class=server_error and class=success",
    ],
    [
      'an order of codes that is no hundred',
      ratio('bad', ['response_code>=404']),
      'response_code>=404: labels have no order, but for response_code>=500 and the like',
    ],
    [
      'what is left out',
      ratio('bad', ['class=server_error'], { exclude: ['reporter=source'] }),
      'exclude: write it as a condition of total',
    ],
    ['gateways', ratio('bad', ['class=server_error'], { where: ['reporter=gateway'] }), 'gateways report as source'],
  ]
  for (const [what, metric, message] of refused) {
    it(`are refused for ${what}, and why is said`, () => {
      expect(() => rules(slo(metric))).toThrow(`f.yaml:1  x has no rules over Istio's metrics: ${message}`)
    })
  }
})
