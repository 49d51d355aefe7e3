import { parseArgs } from 'node:util'

/**
 * How often a row is rewritten by merges, and how many parts a day has, by `merge_selector_base` and size of what comes in:
 * the rule by which the engine picks what to merge (its "Simple" selector), with merges that take no time. It is what
 * `merge_selector_base` of the row tables was chosen by: the engine itself would have to be watched for hours.
 *
 *     node bench/merges.ts [--seconds 7200] [--bases 5,12,30]
 *
 * One part a second. JSON, a line for each base and size.
 */
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '7200' },
    bases: { type: 'string', default: '5,12,20,30,40,60' },
    /** MiB of a part: 160 000, 20 000 and 2000 rows. */
    sizes: { type: 'string', default: '16,2,0.2' },
  },
})
const MIB = 1024 ** 2
/** What a part counts for beside its bytes. */
const PART_BYTES = 5 * MIB
const PARTS_AT_ONCE = 100
const MERGES_AT_ONCE = 2

interface Part {
  readonly bytes: number
  /** Second it was made in. */
  readonly born: number
}
interface Range {
  readonly from: number
  readonly to: number
  readonly bytes: number
  readonly most: number
  /** Of its youngest part, s. */
  readonly age: number
}

const between = (from: number, to: number, share: number): number => from + (to - from) * share
const share = (value: number, from: number, to: number): number =>
  Math.min(1, Math.max(0, (value - from) / (to - from)))

/** The base falls to 2 with the number of parts, and with age: in an hour where parts are small, in 30 days otherwise. */
function worthIt({ from, to, bytes, most, age }: Range, parts: number, base: number): boolean {
  const size = share(Math.log1p(bytes), Math.log1p(MIB), Math.log1p(100 * MIB))
  const old = share(age, 10, between(3600, 30 * 86_400, size))
  const many = share(parts, 10, 50)
  const lowered = between(base, 2, Math.min(1, old + many))
  return (bytes + (to - from) * PART_BYTES) / (most + PART_BYTES) >= lowered
}

function pick(parts: readonly Part[], now: number, base: number): Range | undefined {
  let best: { readonly range: Range; readonly score: number } | undefined
  for (let from = 0; from < parts.length; from++) {
    let [bytes, most, age] = [0, 0, Number.POSITIVE_INFINITY]
    for (let to = from + 1; to <= Math.min(parts.length, from + PARTS_AT_ONCE); to++) {
      const part = parts[to - 1]!
      bytes += part.bytes
      most = Math.max(most, part.bytes)
      age = Math.min(age, now - part.born)
      const range: Range = { from, to, bytes, most, age }
      if (to - from < 2 || !worthIt(range, parts.length, base)) continue
      const score = ((bytes + (to - from) * PART_BYTES) / (to - from - 1.9)) * aligned(parts[from - 1]?.bytes, bytes)
      if (best === undefined || score < best.score) best = { range: withoutSmall(range, parts), score }
    }
  }
  return best?.range
}

/** Better by a quarter at most where the result is as large as the part to its left. */
function aligned(left: number | undefined, bytes: number): number {
  if (left === undefined || left <= 0.9 * bytes) return 1
  return between(0.75, 1, share(Math.abs(Math.log2(bytes / left)), 0, 0.5))
}

function withoutSmall(range: Range, parts: readonly Part[]): Range {
  let { to } = range
  while (to >= range.from + 3 && parts[to - 1]!.bytes < 0.01 * range.bytes) to--
  return { ...range, to }
}

for (const mib of values.sizes.split(',').map(Number)) {
  for (const base of values.bases.split(',').map(Number)) {
    const parts: Part[] = []
    const seconds = Number(values.seconds)
    let [rewritten, most, sum] = [0, 0, 0]
    const rewrites: Record<number, number> = {}
    for (let second = 1; second <= seconds; second++) {
      parts.push({ bytes: mib * MIB, born: second })
      most = Math.max(most, parts.length)
      for (let k = 0; k < MERGES_AT_ONCE; k++) {
        const range = pick(parts, second, base)
        if (range === undefined) break
        const merged = parts.slice(range.from, range.to)
        const bytes = merged.reduce((total, part) => total + part.bytes, 0)
        parts.splice(range.from, merged.length, { bytes, born: second })
        rewritten += bytes
      }
      sum += parts.length
      if ([20, 100, 400, 1800, seconds].includes(second)) {
        rewrites[second] = Number((rewritten / (second * mib * MIB)).toFixed(2))
      }
    }
    console.log(
      JSON.stringify({
        bench: 'merges',
        mib,
        base,
        rewritesAfterSeconds: rewrites,
        parts: { average: Math.round(sum / seconds), most },
      }),
    )
  }
}
