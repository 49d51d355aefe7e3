import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { BOARDS } from '../../dashboards/boards.ts'
import { dashboardFiles } from '../../dashboards/generate.ts'
import { QUERIES } from '../../dashboards/queries.ts'
import { parse } from '../../src/query/promql/parse.ts'
import { expandPromQl } from '../support/grafana.ts'

const folder = new URL('../../dashboards/', import.meta.url)

interface Dashboard {
  readonly uid: string
  readonly templating: { readonly list: readonly { readonly name: string }[] }
  readonly panels: readonly {
    readonly id: number
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
    readonly targets: readonly { readonly refId: string; readonly expr?: string; readonly rawSql?: string }[]
    readonly transformations?: readonly object[]
  }[]
}

describe('the dashboards that are checked in', () => {
  const files = dashboardFiles()

  it('are those that are made from the queries', () => {
    for (const [name, text] of files) expect(readFileSync(new URL(name, folder), 'utf8'), name).toBe(text)
    const found = ['prometheus', 'clickhouse'].flatMap((set) =>
      readdirSync(new URL(set, folder)).map((name) => `${set}/${name}`),
    )
    expect(found.sort()).toEqual([...files.keys()].sort())
  })

  it('use every query, and no variable that they do not have', () => {
    const used = new Set(BOARDS.flatMap((board) => board.rows.flat().map((panel) => panel.query)))
    expect([...used].sort()).toEqual(Object.keys(QUERIES).sort())
    for (const [name, text] of files) {
      const board = JSON.parse(text) as Dashboard
      const variables = new Set(board.templating.list.map((variable) => variable.name))
      const named = text.matchAll(/\$(?:\{(\w+)[^}]*\}|(?!__)(\w+))/g)
      for (const [, braced, bare] of named) {
        const variable = (braced ?? bare)!
        if (!variable.startsWith('__')) expect(variables, `${name}: ${variable}`).toContain(variable)
      }
    }
  })

  it('have panels that do not lie upon each other, each with its own number', () => {
    const uids = [...files.values()].map((text) => (JSON.parse(text) as Dashboard).uid)
    expect(new Set(uids).size).toBe(files.size)
    for (const [name, text] of files) {
      const { panels } = JSON.parse(text) as Dashboard
      expect(new Set(panels.map((panel) => panel.id)).size).toBe(panels.length)
      const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
        Array.from({ length: w * h }, (_, k) => `${x + (k % w)},${y + Math.floor(k / w)}`),
      )
      expect(new Set(cells).size, name).toBe(cells.length)
      for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24)
    }
  })

  it('ask PromQL that can be read', () => {
    for (const [name, { prometheus }] of Object.entries(QUERIES)) {
      for (const { expr } of prometheus) expect(() => parse(expandPromQl(expr, 60)), name).not.toThrow()
    }
  })

  it('name as many columns of a table as there are figures', () => {
    for (const panel of BOARDS.flatMap((board) => board.rows.flat())) {
      if (panel.kind !== 'table') continue
      expect(QUERIES[panel.query].prometheus, panel.title).toHaveLength(panel.columns!.length)
    }
    const text = files.get('clickhouse/sidecast-mesh.json')!
    const { panels } = JSON.parse(text) as Dashboard
    expect(panels.at(-1)!.transformations).toEqual([
      { id: 'organize', options: { renameByName: { rate: 'Requests/s', failed: 'Failed', p50: 'p50', p99: 'p99' } } },
    ])
  })
})
