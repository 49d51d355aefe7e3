import {
  CHUNK_BYTES,
  type CounterFamily,
  type Exemplar,
  FAMILIES,
  type HistogramFamily,
  type Registry,
  seriesByFamily,
} from './families.ts'
import type { Labels } from './labels.ts'
import { OWN_FAMILIES, type OwnFamily, type OwnPoint } from './own-families.ts'
import { HISTOGRAMS } from './series.ts'

/**
 * Text 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats) and OpenMetrics 1.0
 * (github.com/prometheus/OpenMetrics), in parts; the caller lets other work run between them.
 */
export function* writeText(registry: Registry, openMetrics: boolean): Generator<string> {
  const byFamily = seriesByFamily(registry.table)
  const labels = createLabelTexts(registry)
  let out = ''
  for (const family of FAMILIES) {
    const all = byFamily[family.of]
    if (all.length === 0) continue
    out += openMetrics ? openMetricsHead(family) : textHead(family)
    const write = family.type === 'counter' ? counterLines : histogramLines
    for (const series of all) {
      out += write(registry, family as CounterFamily & HistogramFamily, series, labels(series), openMetrics)
      if (out.length < CHUNK_BYTES) continue
      yield out
      out = ''
    }
  }
  for (const part of ownText(registry, openMetrics)) {
    out += part
    if (out.length < CHUNK_BYTES) continue
    yield out
    out = ''
  }
  yield openMetrics ? `${out}# EOF\n` : out
}

/** Families beside Istio's, a series at a time. */
function* ownText(registry: Registry, openMetrics: boolean): Generator<string> {
  let last: Labels | undefined
  let text = ''
  for (const family of OWN_FAMILIES) {
    let head = openMetrics ? openMetricsHead(family) : textHead(family)
    for (const point of family.series(registry)) {
      if (point.labels !== last) {
        last = point.labels
        text = labelText(last)
      }
      const labels = point.more.length === 0 ? text : `${text},${labelText(point.more)}`
      yield head + ownLines(family, point, labels, registry.phaseBounds, openMetrics)
      head = ''
    }
  }
}

function ownLines(
  family: OwnFamily,
  { value, histogram, createdMs }: OwnPoint,
  labels: string,
  bounds: readonly number[],
  openMetrics: boolean,
): string {
  const created = openMetrics && createdMs > 0 ? createdLine(familyName(family), labels, createdMs) : ''
  if (histogram === null) return `${family.name}{${labels}} ${value}\n${created}`
  let out = ''
  let cumulative = 0
  histogram.classic(bounds).forEach((count, k) => {
    cumulative += count
    const bound = bounds[k]
    const le = bound === undefined ? '+Inf' : openMetrics ? openMetricsNumber(bound) : String(bound)
    out += `${family.name}_bucket{${labels},le="${le}"} ${cumulative}\n`
  })
  out += `${family.name}_sum{${labels}} ${histogram.sum / 1e9}\n${family.name}_count{${labels}} ${cumulative}\n`
  return out + created
}

type Head = Pick<OwnFamily, 'name' | 'help' | 'type'> & { readonly unit?: string }

function textHead(family: Head): string {
  return `# HELP ${family.name} ${family.help}\n# TYPE ${family.name} ${family.type}\n`
}

function openMetricsHead(family: Head): string {
  const name = familyName(family)
  const unit = family.unit === undefined ? '' : `# UNIT ${name} ${family.unit}\n`
  return `# TYPE ${name} ${family.type}\n${unit}# HELP ${name} ${family.help}\n`
}

function familyName(family: Head): string {
  return family.type === 'counter' ? family.name.slice(0, -'_total'.length) : family.name
}

function counterLines(
  { table }: Registry,
  family: CounterFamily,
  series: number,
  labels: string,
  openMetrics: boolean,
): string {
  const line = `${family.name}{${labels}} ${family.value(table, series)}\n`
  return openMetrics ? line + createdLine(familyName(family), labels, table.created[series]!) : line
}

function histogramLines(
  registry: Registry,
  family: HistogramFamily,
  series: number,
  labels: string,
  openMetrics: boolean,
): string {
  const { table, bounds, exemplars } = registry
  const head = `${family.name}_bucket{${labels},le="`
  let out = ''
  let cumulative = 0
  for (let k = 0; k <= bounds.length; k++) {
    cumulative += table.bucket(series, family.histogram, k)
    const bound = bounds[k]
    const le = bound === undefined ? '+Inf' : openMetrics ? openMetricsNumber(bound) : String(bound)
    out += `${head}${le}"} ${cumulative}`
    if (openMetrics && family.native) {
      const exemplar = exemplars.get(series * (bounds.length + 1) + k)
      if (exemplar !== undefined) out += exemplarText(exemplar)
    }
    out += '\n'
  }
  const sum = table.sums[series * HISTOGRAMS + family.histogram]! / family.scale
  out += `${family.name}_sum{${labels}} ${sum}\n${family.name}_count{${labels}} ${cumulative}\n`
  return openMetrics ? out + createdLine(family.name, labels, table.created[series]!) : out
}

function createdLine(name: string, labels: string, createdMs: number): string {
  return `${name}_created{${labels}} ${createdMs / 1000}\n`
}

function exemplarText(exemplar: Exemplar): string {
  return ` # {trace_id="${exemplar.traceId}"} ${exemplar.value} ${exemplar.time}`
}

/** As Go writes a float with `%g` and OpenMetrics wants it: `1.0`, `1.8e+06`. */
export function openMetricsNumber(value: number): string {
  if (value >= 1e21 || (Math.abs(value) >= 1e6 && Number.isInteger(value))) {
    const [mantissa, exponent = ''] = value.toExponential().split('e')
    return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
  }
  return Number.isInteger(value) ? `${value}.0` : String(value)
}

/** Label text of a series without braces. Series come sorted by identity, so the long part is made once for each. */
function createLabelTexts({ table }: Registry): (series: number) => string {
  let lastWho = Number.NaN
  let identity = ''
  return (series) => {
    const who = table.whoOfSeries(series)
    if (who !== lastWho) {
      identity = labelText(table.identityLabelsOf(who))
      lastWho = who
    }
    return `${identity},${labelText(table.answerLabelsOf(series))}`
  }
}

function labelText(labels: Labels): string {
  return labels.map(([name, value]) => `${name}="${escapeValue(value)}"`).join(',')
}

function escapeValue(value: string): string {
  return /[\\"\n]/.test(value)
    ? value.replace(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`))
    : value
}
