import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { formatFindings, loadConfig } from '../src/config.ts'

function file(text: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-config-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'sidecast.yaml')
  writeFileSync(path, text)
  return path
}
const load = (text: string, set: string[] = [], env: Record<string, string> = {}) =>
  loadConfig({ file: file(text), set, env })

describe('configuration', () => {
  it('is a working set-up on loopback without any file', () => {
    const { config, findings } = loadConfig({ env: {} })
    expect(findings).toEqual([])
    expect(config).toMatchObject({
      data: './sidecast-data',
      http: { listen: '127.0.0.1:8080' },
      ingest: { grpc: { listen: '127.0.0.1:9001' } },
      retention: { rows: '7d', minutes: '90d', hours: '3y' },
      store: { disk: { max: '50 GiB' }, clickhouse: { url: '' } },
      journal: { disk: { max: '10 GiB' } },
      allowInsecure: false,
      workers: 1,
    })
  })

  it('accepts an empty file, and one with comments only', () => {
    expect(load('').findings).toEqual([])
    expect(load('# nothing\n').findings).toEqual([])
  })

  it('is frozen, deep down', () => {
    const { config } = loadConfig({ env: {} })
    expect(Object.isFrozen(config.ingest.grpc)).toBe(true)
  })

  it.each([
    ['ingest:\n  grcp:\n    listen: 0.0.0.0:9001\n', 'SC1204', /sidecast.yaml:2:3$/, 'did you mean `ingest.grpc`?'],
    ['statsd: {udp: "127.0.0.1:1"}\n', 'SC1204', /:1:1$/, 'it belongs to `ingest.statsd`'],
    ['http:\n  listen: 127.0.0.1:99999\n', 'SC1205', /:2:11$/, 'host:port'],
    ['retention: {rows: seven}\n', 'SC1205', /:1:19$/, 'a duration'],
    ['journal: {disk: {max: -3}}\n', 'SC1205', /:1:23$/, 'a size'],
    ['http: 8080\n', 'SC1205', /:1:7$/, 'put its keys under'],
    ['redaction: {query: hide}\n', 'SC1205', /:1:20$/, 'use one of values, all, none'],
    ['redaction: {headers: cookie}\n', 'SC1205', /:1:22$/, '[a, b]'],
    ['redaction: {headers: [""]}\n', 'SC1205', /:1:23$/, 'give a value'],
    ['allowInsecure: maybe\n', 'SC1205', /:1:16$/, 'true or false'],
    ['adapters: {prometheus: {seriesMax: 3}}\n', 'SC1205', /:1:36$/, 'from 100 to 10000000'],
    ['store: {clickhouse: {url: "localhost:8123"}}\n', 'SC1205', /:1:27$/, 'http://host:8123'],
    ['a: [\n', 'SC1202', /:\d+:\d+$/, 'correct the YAML'],
    ['data: x\ndata: y\n', 'SC1202', /:2:1$/, 'correct the YAML'],
    ['- a\n- b\n', 'SC1205', /:1:1$/, 'start with a key'],
    ['http:\n  listen: 0.0.0.0:8080\n', 'SC2103', /:2:11$/, 'allowInsecure: true'],
  ])('names file, line, column and fix of %j', (text, code, place, help) => {
    const { findings } = load(text)
    expect(findings).toHaveLength(1)
    expect(findings[0]).toMatchObject({ severity: 'error', code })
    expect(findings[0]!.place).toMatch(place)
    expect(findings[0]!.help).toContain(help)
    expect(formatFindings(findings)).toContain('^')
  })

  it('reports all errors of one run', () => {
    expect(load('nope: 1\nretention: {rows: x}\nworkers: "two"\n').findings.map((finding) => finding.code)).toEqual([
      'SC1204',
      'SC1205',
      'SC1205',
    ])
  })

  it('says which file cannot be read', () => {
    const { findings } = loadConfig({ file: '/nowhere/sidecast.yaml', env: {} })
    expect(findings).toMatchObject([
      { code: 'SC1201', place: '/nowhere/sidecast.yaml', message: expect.stringContaining('ENOENT') },
    ])
  })

  it('takes single values from --set, parsed as YAML, over the file', () => {
    const { config, findings } = load('http:\n  listen: 127.0.0.1:1\n', [
      'http.listen=127.0.0.1:0',
      'redaction.headers=[cookie, x-secret]',
      'rollup.keysMax=1000',
    ])
    expect(findings).toEqual([])
    expect(config.http.listen).toBe('127.0.0.1:0')
    expect(config.redaction.headers).toEqual(['cookie', 'x-secret'])
    expect(config.rollup.keysMax).toBe(1000)
  })

  it.each([
    ['http.listn=x', 'SC1204', '--set http.listn=x'],
    ['http.listen=x', 'SC1205', '--set http.listen=x'],
    ['http.listen', 'SC1206', '--set http.listen'],
    ['__proto__.polluted=1', 'SC1206', '--set __proto__.polluted=1'],
    ['data={', 'SC1206', '--set data={'],
  ])('names the option of a bad --set %s', (option, code, place) => {
    const { findings } = loadConfig({ set: [option], env: {} })
    expect(findings).toMatchObject([{ severity: 'error', code, place }])
  })

  it('ignores what this version cannot do, with a warning that names the option', () => {
    const { findings } = loadConfig({ set: ['workers=2'], env: {} })
    expect(findings).toMatchObject([{ severity: 'warning', code: 'SC2101', place: '--set workers=2' }])
  })

  it('takes rules that name what no proxy says, and refuses an expression that is none', () => {
    const { config, findings } = load(
      'identity:\n  rules:\n  - when: { cluster: "legacy_(.*)" }\n    set: { destination_service: $1 }\n',
    )
    expect(findings).toEqual([])
    expect(config.identity.rules).toEqual([{ when: { cluster: 'legacy_(.*)' }, set: { destination_service: '$1' } }])
    const [finding] = load('identity: { rules: [ { when: { cluster: "(" }, set: {} } ] }').findings
    expect(finding).toMatchObject({ path: 'identity.rules.0.when.cluster', code: 'SC1205' })
  })

  it('warns instead of refusing an open listener when allowInsecure is set', () => {
    const { findings } = load('allowInsecure: true\ningest: {grpc: {listen: "0.0.0.0:9001"}}\n')
    expect(findings).toMatchObject([{ severity: 'warning', code: 'SC2103' }])
  })

  it('fills in the environment, defaults and secret files', () => {
    const secret = file('hunter2\n')
    const dollar = '$'
    const text = `data: ${dollar}{WHERE}\nstore: {clickhouse: {username: "${dollar}{WHO:-reader}", password: "${dollar}{file:${secret}}"}}\n`
    const { config, findings } = load(text, [], { WHERE: '/srv/x' })
    expect(findings).toEqual([])
    expect(config.data).toBe('/srv/x')
    expect(config.store.clickhouse).toMatchObject({ username: 'reader', password: 'hunter2' })
  })

  it('refuses a variable that is not set, and never prints a secret', () => {
    const dollar = '$'
    expect(load(`data: ${dollar}{NOPE}\n`).findings).toMatchObject([
      { code: 'SC1205', help: expect.stringContaining('set NOPE') },
    ])
    const { findings } = load('store: {clickhouse: {password: [hunter2]}}\n')
    expect(findings[0]!.message).not.toContain('hunter2')
  })
})
