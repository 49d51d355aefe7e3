import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shapeOf } from '../../src/store/statement.ts'

describe('the shape of a statement', () => {
  it.each([
    ['SELECT 1', 'SELECT'],
    ['  -- why\n /* and */ select 1', 'SELECT'],
    ['#!shebang\nSELECT 1', 'SELECT'],
    ['(SELECT 1) UNION ALL (SELECT 2)', '('],
    ['WITH 1 AS x SELECT x', 'WITH'],
    ['kill query where 1', 'KILL'],
    ['', ''],
    ['-- nothing', ''],
  ])('%j begins with %j', (sql, verb) => {
    expect(shapeOf(sql).verb).toBe(verb)
  })

  it.each([
    ['SELECT 1', 'SELECT 1'],
    ['SELECT 1;', 'SELECT 1'],
    ['SELECT 1 ; ; -- done', 'SELECT 1'],
    ['SELECT (1, 2) -- done', 'SELECT (1, 2)'],
    ["SELECT ';' /* ; */ ;\n", "SELECT ';'"],
    ["SELECT 'it''s; \\'', `a;``b`, \"c;\" ;", "SELECT 'it''s; \\'', `a;``b`, \"c;\""],
    ["SELECT 'never closed", "SELECT 'never closed"],
    ['SELECT 1 /* never closed', 'SELECT 1'],
  ])('%j ends after %j', (sql, text) => {
    const shape = shapeOf(sql)
    expect(sql.slice(0, shape.end)).toBe(text)
    expect(shape.multiple).toBe(false)
  })

  it.each(['SELECT 1; SELECT 2', 'SELECT 1;;x', "SELECT ';'; SET readonly = 0", 'SELECT 1 /* ; */ ; ( '])(
    '%j is more than one',
    (sql) => {
      expect(shapeOf(sql).multiple).toBe(true)
    },
  )

  it.each([
    ['SELECT 1 FORMAT JSON', 'JSON'],
    ['SELECT 1 format JSONEachRow SETTINGS max_threads = 1', 'JSONEachRow'],
    ['SELECT 1 SETTINGS max_threads = 1 FORMAT TSV;', 'TSV'],
    ["SELECT 'x FORMAT JSON'", undefined],
    ['SELECT format FROM t', undefined],
    ['SELECT 1 AS format', undefined],
    ['SELECT * FROM (SELECT 1 FORMAT JSON)', undefined],
    ['SELECT 1 -- FORMAT JSON', undefined],
  ])('%j has the format %j', (sql, format) => {
    expect(shapeOf(sql).format?.name).toBe(format)
  })

  it.each([
    ['INSERT INTO t FORMAT Native', 'Native', 'FORMAT Native', ''],
    ['insert into d.t (a, b) format JSONEachRow\n{"a":1}', 'JSONEachRow', 'format JSONEachRow\n{"a":1}', '{"a":1}'],
    [
      "INSERT INTO t (a) SETTINGS insert_deduplication_token='x;y' FORMAT TSV \t\n 1",
      'TSV',
      "SETTINGS insert_deduplication_token='x;y' FORMAT TSV \t\n 1",
      ' 1',
    ],
    ['INSERT INTO t VALUES (1);(2', 'Values', 'VALUES (1);(2', '(1);(2'],
    ['INSERT INTO TABLE `values`.format FORMAT CSV\n"', 'CSV', 'FORMAT CSV\n"', '"'],
    ['INSERT INTO values VALUES (1)', 'Values', 'VALUES (1)', '(1)'],
  ])('%j takes data', (sql, format, tail, data) => {
    const shape = shapeOf(sql)
    expect(shape.data?.format).toBe(format)
    expect(sql.slice(shape.data!.infileAt)).toBe(tail)
    expect(sql.slice(shape.data!.start)).toBe(data)
    expect(shape.multiple).toBe(false)
  })

  it.each([
    'INSERT INTO t SELECT 1',
    "INSERT INTO t (a) SELECT a FROM file('x', 'Native', 'a UInt8') SETTINGS max_threads = 1",
    'INSERT INTO t WITH 1 AS x SELECT x',
    "INSERT INTO t SELECT format('{}', a) FROM t",
  ])('%j takes none', (sql) => {
    expect(shapeOf(sql).data).toBeUndefined()
  })

  it.each([
    'SELECT $$a;b$$',
    'SELECT $ ; $a$ ; $',
    'SELECT 1\\G',
    "SELECT ‘ ' ’; SET readonly = 0 -- '",
    'SELECT “ " ”; SELECT 2 -- "',
    "SELECT 1 // comment; ' \nx",
    'SELECT 1 /* a /* b */ ; SELECT 2 */',
    'SELECT 1; /* a /* b */ ; SELECT 2 */',
    'SELECT\u00a01',
    'SELECT 1 \u2028',
  ])('%j is odd', (sql) => {
    expect(shapeOf(sql).odd).toBeDefined()
  })

  it.each([
    'SELECT 1 / 2, 3 -- ü ‘ $ // /* \n, a->b',
    'SELECT \'‘ $$ \\\\ /* // ü\', "ü", `$` /* ü ‘ // -- */',
    'INSERT INTO t FORMAT CSV\n‘$//',
  ])('%j is not', (sql) => {
    expect(shapeOf(sql).odd).toBeUndefined()
  })

  it('sees files of the machine wherever they are named, and not in quotes', () => {
    expect(shapeOf("SELECT 1 INTO/**/OUTFILE 'x'").files).toBe(true)
    expect(shapeOf("SELECT * FROM (SELECT 1 into outfile 'x')").files).toBe(true)
    expect(shapeOf("INSERT INTO t FROM INFILE 'x' FORMAT TSV").files).toBe(true)
    expect(shapeOf("SELECT 'INTO OUTFILE'").files).toBe(false)
    expect(shapeOf("INSERT INTO t SELECT * FROM input('a UInt8') FORMAT TSV").input).toBe(true)
  })

  it('never throws, and ends where the text ends', () => {
    const sign = fc.constantFrom(
      "'",
      '"',
      '`',
      ';',
      '--',
      '/*',
      '*/',
      '\\',
      '\n',
      ' ',
      '(',
      ')',
      '$',
      '#',
      '# ',
      'FORMAT',
      'SELECT',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(sign, fc.string({ maxLength: 3 }))), (parts) => {
        const sql = parts.join('')
        const shape = shapeOf(sql)
        expect(shape.end).toBeLessThanOrEqual(sql.length)
        // What is cut off is nothing.
        if (!shape.multiple && shape.data === undefined) expect(shapeOf(sql.slice(shape.end)).verb).toBe('')
      }),
      { numRuns: 2000 },
    )
  })

  it('takes time that grows with the length alone', () => {
    const long = `INSERT INTO t SELECT ${'f(a, 1), '.repeat(40_000)} 1`
    const began = performance.now()
    expect(shapeOf(long).data).toBeUndefined()
    expect(performance.now() - began).toBeLessThan(10_000)
  })
})
