import { appendFile, mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { follow, fromFile, intoFile, Spool } from '../../src/store/spool.ts'
import { shapeOf } from '../../src/store/statement.ts'

const into = (sql: string) => intoFile(sql, shapeOf(sql), '/s/0', 'TabSeparated')
const from = (sql: string) => fromFile(sql, shapeOf(sql).data!, "/s/'0")

describe('statements with files', () => {
  it.each([
    ['SELECT 1', "SELECT 1\nINTO OUTFILE '/s/0' FORMAT TabSeparated", 'TabSeparated'],
    ['SELECT 1; -- done', "SELECT 1\nINTO OUTFILE '/s/0' FORMAT TabSeparated", 'TabSeparated'],
    ['SELECT 1 FORMAT JSON', "SELECT 1 \nINTO OUTFILE '/s/0' FORMAT JSON", 'JSON'],
    [
      'SELECT 1 FORMAT JSON SETTINGS max_threads=1;',
      "SELECT 1 \nINTO OUTFILE '/s/0' FORMAT JSON SETTINGS max_threads=1",
      'JSON',
    ],
    ['SELECT 1 -- x\nFORMAT CSV', "SELECT 1 -- x\n\nINTO OUTFILE '/s/0' FORMAT CSV", 'CSV'],
  ])('%j writes its result to a file', (sql, woven, format) => {
    expect(into(sql)).toEqual({ sql: woven, format })
  })

  it.each([
    ['INSERT INTO t FORMAT Native', "INSERT INTO t FROM INFILE '/s/\\'0' FORMAT Native"],
    ['INSERT INTO t (a) SETTINGS b=1 FORMAT CSV\n1', "INSERT INTO t (a) FROM INFILE '/s/\\'0' SETTINGS b=1 FORMAT CSV"],
    ['insert into t values (1)', "insert into t FROM INFILE '/s/\\'0' FORMAT Values"],
  ])('%j takes its data from a file', (sql, woven) => {
    expect(from(sql)).toBe(woven)
  })
})

describe('a file that grows', () => {
  it('is read to its very end', async () => {
    const path = join(await mkdtemp(join(tmpdir(), 'sidecast-spool-')), '0')
    const written = new AbortController()
    const writing = (async () => {
      await new Promise((resolve) => setTimeout(resolve, 30))
      for (let index = 0; index < 20; index++) await appendFile(path, `${'x'.repeat(50_000)}${index}\n`)
      written.abort()
    })()
    let text = ''
    for await (const chunk of follow(path, written.signal)) text += chunk.toString()
    await writing
    expect(text.split('\n').map((line) => line.slice(50_000))).toEqual([...Array(20).keys()].map(String).concat(''))
  })

  it('may never come', async () => {
    const chunks: Buffer[] = []
    for await (const chunk of follow('/nonexistent/0', AbortSignal.abort())) chunks.push(chunk)
    expect(chunks).toEqual([])
  })
})

describe('the spool', () => {
  it('begins empty and gives each name once', async () => {
    const directory = join(await mkdtemp(join(tmpdir(), 'sidecast-spool-')), 'spool')
    const spool = new Spool(directory)
    await spool.open()
    await writeFile(join(directory, '7'), 'left over')
    await spool.open()
    expect(await readdir(directory)).toEqual([])
    const paths = [spool.newPath(), spool.newPath()]
    expect(new Set(paths).size).toBe(2)
    await spool.write(paths[0]!, [Buffer.from('abc')])
    expect(await readdir(directory)).toEqual(['0'])
    await spool.remove(paths[0]!)
    await spool.remove(paths[1]!)
    expect(await readdir(directory)).toEqual([])
  })
})
