import { describe, expect, it } from 'vitest'
import { killByOurIds, processesByOurIds } from '../../src/store/query-ids.ts'

const OURS = "Settings['log_comment']"

describe('ids of statements', () => {
  it('are ours in KILL QUERY', () => {
    expect(killByOurIds("KILL QUERY WHERE query_id = 'query_id' ASYNC")).toBe(
      `KILL QUERY WHERE ${OURS} = 'query_id' ASYNC`,
    )
  })

  it('are ours in system.processes, whatever else the statement says', () => {
    const processes = `(SELECT * REPLACE(if(${OURS} = '', query_id, ${OURS}) AS query_id) FROM system.processes)`
    expect(processesByOurIds('SELECT query_id FROM system . processes p WHERE 1')).toBe(
      `SELECT query_id FROM ${processes} p WHERE 1`,
    )
    for (const sql of ["SELECT 'from system.processes'", 'SELECT 1 FROM processes', 'SELECT system.processes']) {
      expect(processesByOurIds(sql)).toBe(sql)
    }
  })
})
