import { type EnvoyNames, envoyName, sanitise } from '../../metrics/envoy-names.ts'
import type { Label } from '../../metrics/store.ts'

/** What a metric of OTLP is called here. */
export interface MetricName {
  readonly name: string
  readonly labels: readonly Label[]
}

/**
 * Envoy's stats: `[prefix.]<tag-extracted name>` with tags as attributes, or the full name and no attributes, or both,
 * by the options of its sink. They get the name that Envoy shows at `/stats/prometheus`.
 */
export function envoyMetricName(
  names: EnvoyNames,
  prefix: string,
  name: string,
  attributes: readonly Label[],
): MetricName {
  const stat = prefix !== '' && name.startsWith(`${prefix}.`) ? name.slice(prefix.length + 1) : name
  if (attributes.length === 0) return names.ofStat(stat)
  const extracted = names.ofStat(stat)
  if (extracted.labels.length === 0) return envoyName(stat, attributes)
  // A full name holds every tag; a tag-extracted one that merely looks like one does not hold their values.
  const full = attributes.every(([tag, value]) => {
    const label = sanitise(tag)
    return extracted.labels.some((found) => found[0] === label && found[1] === value)
  })
  return full ? extracted : envoyName(stat, attributes)
}

/**
 * What Prometheus itself calls a metric that it takes by OTLP: valid characters, the unit, `_total` behind counters.
 * https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus
 */
export function prometheusName(name: string, unit: string, kind: 'counter' | 'gauge' | 'other'): string {
  const words = name.split(/[^a-zA-Z0-9:]+/).filter((word) => word !== '')
  const [per, over] = unitWords(unit)
  for (const word of [per, over === '' ? '' : `per_${over}`]) {
    if (word !== '' && !endsWith(words, word)) words.push(...word.split('_'))
  }
  if (unit === '1' && kind === 'gauge' && !words.includes('ratio')) words.push('ratio')
  const plain = kind === 'counter' ? words.filter((word) => word !== 'total') : words
  if (kind === 'counter') plain.push('total')
  const joined = plain.join('_')
  return /^\d/.test(joined) || joined === '' ? `_${joined}` : joined
}

function endsWith(words: readonly string[], suffix: string): boolean {
  const parts = suffix.split('_')
  return parts.every((part, k) => words.at(k - parts.length) === part)
}

/** UCUM, as far as Prometheus spells it out. */
const UNITS: Readonly<Record<string, string>> = {
  d: 'days',
  h: 'hours',
  min: 'minutes',
  s: 'seconds',
  ms: 'milliseconds',
  us: 'microseconds',
  ns: 'nanoseconds',
  By: 'bytes',
  KiBy: 'kibibytes',
  MiBy: 'mebibytes',
  GiBy: 'gibibytes',
  TiBy: 'tibibytes',
  KBy: 'kilobytes',
  MBy: 'megabytes',
  GBy: 'gigabytes',
  TBy: 'terabytes',
  m: 'meters',
  V: 'volts',
  A: 'amperes',
  J: 'joules',
  W: 'watts',
  g: 'grams',
  Cel: 'celsius',
  Hz: 'hertz',
  '1': '',
  '%': 'percent',
}
const PER: Readonly<Record<string, string>> = {
  s: 'second',
  m: 'minute',
  min: 'minute',
  h: 'hour',
  d: 'day',
  w: 'week',
  mo: 'month',
  y: 'year',
}

/** What is measured, and per what. Words in braces are remarks. */
function unitWords(unit: string): [string, string] {
  const [of = '', per = ''] = unit.replace(/\{[^}]*\}/g, '').split('/')
  const word = (text: string, known: Readonly<Record<string, string>>): string => {
    const trimmed = text.trim()
    const found = Object.hasOwn(known, trimmed) ? known[trimmed]! : trimmed
    return found.replace(/[^a-zA-Z0-9]+/g, '_').replace(/^_+|_+$/g, '')
  }
  return [word(of, UNITS), word(per, PER)]
}
