/** What Grafana and its ClickHouse datasource make of a query before they send it, as far as the dashboards need it. */
export interface GrafanaTime {
  /** Unix seconds. */
  readonly from: number
  readonly to: number
  readonly intervalSeconds: number
}

/** Values of dashboard variables; absent: All. */
export type GrafanaVariables = Readonly<Record<string, readonly string[]>>

/**
 * Macros of `grafana-clickhouse-datasource` 4, by its documentation. A macro that is not known is an error, as there.
 * Arguments may hold parentheses.
 */
export function expandSql(sql: string, time: GrafanaTime, variables: GrafanaVariables = {}): string {
  const macros: Readonly<Record<string, (args: readonly string[]) => string>> = {
    timeFilter: ([column]) => `${column} >= toDateTime(${time.from}) AND ${column} <= toDateTime(${time.to})`,
    timeInterval: ([column]) => `toStartOfInterval(toDateTime(${column}), INTERVAL ${time.intervalSeconds} second)`,
    interval_s: () => String(time.intervalSeconds),
    fromTime: () => `toDateTime(${time.from})`,
    toTime: () => `toDateTime(${time.to})`,
    conditionalAll: ([condition, variable]) =>
      Object.hasOwn(variables, variable!.trim().slice(1)) ? condition! : '1=1',
  }
  let text = ''
  for (let at = 0; at < sql.length; ) {
    const match = /\$__(\w+)/g
    match.lastIndex = at
    const found = match.exec(sql)
    if (found === null) {
      text += sql.slice(at)
      break
    }
    const macro = macros[found[1]!]
    if (macro === undefined) throw new Error(`there is no macro ${found[0]}`)
    text += sql.slice(at, found.index)
    const open = found.index + found[0].length
    const [args, end] = sql[open] === '(' ? readArguments(sql, open) : [[], open]
    text += macro(args)
    at = end
  }
  return text.replaceAll(/\$\{(\w+):singlequote\}/g, (_, name: string) =>
    (variables[name] ?? []).map((value) => `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`).join(','),
  )
}

function readArguments(sql: string, open: number): [args: string[], end: number] {
  const args: string[] = []
  let depth = 0
  let start = open + 1
  for (let k = open; k < sql.length; k++) {
    if (sql[k] === '(') depth++
    else if (sql[k] === ')') depth--
    if ((sql[k] === ',' && depth === 1) || depth === 0) {
      args.push(sql.slice(start, k))
      start = k + 1
    }
    if (depth === 0) return [args, k + 1]
  }
  throw new Error(`a parenthesis is not closed in ${sql.slice(open, open + 40)}`)
}

/** Variables and intervals of a Prometheus query; a regular expression of several values, as Grafana writes it. */
export function expandPromQl(expr: string, rateSeconds: number, variables: GrafanaVariables = {}): string {
  return expr
    .replaceAll('$__rate_interval', `${rateSeconds}s`)
    .replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (_, braced: string | undefined, bare: string | undefined) => {
      const values = variables[(braced ?? bare)!]
      if (values === undefined) return '.*'
      const escaped = values.map((value) => value.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\\\$&'))
      return escaped.length === 1 ? escaped[0]! : `(${escaped.join('|')})`
    })
}
