import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { openSlos } from '../../../src/query/slo/book.ts'
import { readOpenSlo } from '../../../src/query/slo/openslo.ts'
import { silentLog } from '../../../src/telemetry/log.ts'

const SLI = `apiVersion: openslo/v1
kind: SLI
metadata: { name: fast }
spec:
  ratioMetric:
    total: { metricSource: { type: sidecast, spec: { where: [destination_service=cart], exclude: ['path=/healthz'], view: server } } }
    good: { metricSource: { type: sidecast, spec: { where: ['duration_ns<=250ms'] } } }
`
const SLO = `apiVersion: openslo/v1
kind: SLO
metadata:
  name: cart
  displayName: Cart
  labels: { team: [a, b] }
spec:
  service: shop
  indicatorRef: fast
  timeWindow: [{ duration: 4w, isRolling: true }]
  budgetingMethod: Occurrences
  objectives:
    - target: 0.99
`
const read = (...texts: string[]) => readOpenSlo(texts.map((text, k) => ({ name: `f${k}.yaml`, text })))
const threshold = (spec: string, objective: string) =>
  SLO.replace(
    '  indicatorRef: fast\n',
    `  indicator: { metadata: { name: x }, spec: { thresholdMetric: { metricSource: { type: sidecast, spec: ${spec} } } } }\n`,
  ).replace('    - target: 0.99\n', `    - ${objective}\n`)

describe('an OpenSLO file', () => {
  it('says what is counted, in one document or several, in any order', () => {
    const { slos, findings } = read(
      SLO,
      `${SLI}---\napiVersion: openslo/v1\nkind: Service\nmetadata: { name: shop }\nspec: {}\n`,
    )
    expect(findings).toEqual([])
    expect(slos).toEqual([
      {
        name: 'cart',
        displayName: 'Cart',
        description: '',
        service: 'shop',
        labels: { team: 'a,b' },
        target: 0.99,
        period: { text: '4w', ns: 28n * 86_400n * 1_000_000_000n },
        indicator: {
          total: ['destination_service=cart'],
          exclude: ['path=/healthz'],
          match: ['duration_ns<=250ms'],
          matches: 'good',
          view: 'server',
        },
        document: 'cart',
        origin: 'file',
        place: 'f0.yaml:4',
      },
    ])
  })

  it('makes an objective of each target, and percent of hundredths', () => {
    const { slos, findings } = read(
      SLI,
      SLO.replace(
        '    - target: 0.99\n',
        '    - { target: 0.9 }\n    - { targetPercent: 99.9, displayName: Strict }\n',
      ),
    )
    expect(findings.filter(({ severity }) => severity === 'error')).toEqual([])
    expect(slos.map(({ name, target, displayName }) => [name, target, displayName])).toEqual([
      ['cart-1', 0.9, 'Cart'],
      ['cart-2', 0.999, 'Strict'],
    ])
  })

  it('measures durations and phases against a value', () => {
    const [slo] = read(threshold('{}', '{ op: lte, value: 0.25, target: 0.9 }')).slos
    expect(slo!.indicator).toMatchObject({ match: ['duration_ns<=0.25ms'], matches: 'good', total: [], view: 'auto' })
    const phase = read(threshold('{ measure: upstream_wait, unit: s }', '{ op: gt, value: 2, target: 0.9 }'))
    expect(phase.slos[0]!.indicator.match).toEqual(['phase_upstream_wait_ns>2s'])
  })

  const wrong: [string, string, string][] = [
    [
      'a misspelt key',
      SLO.replace('budgetingMethod', 'budgetMethod'),
      'f0.yaml:11:3  `spec.budgetMethod` is not known',
    ],
    ['another version', SLO.replace('openslo/v1', 'openslo/v2alpha'), 'f0.yaml:1:1  `apiVersion` is "openslo/v2alpha"'],
    ['a name that is none', SLO.replace('name: cart', 'name: Cart_1'), 'f0.yaml:4:3  `metadata.name` is not a name'],
    [
      'slices of time',
      SLO.replace('Occurrences', 'Timeslices'),
      'f0.yaml:11:3  `spec.budgetingMethod` is "Timeslices"',
    ],
    [
      'an indicator that is not there',
      SLO.replace('fast', 'slow'),
      'f0.yaml:9:3  `spec.indicatorRef` names no SLI of these files',
    ],
    ['a month', SLO.replace('4w', '1M'), 'f0.yaml:10:18  `spec.timeWindow[0].duration` is not 1h to 366d'],
    [
      'a calendar',
      SLO.replace('isRolling: true', 'isRolling: false'),
      'f0.yaml:10:16  `spec.timeWindow[0]` does not roll',
    ],
    ['a target of all', SLO.replace('0.99', '1'), 'f0.yaml:13:7  `spec.objectives[0].target` is not between 0 and all'],
    [
      'no target',
      SLO.replace('target: 0.99', 'displayName: x'),
      'f0.yaml:13:7  `spec.objectives[0]` has not exactly one of target and targetPercent',
    ],
    [
      'an operator that is none',
      threshold('{}', '{ op: eq, value: 2, target: 0.9 }'),
      'f0.yaml:13:9  `spec.objectives[0].op` is not an operator',
    ],
    [
      'a measure that is none',
      threshold('{ measure: size }', '{ op: lt, value: 2, target: 0.9 }'),
      'f0.yaml:9:106  `spec.indicator.spec.thresholdMetric.metricSource.spec.measure` is nothing that is measured',
    ],
    [
      'no YAML',
      'a: [',
      'f0.yaml:1:5  not YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
  ]
  for (const [what, text, expected] of wrong) {
    it(`with ${what} is refused, and where is said`, () => {
      const errors = read(text, SLI).findings.filter(({ severity }) => severity === 'error')
      expect(errors.map(({ place, message }) => `${place}  ${message}`)[0]).toBe(expected)
      expect(errors[0]!.help).not.toBe('')
    })
  }

  it('with a condition that cannot be read, a foreign source, or no condition is refused', () => {
    const messages = (text: string) => read(SLO, text).findings.map(({ message }) => message)
    expect(messages(SLI.replace('duration_ns', 'duration'))).toEqual([
      '`spec` has a condition that cannot be read: there is no column "duration"',
    ])
    expect(messages(SLI.replace('type: sidecast', 'type: prometheus'))).toEqual([
      '`spec.ratioMetric.total.metricSource.type` is "prometheus"',
    ])
    expect(messages(SLI.replace("['duration_ns<=250ms']", '[]'))).toEqual([
      '`spec.ratioMetric.good.metricSource.spec` has no condition',
    ])
  })

  it('names an objective twice, and is refused', () => {
    expect(read(SLI, SLO, SLO).findings).toMatchObject([
      { place: 'f2.yaml:4:1', message: 'there is another objective cart, f1.yaml:4' },
    ])
  })

  it('whose alerts can never fire is warned of', () => {
    const { slos, findings } = read(SLI, SLO.replace('0.99', '0.9'))
    expect(slos).toHaveLength(1)
    expect(findings).toMatchObject([
      { severity: 'warning', message: '`spec.objectives[0]` of 0.9 cannot burn 13.4 times too fast' },
    ])
  })
})

describe('the files of slo.files', () => {
  it('are read from folders, and again; what is wrong leaves what was there', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sidecast-slo-'))
    onTestFinished(() => rm(dir, { recursive: true }))
    await writeFile(join(dir, 'a.yaml'), SLI)
    await writeFile(join(dir, 'b.yml'), SLO)
    await writeFile(join(dir, 'notes.txt'), 'not read')
    const book = await openSlos({ files: [dir], log: silentLog })
    expect(book.slos().map(({ name }) => name)).toEqual(['cart'])
    await writeFile(join(dir, 'b.yml'), SLO.replace('name: cart', 'name: basket'))
    const takeOver = await book.prepare([dir])
    expect(book.slos().map(({ name }) => name)).toEqual(['cart'])
    takeOver()
    expect(book.slos().map(({ name }) => name)).toEqual(['basket'])
    await writeFile(join(dir, 'b.yml'), 'kind: SLO')
    await expect(book.prepare([dir])).rejects.toMatchObject({
      code: 'SC1208',
      message: expect.stringContaining('b.yml:1:1'),
    })
    await expect(book.prepare([join(dir, 'none')])).rejects.toMatchObject({ code: 'SC1208' })
    expect(book.slos().map(({ name }) => name)).toEqual(['basket'])
  })
})
