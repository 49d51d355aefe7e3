import { type Aggregation, type Binary, COMPARISONS, type Expr, PromError, SETS, type Selector } from './ast.ts'
import { bucketQuantile, extreme, RANGE_FUNCTIONS } from './functions.ts'
import type { ReadSeries } from './read.ts'

/** Evaluates an expression at one time. */
export type Value =
  | { readonly type: 'scalar'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'vector'; readonly samples: VectorSample[] }
  | { readonly type: 'matrix'; readonly series: ReadSeries[] }

export interface VectorSample {
  readonly labels: ReadonlyMap<string, string>
  readonly value: number
}

export interface Evaluation {
  readonly atMs: number
  /** What a selector selects, at `atMs` of its own: its `offset` and `@` taken into account. */
  read(selector: Selector, atMs: number): Promise<ReadSeries[]>
}

export async function evaluate(expr: Expr, on: Evaluation): Promise<Value> {
  switch (expr.kind) {
    case 'number':
      return { type: 'scalar', value: expr.value }
    case 'string':
      return { type: 'string', value: expr.value }
    case 'selector': {
      const series = await on.read(expr, timeOf(expr, on))
      if (expr.rangeMs !== null) return { type: 'matrix', series }
      return vector(series.map(({ labels, samples }) => ({ labels, value: samples.at(-1)!.value })))
    }
    case 'unary': {
      const value = await evaluate(expr.expr, on)
      if (value.type === 'scalar') return { type: 'scalar', value: -value.value }
      return vector(vectorOf(value, 'unary -').map((one) => ({ labels: unnamed(one.labels), value: -one.value })))
    }
    case 'binary':
      return binary(expr, await evaluate(expr.left, on), await evaluate(expr.right, on))
    case 'aggregation':
      return await aggregate(expr, on)
    case 'call':
      return await call(expr.name, expr.args, on)
  }
}

const timeOf = ({ atMs, offsetMs }: Selector, on: Evaluation): number => (atMs ?? on.atMs) - offsetMs
const bad = (message: string): PromError => new PromError('bad_data', message)

function vector(samples: VectorSample[]): Value {
  return { type: 'vector', samples }
}

function vectorOf(value: Value, what: string): VectorSample[] {
  if (value.type !== 'vector') throw bad(`expected type instant vector in ${what}, got ${value.type}`)
  return value.samples
}

function scalarOf(value: Value, what: string): number {
  if (value.type !== 'scalar') throw bad(`expected type scalar in ${what}, got ${value.type}`)
  return value.value
}

function unnamed(labels: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const rest = new Map(labels)
  rest.delete('__name__')
  return rest
}

/** Labels as a text that is equal for equal sets. */
export function keyOf(labels: ReadonlyMap<string, string>): string {
  return JSON.stringify([...labels].filter(([, value]) => value !== '').sort(([a], [b]) => (a < b ? -1 : 1)))
}

const OPERATE: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
  '^': (a, b) => a ** b,
}
const COMPARE: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  '==': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '>': (a, b) => a > b,
  '<': (a, b) => a < b,
  '>=': (a, b) => a >= b,
  '<=': (a, b) => a <= b,
}

function binary(expr: Binary, left: Value, right: Value): Value {
  const { op, bool } = expr
  if ((SETS as readonly string[]).includes(op)) return sets(expr, vectorOf(left, op), vectorOf(right, op))
  const comparing = (COMPARISONS as readonly string[]).includes(op)
  if (left.type === 'scalar' && right.type === 'scalar') {
    if (comparing && !bool) throw bad('comparisons between scalars must use BOOL modifier')
    return {
      type: 'scalar',
      value: comparing ? Number(COMPARE[op]!(left.value, right.value)) : OPERATE[op]!(left.value, right.value),
    }
  }
  /** `kept` is the value of a comparison that holds. */
  const result = (labels: ReadonlyMap<string, string>, a: number, b: number, kept: number): VectorSample[] => {
    if (!comparing) return [{ labels: unnamed(labels), value: OPERATE[op]!(a, b) }]
    const holds = COMPARE[op]!(a, b)
    if (bool) return [{ labels: unnamed(labels), value: Number(holds) }]
    return holds ? [{ labels, value: kept }] : []
  }
  if (right.type === 'scalar') {
    return vector(vectorOf(left, op).flatMap((one) => result(one.labels, one.value, right.value, one.value)))
  }
  if (left.type === 'scalar') {
    return vector(vectorOf(right, op).flatMap((one) => result(one.labels, left.value, one.value, one.value)))
  }
  const others = byMatch(expr, vectorOf(right, op), 'right')
  const own = byMatch(expr, vectorOf(left, op), 'left')
  const samples: VectorSample[] = []
  for (const [key, one] of own) {
    const other = others.get(key)
    if (other === undefined) continue
    const matched = comparing && !bool ? one.labels : matchedLabels(expr, one.labels)
    samples.push(...result(matched, one.value, other.value, one.value))
  }
  return vector(samples)
}

function byMatch(expr: Binary, samples: readonly VectorSample[], side: string): Map<string, VectorSample> {
  const byKey = new Map<string, VectorSample>()
  for (const sample of samples) {
    const key = keyOf(matchedLabels(expr, sample.labels))
    if (byKey.has(key)) {
      throw new PromError(
        'execution',
        `found duplicate series for the match group ${key} on the ${side} hand-side of the operation`,
      )
    }
    byKey.set(key, sample)
  }
  return byKey
}

function matchedLabels({ on, labels: names }: Binary, labels: ReadonlyMap<string, string>): Map<string, string> {
  const keeps = (name: string) => (on ? names.includes(name) : name !== '__name__' && !names.includes(name))
  return new Map([...labels].filter(([name]) => keeps(name)))
}

function sets(expr: Binary, left: VectorSample[], right: VectorSample[]): Value {
  const keys = (samples: VectorSample[]) => new Set(samples.map(({ labels }) => keyOf(matchedLabels(expr, labels))))
  const within = (of: Set<string>) => (one: VectorSample) => of.has(keyOf(matchedLabels(expr, one.labels)))
  if (expr.op === 'and') return vector(left.filter(within(keys(right))))
  if (expr.op === 'unless') {
    const excluded = within(keys(right))
    return vector(left.filter((one) => !excluded(one)))
  }
  const present = within(keys(left))
  return vector([...left, ...right.filter((one) => !present(one))])
}

async function aggregate(expr: Aggregation, on: Evaluation): Promise<Value> {
  const samples = vectorOf(await evaluate(expr.expr, on), `aggregation ${expr.op}`)
  const count = expr.param === null ? 0 : Math.trunc(scalarOf(await evaluate(expr.param, on), `aggregation ${expr.op}`))
  const groups = new Map<string, { labels: ReadonlyMap<string, string>; members: VectorSample[] }>()
  for (const sample of samples) {
    const keeps = (name: string) =>
      expr.without ? name !== '__name__' && !expr.labels.includes(name) : expr.labels.includes(name)
    const labels = new Map([...sample.labels].filter(([name]) => keeps(name)))
    const key = keyOf(labels)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { labels, members: [sample] })
    else group.members.push(sample)
  }
  const all = [...groups.values()]
  if (expr.op === 'topk' || expr.op === 'bottomk') {
    return vector(all.flatMap(({ members }) => ranked(members, expr.op === 'topk').slice(0, Math.max(0, count))))
  }
  const fold = FOLDS[expr.op]
  return vector(all.map(({ labels, members }) => ({ labels, value: fold(members.map(({ value }) => value)) })))
}

const FOLDS: Readonly<Record<Exclude<Aggregation['op'], 'topk' | 'bottomk'>, (values: readonly number[]) => number>> = {
  sum: kahan,
  avg: (values) => kahan(values) / values.length,
  min: (values) => extreme(values, (a, b) => a < b),
  max: (values) => extreme(values, (a, b) => a > b),
  count: (values) => values.length,
  group: () => 1,
}

/** Kahan's sum with Neumaier's correction, as Prometheus adds. */
function kahan(values: readonly number[]): number {
  let sum = 0
  let lost = 0
  for (const value of values) {
    const next = sum + value
    if (Math.abs(sum) >= Math.abs(value)) lost += sum - next + value
    else lost += value - next + sum
    sum = next
  }
  return Number.isFinite(lost) ? sum + lost : sum
}

/** NaN is last either way. */
function ranked(samples: readonly VectorSample[], largest: boolean): VectorSample[] {
  return [...samples].sort((a, b) => {
    if (Number.isNaN(a.value) || Number.isNaN(b.value))
      return Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value))
    return largest ? b.value - a.value : a.value - b.value
  })
}

const MATH: Readonly<Record<string, (value: number) => number>> = {
  abs: Math.abs,
  ceil: Math.ceil,
  floor: Math.floor,
  exp: Math.exp,
  ln: Math.log,
  log2: Math.log2,
  log10: Math.log10,
  sqrt: Math.sqrt,
}

async function call(name: string, args: readonly Expr[], on: Evaluation): Promise<Value> {
  const needs = (count: number) => {
    if (args.length !== count) throw bad(`expected ${count} argument(s) in call to "${name}", got ${args.length}`)
  }
  const range = Object.hasOwn(RANGE_FUNCTIONS, name) ? RANGE_FUNCTIONS[name] : undefined
  if (range !== undefined) {
    needs(1)
    const [selector] = args as [Expr]
    if (selector.kind !== 'selector' || selector.rangeMs === null) {
      throw bad(`expected type range vector in call to function "${name}"`)
    }
    const toMs = timeOf(selector, on)
    const fromMs = toMs - selector.rangeMs
    const samples: VectorSample[] = []
    for (const series of await on.read(selector, toMs)) {
      const value = range(series.samples, fromMs, toMs)
      const labels = name === 'last_over_time' ? series.labels : unnamed(series.labels)
      if (value !== null) samples.push({ labels, value })
    }
    return vector(samples)
  }
  const math = Object.hasOwn(MATH, name) ? MATH[name] : undefined
  if (math !== undefined) {
    needs(1)
    const samples = vectorOf(await evaluate(args[0]!, on), `call to function "${name}"`)
    return vector(samples.map(({ labels, value }) => ({ labels: unnamed(labels), value: math(value) })))
  }
  switch (name) {
    case 'time':
      needs(0)
      return { type: 'scalar', value: on.atMs / 1000 }
    case 'vector':
      needs(1)
      return vector([{ labels: new Map(), value: scalarOf(await evaluate(args[0]!, on), 'call to function "vector"') }])
    case 'scalar': {
      needs(1)
      const samples = vectorOf(await evaluate(args[0]!, on), 'call to function "scalar"')
      return { type: 'scalar', value: samples.length === 1 ? samples[0]!.value : Number.NaN }
    }
    case 'histogram_quantile':
      needs(2)
      return histogramQuantile(
        scalarOf(await evaluate(args[0]!, on), 'call to function "histogram_quantile"'),
        vectorOf(await evaluate(args[1]!, on), 'call to function "histogram_quantile"'),
      )
    default:
      throw new PromError('execution', `function ${name} is not supported yet`)
  }
}

function histogramQuantile(q: number, samples: readonly VectorSample[]): Value {
  const groups = new Map<string, { labels: Map<string, string>; buckets: { le: number; count: number }[] }>()
  for (const { labels, value } of samples) {
    const le = labels.get('le')
    if (le === undefined) continue
    const bound = le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le)
    if (Number.isNaN(bound)) continue
    const rest = new Map(unnamed(labels))
    rest.delete('le')
    const key = keyOf(rest)
    const group = groups.get(key) ?? { labels: rest, buckets: [] }
    groups.set(key, group)
    group.buckets.push({ le: bound, count: value })
  }
  return vector([...groups.values()].map(({ labels, buckets }) => ({ labels, value: bucketQuantile(q, buckets) })))
}
