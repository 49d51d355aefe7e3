import { describe, expect, it } from 'vitest'
import { killByOurIds, processesByOurIds } from '../../src/store/query-ids.ts'

const OURS = "Settings['log_comment']"

describe('ids of statements', () => {
  it('are ours in KILL QUERY', () => {
    expect(killByOurIds("KILL QUERY WHERE query_id = 'query_id' ASYNC", 'writer')).toBe(
      `KILL QUERY WHERE ${OURS} = 'query_id' ASYNC`,
    )
    expect(killByOurIds('KILL QUERY WHERE user = currentUser()', 'writer')).toBe(
      'KILL QUERY WHERE user = currentUser()',
    )
  })

  it('are the only way for a reader to end a statement, and only those of readers', () => {
    const own = `KILL QUERY WHERE Settings['readonly'] = '1' AND ${OURS} =`
    expect(killByOurIds("kill query where query_id = 'where' async", 'reader')).toBe(
      `kill query WHERE Settings['readonly'] = '1' AND ${OURS} = 'where' async`,
    )
    expect(killByOurIds('KILL QUERY WHERE query_id = {id:String}', 'reader')).toBe(`${own} {id:String}`)
    for (const condition of [
      '1',
      "query_id = 'a' OR 1",
      "query_id != 'a'",
      "query_id = 'a' AND 1) OR (1",
      'query_id = user',
    ]) {
      expect(killByOurIds(`KILL QUERY WHERE ${condition}`, 'reader')).toBeUndefined()
    }
    expect(killByOurIds("KILL MUTATION WHERE query_id = 'a'", 'reader')).toBeUndefined()
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
