import { readdirSync, readFileSync } from 'node:fs'
import { AccessEntry } from '../../src/ingest/entry/entry.ts'
import { createPreset, PRESET_NAMES } from '../../src/ingest/lines/presets/index.ts'
import { createUnwrapper } from '../../src/ingest/lines/unwrap/index.ts'
import { seededRandom } from '../../src/lib/random.ts'
import type { MutationRound, MutationRoundReport } from './mutation-campaign.ts'

const FIXTURES = new URL('../fixtures/lines/', import.meta.url)
/** CPU time of a line of a hundred kilobytes through all forms; one of ordinary length takes microseconds. */
const LINE_MS_MAX = 250
const ENVELOPES: readonly ((line: string) => string)[] = [
  (line) => line,
  (line) => `2026-01-01T00:00:00.25Z stdout F ${line}`,
  (line) => `2026-01-01T00:00:00.25Z stderr P ${line}`,
  (line) => JSON.stringify({ log: `${line}\n`, stream: 'stdout', time: '2026-01-01T00:00:00.25Z' }),
  (line) => JSON.stringify({ message: line, kubernetes: { pod: { name: 'web-1' }, namespace: 'shop' } }),
  (line) => `<134>1 2026-01-01T00:00:00Z edge-1 envoy 7 ID [x@1 a="b\\"c"] ${line}`,
  (line) => `<134>Jan  1 00:00:00 edge-1 envoy[7]: ${line}`,
  (line) => `[pod/web-1/envoy] 2026-01-01T00:00:00Z ${line}`,
  (line) => `envoy-1  | ${line}`,
]
const PIECES = [
  ...['"', '\\', '-', ' ', '{', '}', '[', ']', '%', '\0', '\u00e4', '\ud800', '\t', '0', ',', ':', '='],
  ...['\x1b[31m', '"-" ', ' {', 'null', '1e999'],
]
const SOUND =
  '[2026-01-01T00:00:00.250Z] "GET /v1/x HTTP/1.1" 200 - 0 5 3 2 "-" "curl" "id-1" "api.example" "10.0.0.7:8080"'

/**
 * Damaged lines of every preset in every envelope, through the unwrapper, `auto` and a preset by name: nothing throws,
 * nothing takes long, and a sound line after them says what it always says.
 */
export function createPresetMutationRun(): (round: MutationRound) => MutationRoundReport {
  const lines = readdirSync(FIXTURES)
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) => readFileSync(new URL(name, FIXTURES), 'utf8').trimEnd().split('\n'))
    .map((row) => (JSON.parse(row) as { line: string }).line)
  const unwrapper = createUnwrapper()
  const auto = createPreset('auto')!
  const presets = PRESET_NAMES.map((name) => createPreset(name)!)
  const entry = new AccessEntry()

  return ({ seed, count, onMessage }) => {
    const random = seededRandom(seed)
    const below = (limit: number): number => Math.floor(random() * limit)
    const damaged = (): string => {
      let line = ENVELOPES[below(ENVELOPES.length)]!(lines[below(lines.length)]!)
      for (let change = below(4); change >= 0; change--) {
        const at = below(line.length + 1)
        const times = below(2000) === 0 ? 20_000 : below(10) === 0 ? 40 : 1
        const piece = PIECES[below(PIECES.length)]!.repeat(times)
        line = below(6) === 0 ? line.slice(0, at) : line.slice(0, at) + piece + line.slice(at + below(4))
      }
      return line
    }
    const report = { rejected: 0, compared: 0, failure: null as string | null }
    for (let k = 0; k < count; k++) {
      onMessage(k)
      const line = damaged()
      const from = cpuMs()
      try {
        const unwrapped = unwrapper.unwrap(line)
        for (const parser of [auto, presets[k % presets.length]!]) {
          if (unwrapped !== null && parser.parse(unwrapped.text, entry) !== null) report.rejected++
          entry.reset()
        }
        if (k % 64 === 0) {
          report.compared++
          const sound = auto.parse(SOUND, entry) === null && entry.code === 200 && entry.requestId === 'id-1'
          if (!sound) report.failure = 'a sound line after it is read wrongly'
          entry.reset()
        }
      } catch (error) {
        report.failure = String(error)
      }
      const ms = cpuMs() - from
      if (ms > LINE_MS_MAX) report.failure ??= `${ms.toFixed(0)} ms of CPU`
      if (report.failure !== null) {
        report.failure = `seed ${seed}, line ${k}: ${report.failure}: ${JSON.stringify(line.slice(0, 2000))}`
        break
      }
    }
    return report
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
