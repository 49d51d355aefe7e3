import { mkdirSync, writeFileSync } from 'node:fs'
import { BOARDS } from './boards.ts'
import { renderBoard } from './render.ts'

// Writes the dashboards of both datasources: `node dashboards/generate.ts`. A test compares them with what is checked in.
export function dashboardFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>()
  for (const datasource of ['prometheus', 'clickhouse'] as const) {
    for (const board of BOARDS) {
      files.set(`${datasource}/${board.uid}.json`, `${JSON.stringify(renderBoard(board, datasource), null, 2)}\n`)
    }
  }
  return files
}

if (import.meta.main) {
  for (const [name, text] of dashboardFiles()) {
    const file = new URL(name, import.meta.url)
    mkdirSync(new URL('.', file), { recursive: true })
    writeFileSync(file, text)
  }
}
