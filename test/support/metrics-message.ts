import { bytes, message, number, type Part } from './wire.ts'

/** Writes `StreamMetricsMessage` for tests. */
export interface FamilyParts {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'summary' | 'untyped' | 'histogram'
  readonly labels?: readonly (readonly [string, string])[]
  readonly value?: number
  readonly timestampMs?: number
  readonly count?: number
  readonly sum?: number
  /** Bound and cumulative count, or quantile and value. */
  readonly points?: readonly (readonly [number, number])[]
}

const TYPES = { counter: 0, gauge: 1, summary: 2, untyped: 3, histogram: 4 } as const

export function metricsMessage(families: readonly FamilyParts[], identifier?: Uint8Array): Uint8Array {
  const parts: Part[] = identifier === undefined ? [] : [bytes(1, identifier)]
  return message(...parts, ...families.map((family) => bytes(2, metricFamily(family))))
}

export function metricFamily(family: FamilyParts): Uint8Array {
  const { name, type, labels = [], value = 0, timestampMs = 0 } = family
  const metric: Part[] = labels.map(([label, text]) => bytes(1, message(bytes(1, label), bytes(2, text))))
  if (type === 'counter') metric.push(bytes(3, double(1, value)))
  else if (type === 'gauge') metric.push(bytes(2, double(1, value)))
  else if (type === 'untyped') metric.push(bytes(5, double(1, value)))
  else metric.push(bytes(type === 'summary' ? 4 : 7, distribution(family)))
  if (timestampMs > 0) metric.push(number(6, timestampMs))
  return message(bytes(1, name), number(3, TYPES[type]), bytes(4, message(...metric)))
}

function distribution({ type, count = 0, sum = 0, points = [] }: FamilyParts): Uint8Array {
  return message(
    number(1, count),
    double(2, sum),
    ...points.map(([at, of]) =>
      bytes(3, type === 'summary' ? message(double(1, at), double(2, of)) : message(number(1, of), double(2, at))),
    ),
  )
}

function double(field: number, value: number): Part {
  const part = Buffer.alloc(9)
  part[0] = field * 8 + 1
  part.writeDoubleLE(value, 1)
  return part
}
