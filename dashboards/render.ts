import type { Board, Panel, Unit, VariableName } from './boards.ts'
import { QUERIES, type Query } from './queries.ts'

/**
 * Boards as Grafana's classic dashboard JSON (schema version 42), which file provisioning takes in every version from 9 on. The
 * datasource is a variable, so that one file works with any.
 */
export type Datasource = 'prometheus' | 'clickhouse'

const SCHEMA_VERSION = 42
const COLUMNS = 24
const HEIGHT = { figure: 4, table: 10, lines: 8, stack: 8, share: 8 } as const
const PLUGIN: Readonly<Record<Datasource, string>> = {
  prometheus: 'prometheus',
  clickhouse: 'grafana-clickhouse-datasource',
}

export function renderBoard(board: Board, datasource: Datasource): object {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of Grafana's.
  const source = { type: PLUGIN[datasource], uid: '${datasource}' }
  const panels: object[] = []
  let y = 0
  for (const row of board.rows) {
    const height = Math.max(...row.map((panel) => HEIGHT[panel.kind]))
    const width = COLUMNS / row.length
    for (const [k, panel] of row.entries()) {
      panels.push({
        id: panels.length + 1,
        gridPos: { x: k * width, y, w: width, h: height },
        ...renderPanel(panel, datasource, source),
      })
    }
    y += height
  }
  return {
    uid: datasource === 'prometheus' ? board.uid : `${board.uid}-clickhouse`,
    title: datasource === 'prometheus' ? board.title : `${board.title} (ClickHouse)`,
    description: board.description,
    tags: ['sidecast', datasource],
    schemaVersion: SCHEMA_VERSION,
    timezone: 'browser',
    time: { from: 'now-1h', to: 'now' },
    refresh: '30s',
    editable: true,
    graphTooltip: 1,
    annotations: { list: [] },
    links: [
      {
        type: 'dashboards',
        title: 'Sidecast',
        tags: ['sidecast', datasource],
        asDropdown: true,
        includeVars: false,
        keepTime: true,
        targetBlank: false,
      },
    ],
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: PLUGIN[datasource], hide: 0 },
        ...board.variables.flatMap((name) => renderVariable(name, datasource, source)),
      ],
    },
    panels,
  }
}

interface Source {
  readonly type: string
  readonly uid: string
}

function renderPanel(panel: Panel, datasource: Datasource, source: Source): object {
  const query: Query = QUERIES[panel.query]
  const labelled = query.clickhouse.some((target) => target.label !== undefined)
  return {
    type: panel.kind === 'figure' ? 'stat' : panel.kind === 'table' ? 'table' : 'timeseries',
    title: panel.title,
    ...(panel.description === undefined ? {} : { description: panel.description }),
    datasource: source,
    // Rollups have a point a minute.
    ...(datasource === 'clickhouse' ? { interval: '1m' } : {}),
    targets: datasource === 'prometheus' ? promTargets(panel, query, source) : clickhouseTargets(query, source),
    fieldConfig: {
      defaults: {
        unit: panel.unit,
        ...(panel.unit === 'percentunit' ? { min: 0, ...(panel.kind === 'share' ? { max: 1 } : {}) } : {}),
        ...(datasource === 'clickhouse' && labelled
          ? { displayName: `\${__field.labels.${query.clickhouse.find((target) => target.label)!.label}}` }
          : {}),
        ...(panel.kind === 'figure' || panel.kind === 'table' ? {} : { custom: styleOf(panel.kind) }),
      },
      overrides: (panel.columns ?? []).map(([name, unit]) => unitOverride(name, unit)),
    },
    options: optionsOf(panel),
    ...(panel.kind === 'table' ? { transformations: tableTransformations(panel, query, datasource) } : {}),
  }
}

function styleOf(kind: 'lines' | 'stack' | 'share'): object {
  const stacking = { mode: kind === 'lines' ? 'none' : 'normal', group: 'A' }
  return { drawStyle: 'line', lineWidth: 1, fillOpacity: kind === 'lines' ? 5 : 60, showPoints: 'never', stacking }
}

function optionsOf(panel: Panel): object {
  if (panel.kind === 'figure') {
    return {
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      colorMode: 'value',
      graphMode: 'area',
    }
  }
  if (panel.kind === 'table') return { showHeader: true, cellHeight: 'sm' }
  return {
    legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
    tooltip: { mode: 'multi', sort: 'desc' },
  }
}

const unitOverride = (name: string, unit: Unit): object => ({
  matcher: { id: 'byName', options: name },
  properties: [{ id: 'unit', value: unit }],
})

const refId = (k: number): string => String.fromCharCode(65 + k)

function promTargets(panel: Panel, query: Query, datasource: Source): object[] {
  return query.prometheus.map((target, k) => ({
    refId: refId(k),
    datasource,
    editorMode: 'code',
    expr: target.expr,
    legendFormat: target.legend ?? '__auto',
    instant: target.instant === true,
    range: target.instant !== true,
    ...(panel.kind === 'table' ? { format: 'table' } : {}),
  }))
}

function clickhouseTargets(query: Query, datasource: Source): object[] {
  return query.clickhouse.map((target, k) => ({
    refId: refId(k),
    datasource,
    editorType: 'sql',
    queryType: target.table === true ? 'table' : 'timeseries',
    // 0: points over time, 1: rows.
    format: target.table === true ? 1 : 0,
    rawSql: target.sql,
  }))
}

/** Prometheus answers a table by one frame for each figure, joined by their labels; ClickHouse by one with all columns. */
function tableTransformations(panel: Panel, query: Query, datasource: Datasource): object[] {
  const columns = panel.columns ?? []
  if (datasource === 'prometheus') {
    const values = columns.map(([name], k) => [`Value #${refId(k)}`, name] as const)
    return [
      { id: 'merge', options: {} },
      { id: 'organize', options: { excludeByName: { Time: true }, renameByName: Object.fromEntries(values) } },
    ]
  }
  const names = figureNames(query.clickhouse[0]!.sql).slice(-columns.length)
  return [
    { id: 'organize', options: { renameByName: Object.fromEntries(names.map((name, k) => [name, columns[k]![0]])) } },
  ]
}

/** Names of the columns of a statement, as its SELECT has them; those that are not named are what they are. */
function figureNames(sql: string): string[] {
  const list = sql.slice('SELECT '.length, sql.indexOf('\nFROM '))
  let depth = 0
  let start = 0
  const names: string[] = []
  for (let k = 0; k <= list.length; k++) {
    if (list[k] === '(' || list[k] === '[') depth++
    if (list[k] === ')' || list[k] === ']') depth--
    if (k === list.length || (list[k] === ',' && depth === 0)) {
      names.push(list.slice(start, k).trim().split(' AS ').at(-1)!)
      start = k + 1
    }
  }
  return names
}

const LABELS: Readonly<Record<VariableName, { label: string; prometheus: string; clickhouse: string }>> = {
  namespace: {
    label: 'Namespace',
    prometheus: 'label_values(sidecast_requests_total, destination_service_namespace)',
    clickhouse: distinct('destination_namespace'),
  },
  service: {
    label: 'Service',
    prometheus: 'label_values(sidecast_requests_total, destination_service_name)',
    clickhouse: distinct('destination_service'),
  },
  source: {
    label: 'From workload',
    prometheus: 'label_values(istio_requests_total, source_workload)',
    clickhouse: distinct('source_workload'),
  },
  job: { label: 'Job', prometheus: 'label_values(sidecast_build_info, job)', clickhouse: '' },
  instance: {
    label: 'Instance',
    prometheus: 'label_values(sidecast_build_info{job=~"$job"}, instance)',
    clickhouse: `SELECT DISTINCT instance FROM series WHERE job = 'sidecast' AND name = 'sidecast_build_info' ORDER BY instance`,
  },
}

function distinct(column: string): string {
  return `SELECT DISTINCT ${column} FROM latency_1m WHERE $__timeFilter(minute) ORDER BY ${column}`
}

/** A choice of several values, all of them at first. */
function renderVariable(name: VariableName, datasource: Datasource, source: Source): object[] {
  const { label, [datasource]: query } = LABELS[name]
  if (query === '') return []
  return [
    {
      name,
      label,
      type: 'query',
      datasource: source,
      ...(datasource === 'prometheus'
        ? { query: { query, refId: name }, definition: query, allValue: '.*' }
        : { query, definition: query }),
      refresh: 2,
      sort: 1,
      multi: true,
      includeAll: true,
      current: { text: ['All'], value: ['$__all'] },
    },
  ]
}
