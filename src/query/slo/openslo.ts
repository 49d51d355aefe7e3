import { PHASES } from '../../model/phases.ts'
import { Problem } from '../problem.ts'
import { VIEWS, type View } from '../schemas.ts'
import { readDuration } from '../time.ts'
import { compileIndicator } from './compile.ts'
import { type Field, findingAt, plainText, readDocuments, type SloFinding, shownValue } from './field.ts'
import type { Indicator, Slo, SloOrigin } from './slo.ts'
import { burnThreshold, isReachable, tiersOf } from './windows.ts'

/**
 * OpenSLO files, version v1 (github.com/OpenSLO/OpenSLO). Of its kinds, SLO and SLI say what is counted; the others are
 * taken, and not looked at. A metric source of type `sidecast` holds conditions as `where` has them:
 *
 *   ratioMetric      total: {where, exclude, view}, and good: {where} or bad: {where}
 *   thresholdMetric  {where, exclude, view, measure, unit}; op and value stand in the objective
 */
export interface SloFile {
  /** Path of the file. */
  readonly name: string
  readonly text: string
  /** Who put it there; `file`: the configuration names it. */
  readonly origin?: SloOrigin
}

/** A document, whatever it is of. */
export interface SloDocument {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly kind: string
  /** `metadata.name`. */
  readonly name: string
}

export interface ReadSlos {
  /** In the order of the files; whole only where no finding is an error. */
  readonly slos: readonly Slo[]
  readonly findings: readonly SloFinding[]
  readonly documents: readonly SloDocument[]
}

export const SLOS_MAX = 1000
const OBJECTIVES_MAX = 10
const CONDITIONS_MAX = 20
const NAME = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/
const KINDS = ['SLO', 'SLI', 'Service', 'DataSource', 'AlertPolicy', 'AlertCondition', 'AlertNotificationTarget']
/** `where` of rows, in total; the rest of a period would have to be guessed. */
const PERIOD_HELP = 'write [{duration: 30d, isRolling: true}]; d, w, h and m are read'

export function readOpenSlo(files: readonly SloFile[]): ReadSlos {
  const findings: SloFinding[] = []
  const origins = new Map(files.map(({ name, origin = 'file' }) => [name, origin]))
  const documents = files.flatMap(({ name, text }) => readDocuments(name, text, findings))
  const ours = documents.filter(isOpenSlo)
  const indicators = new Map<string, Field>()
  for (const document of ours) {
    if (document.child('kind').value !== 'SLI') continue
    const name = nameOf(document)
    if (indicators.has(name)) document.child('metadata').wrong(`names ${name}, as another SLI does`, 'rename one')
    indicators.set(name, document.child('spec'))
  }
  const slos: Slo[] = []
  for (const document of ours) {
    if (document.child('kind').value === 'SLO') slos.push(...readSlo(document, indicators, origins.get(document.file)!))
  }
  const places = new Map<string, string>()
  for (const [k, { name, place }] of slos.entries()) {
    const other = places.get(name)
    const message =
      other !== undefined
        ? `there is another objective ${name}, ${other}`
        : k === SLOS_MAX
          ? `there are more than ${SLOS_MAX} objectives`
          : null
    if (message !== null) {
      const [, file, line] = /^(.*):(\d+)$/s.exec(place)!
      const at = { file: file!, line: Number(line), column: 1, field: 'metadata.name' }
      findings.push(findingAt({ severity: 'error', ...at, message, help: 'rename one, or take it out' }))
    }
    places.set(name, other ?? place)
  }
  return { slos, findings, documents: ours.map(documentOf) }
}

function documentOf(document: Field): SloDocument {
  const name = document.child('metadata').child('name')
  return {
    file: document.file,
    line: name.lineNumber,
    kind: plainText(document.child('kind').value),
    name: plainText(name.value),
  }
}

function isOpenSlo(document: Field): boolean {
  const kinds = ['apiVersion', 'kind', 'metadata', 'spec']
  if (!document.map(kinds)) return false
  const version = document.child('apiVersion')
  const kind = document.child('kind')
  if (version.value !== 'openslo/v1') {
    version.wrong(`is ${shownValue(version.value)}`, 'write apiVersion: openslo/v1')
    return false
  }
  if (!KINDS.includes(plainText(kind.value))) {
    kind.wrong(`is ${shownValue(kind.value)}`, `kinds are ${KINDS.join(', ')}`)
    return false
  }
  return true
}

const METADATA = ['name', 'displayName', 'labels', 'annotations']

function nameOf(document: Field): string {
  const metadata = document.child('metadata')
  if (!metadata.map(METADATA)) return ''
  const name = metadata.child('name')
  const text = name.text()
  if (text !== '' && !NAME.test(text)) {
    name.wrong('is not a name', 'lower-case letters, digits and dashes, at most 63 characters')
  }
  return text
}

const SPEC = [
  'description',
  'service',
  'indicator',
  'indicatorRef',
  'timeWindow',
  'budgetingMethod',
  'objectives',
  'alertPolicies',
]

function readSlo(document: Field, indicators: ReadonlyMap<string, Field>, origin: SloOrigin): Slo[] {
  const name = nameOf(document)
  const spec = document.child('spec')
  if (!spec.map(SPEC)) return []
  const method = spec.child('budgetingMethod')
  if (!method.isMissing && method.value !== 'Occurrences') {
    method.wrong(`is ${shownValue(method.value)}`, 'requests are counted: write Occurrences')
  }
  const policies = spec.child('alertPolicies')
  if (policies.items(100).length > 0) {
    policies.warn('are not evaluated', 'burn is compared in the windows that docs/slo.md lists')
  }
  const period = readPeriod(spec.child('timeWindow'))
  const sli = findIndicator(spec, indicators)
  const objectives = spec.child('objectives').items(OBJECTIVES_MAX)
  if (objectives.length === 0) spec.child('objectives').wrong('are missing', 'write [{target: 0.999}]')
  if (period === null || sli === null) return []
  if (!sli.child('thresholdMetric').isMissing && objectives.length > 1) {
    spec.child('objectives').wrong('are several for a thresholdMetric', 'write an SLO for each')
  }
  const metadata = document.child('metadata')
  return objectives.flatMap((objective, k): Slo[] => {
    const target = readTarget(objective)
    const indicator = readIndicator(sli, objective)
    if (target === null || indicator === null) return []
    for (const tier of tiersOf(period.ns)) {
      const threshold = burnThreshold(tier, period.ns)
      if (isReachable(threshold, target)) continue
      const burn = Number(threshold.toPrecision(3))
      objective.warn(
        `of ${target} cannot burn ${burn} times too fast`,
        `the ${tier.severity} of ${tier.long} never fires: all requests failing is a burn of ${(1 / (1 - target)).toPrecision(3)}`,
      )
    }
    return [
      {
        name: objectives.length === 1 ? name : `${name}-${k + 1}`,
        displayName: objective.child('displayName').optionalText() || metadata.child('displayName').optionalText(),
        description: spec.child('description').optionalText(),
        service: spec.child('service').optionalText(),
        labels: readLabels(metadata.child('labels')),
        target,
        period,
        indicator,
        document: name,
        origin,
        place: document.child('metadata').child('name').line,
      },
    ]
  })
}

function readLabels(labels: Field): Record<string, string> {
  if (labels.isMissing) return {}
  if (typeof labels.value !== 'object' || Array.isArray(labels.value)) {
    labels.wrong('are not a set of keys', 'write key: value')
    return {}
  }
  return Object.fromEntries(
    Object.entries(labels.value as object).map(([key, value]) => [
      key,
      Array.isArray(value) ? value.map(plainText).join(',') : plainText(value),
    ]),
  )
}

function readPeriod(windows: Field): Slo['period'] | null {
  const [window, ...more] = windows.items(10)
  if (window === undefined || more.length > 0) {
    windows.wrong('is not exactly one window', PERIOD_HELP)
    return null
  }
  if (!window.map(['duration', 'isRolling', 'calendar'])) return null
  if (window.child('isRolling').value !== true || !window.child('calendar').isMissing) {
    window.wrong('does not roll', `budgets of calendar months are not counted yet; ${PERIOD_HELP}`)
    return null
  }
  const duration = window.child('duration')
  const text = duration.text(10)
  // OpenSLO's units are case sensitive: m is a minute, M a month, whose length is not known.
  const ns = /^\d+[mhdw]$/.test(text) ? readDuration(text) : null
  if (ns === null || ns < readDuration('1h')! || ns > readDuration('366d')!) {
    duration.wrong('is not 1h to 366d', PERIOD_HELP)
    return null
  }
  return { text, ns }
}

function findIndicator(spec: Field, indicators: ReadonlyMap<string, Field>): Field | null {
  const [inline, reference] = [spec.child('indicator'), spec.child('indicatorRef')]
  if (inline.isMissing === reference.isMissing) {
    spec.wrong('has not exactly one of indicator and indicatorRef', 'write one of them')
    return null
  }
  if (!inline.isMissing) return inline.map(['metadata', 'spec', 'kind', 'apiVersion']) ? inline.child('spec') : null
  const sli = indicators.get(reference.text())
  if (sli === undefined) reference.wrong(`names no SLI of these files`, 'add a document of kind SLI')
  return sli ?? null
}

function readTarget(objective: Field): number | null {
  const keys = ['displayName', 'target', 'targetPercent', 'op', 'value', 'timeSliceTarget', 'timeSliceWindow']
  if (!objective.map([...keys, 'indicator', 'indicatorRef', 'compositeWeight'])) return null
  for (const key of keys.slice(5).concat('indicator', 'indicatorRef', 'compositeWeight')) {
    const field = objective.child(key)
    if (!field.isMissing) field.wrong('is not read', 'requests are counted one by one, for one indicator')
  }
  const [share, percent] = [objective.child('target'), objective.child('targetPercent')]
  if (share.isMissing === percent.isMissing) {
    objective.wrong('has not exactly one of target and targetPercent', 'write for example target: 0.999')
    return null
  }
  const field = share.isMissing ? percent : share
  // Twelve digits: 99.9 / 100 is not 0.999 otherwise.
  const target = Number((Number(field.value) / (share.isMissing ? 100 : 1)).toPrecision(12))
  if (typeof field.value === 'number' && target > 0 && target < 1) return target
  field.wrong('is not between 0 and all', share.isMissing ? 'write for example 99.9' : 'write for example 0.999')
  return null
}

// ---- indicators

function readIndicator(sli: Field, objective: Field): Indicator | null {
  if (!sli.map(['description', 'ratioMetric', 'thresholdMetric'])) return null
  const [ratio, threshold] = [sli.child('ratioMetric'), sli.child('thresholdMetric')]
  if (ratio.isMissing === threshold.isMissing) {
    sli.wrong('has not exactly one of ratioMetric and thresholdMetric', 'write one of them')
    return null
  }
  const indicator = ratio.isMissing ? readThreshold(threshold, objective) : readRatio(ratio, objective)
  if (indicator === null) return null
  try {
    compileIndicator(indicator)
    return indicator
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    sli.wrong(`has a condition that cannot be read: ${error.message}`, error.body().help ?? 'see docs/slo.md')
    return null
  }
}

function readRatio(ratio: Field, objective: Field): Indicator | null {
  for (const key of ['op', 'value']) {
    const field = objective.child(key)
    if (!field.isMissing) field.wrong('belongs to a thresholdMetric', 'leave it out')
  }
  if (!ratio.map(['counter', 'good', 'bad', 'total', 'raw', 'rawType'])) return null
  if (!ratio.child('raw').isMissing) {
    ratio.child('raw').wrong('is not read', 'write total, and good or bad')
    return null
  }
  const [good, bad] = [ratio.child('good'), ratio.child('bad')]
  if (good.isMissing === bad.isMissing) {
    ratio.wrong('has not exactly one of good and bad', 'write one of them')
    return null
  }
  const total = sourceSpec(ratio.child('total'), ['where', 'exclude', 'view'])
  const part = sourceSpec(good.isMissing ? bad : good, ['where'])
  if (total === null || part === null) return null
  const match = conditions(part.child('where'))
  if (match.length === 0) {
    part.wrong('has no condition', 'where: [class!=server_error], for example')
    return null
  }
  return { ...selection(total), match, matches: good.isMissing ? 'bad' : 'good' }
}

const OPERATORS: Readonly<Record<string, string>> = { lte: '<=', lt: '<', gte: '>=', gt: '>' }
const UNITS = ['ns', 'us', 'ms', 's']

/** Each request is a value; those that fulfil `op value` are good. */
function readThreshold(threshold: Field, objective: Field): Indicator | null {
  const spec = sourceSpec(threshold, ['where', 'exclude', 'view', 'measure', 'unit'])
  if (spec === null) return null
  const [measure, unit] = [spec.child('measure'), spec.child('unit')]
  const measured = measure.optionalText() || 'total'
  if (measured !== 'total' && !(PHASES as readonly string[]).includes(measured)) {
    measure.wrong('is nothing that is measured', `measured are total, ${PHASES.join(', ')}`)
    return null
  }
  const inUnit = unit.optionalText() || 'ms'
  if (!UNITS.includes(inUnit)) {
    unit.wrong('is no unit', `units are ${UNITS.join(', ')}`)
    return null
  }
  const [op, value] = [objective.child('op'), objective.child('value')]
  const named = plainText(op.value)
  const operator = Object.hasOwn(OPERATORS, named) ? OPERATORS[named] : undefined
  if (operator === undefined) {
    op.wrong(op.isMissing ? 'is missing' : 'is not an operator', `write one of ${Object.keys(OPERATORS).join(', ')}`)
    return null
  }
  const amount = value.value
  if (typeof amount !== 'number' || !(amount >= 0) || !/^\d+(?:\.\d+)?$/.test(String(amount))) {
    value.wrong('is not a number', `write the threshold in ${inUnit}`)
    return null
  }
  const column = measured === 'total' ? 'duration_ns' : `phase_${measured}_ns`
  return { ...selection(spec), match: [`${column}${operator}${amount}${inUnit}`], matches: 'good' }
}

/** The `spec` of a metric source of ours, with these keys. */
function sourceSpec(metric: Field, keys: readonly string[]): Field | null {
  if (!metric.map(['metricSource'])) return null
  const source = metric.child('metricSource')
  if (!source.map(['metricSourceRef', 'type', 'spec'])) return null
  const type = source.child('type')
  if (type.value !== 'sidecast') {
    type.wrong(`is ${shownValue(type.value)}`, 'requests are counted from rows: write type: sidecast')
    return null
  }
  const spec = source.child('spec')
  return spec.map(keys) ? spec : null
}

function selection(spec: Field): Pick<Indicator, 'total' | 'exclude' | 'view'> {
  const view = spec.child('view')
  const text = view.optionalText() || 'auto'
  if (!(VIEWS as readonly string[]).includes(text)) view.wrong('is no view', `views are ${VIEWS.join(', ')}`)
  return { total: conditions(spec.child('where')), exclude: conditions(spec.child('exclude')), view: text as View }
}

function conditions(list: Field): string[] {
  return list.items(CONDITIONS_MAX).map((item) => item.text(2000))
}
