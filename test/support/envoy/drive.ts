import { seededRandom } from '../../../src/lib/random.ts'
import type { AccessLogLine } from './access-log.ts'
import type { Seen } from './clients.ts'
import type { Rig } from './rig.ts'
import { type Expected, SCENARIOS, type Scenario } from './scenarios.ts'

/** Sends traffic through a rig: every scenario once, to check each; or a seeded mix of thousands, to count. */
export interface DriveOptions {
  readonly rig: Pick<Rig, 'ports' | 'dir'>
  readonly scenarios?: readonly Scenario[]
  /** Scenarios to run in all; some send more than one request. */
  readonly n: number
  /** The same seed gives the same scenarios in the same order. */
  readonly seed: number
  /** Scenarios in flight. */
  readonly concurrency?: number
}

export interface Driven {
  readonly scenario: Scenario
  readonly seen: readonly Seen[]
}

/**
 * Runs `n` scenarios drawn by weight. Those that change the whole Envoy run alone, after the others; they take a second
 * each, so there is one of each at most.
 */
export async function drive(options: DriveOptions): Promise<Driven[]> {
  const { rig, scenarios = SCENARIOS, n, seed, concurrency = 192 } = options
  const alone = scenarios.filter((scenario) => scenario.alone).slice(0, n)
  const plan = draw(
    scenarios.filter((scenario) => !scenario.alone),
    n - alone.length,
    seed,
  )
  const driven = await inParallel(plan, concurrency, (scenario, i) => once(rig, scenario, String(i)))
  driven.push(...(await inParallel(alone, 1, (scenario, i) => once(rig, scenario, String(plan.length + i)))))
  return driven
}

/** Runs every scenario `times` times. One scenario never runs beside itself, so each outcome is the expected one. */
export async function driveEach(
  rig: Pick<Rig, 'ports' | 'dir'>,
  { only, times = 1, concurrency = 24 }: { only?: readonly string[]; times?: number; concurrency?: number } = {},
): Promise<Driven[]> {
  const chosen = SCENARIOS.filter((scenario) => only === undefined || only.includes(scenario.name))
  const repeat = async (scenario: Scenario): Promise<Driven> => {
    const seen: Seen[] = []
    for (let i = 0; i < times; i++) seen.push(...(await once(rig, scenario, String(i))).seen)
    return { scenario, seen }
  }
  const together = chosen.filter((scenario) => !scenario.alone)
  const driven = await inParallel(together, concurrency, repeat)
  driven.push(
    ...(await inParallel(
      chosen.filter((scenario) => scenario.alone),
      1,
      repeat,
    )),
  )
  return driven
}

/** Compares what `driveEach` saw, and what Envoy logged, with what the scenarios promise. One text per difference. */
export function differences(driven: readonly Driven[], lines: readonly AccessLogLine[], times = 1): string[] {
  return driven.flatMap(({ scenario, seen }) => {
    const repeated = <T>(first: readonly T[], later: readonly T[]): T[] => [
      ...first,
      ...Array.from({ length: times - 1 }, () => later).flat(),
    ]
    const codes = seen.map((one) => one.code)
    const expectedCodes = repeated(scenario.client, scenario.again?.client ?? scenario.client)
    const found: string[] = []
    if (sorted(codes) !== sorted(expectedCodes)) {
      found.push(`${scenario.name}: the client saw ${sorted(codes)}, expected ${sorted(expectedCodes)}`)
    }
    const logged = entriesOf({ scenario, seen }, lines)
    if (scenario.log === null) {
      if (logged.length === 0) found.push(`${scenario.name}: nothing was logged`)
      return found
    }
    const rest = [...logged]
    for (const expected of repeated(scenario.log, scenario.again?.log ?? scenario.log)) {
      const i = rest.findIndex((line) => matches(expected, line))
      if (i < 0) found.push(`${scenario.name}: no entry ${print(expected)}`)
      else rest.splice(i, 1)
    }
    return [...found, ...rest.map((line) => `${scenario.name}: unexpected entry ${print(summary(line))}`)]
  })
}

/** Log lines of a scenario. By port, lines that name another scenario do not count: a port number can come back. */
export function entriesOf({ scenario, seen }: Driven, lines: readonly AccessLogLine[]): AccessLogLine[] {
  const clientPorts = new Set(seen.map((one) => String(one.clientPort)))
  return lines.filter(
    (line) =>
      line.scenario === scenario.name ||
      (scenario.join === 'port' &&
        line.scenario === null &&
        clientPorts.has(String(line.downstream).split(':').at(-1) ?? '')),
  )
}

async function once(rig: Pick<Rig, 'ports' | 'dir'>, scenario: Scenario, seq: string): Promise<Driven> {
  return { scenario, seen: await scenario.run({ ports: rig.ports, dir: rig.dir, name: scenario.name, seq }) }
}

async function inParallel<T, R>(
  items: readonly T[],
  concurrency: number,
  run: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length)
  let next = 0
  const lane = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await run(items[i]!, i)
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, lane))
  return results
}

/** `n` scenarios by weight. Every scenario comes at least once when `n` allows it. */
function draw(scenarios: readonly Scenario[], n: number, seed: number): Scenario[] {
  const random = seededRandom(seed)
  const total = scenarios.reduce((sum, scenario) => sum + scenario.weight, 0)
  const one = (): Scenario => {
    let at = random() * total
    for (const scenario of scenarios) {
      at -= scenario.weight
      if (at < 0) return scenario
    }
    return scenarios.at(-1)!
  }
  const plan = Array.from({ length: n }, (_, i) => (i < scenarios.length ? scenarios[i]! : one()))
  for (let i = plan.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[plan[i], plan[j]] = [plan[j]!, plan[i]!]
  }
  return plan
}

function summary(line: AccessLogLine): Expected {
  return {
    type: line.access_log_type,
    code: line.response_code,
    flags: line.response_flags ?? '-',
    details: line.response_code_details ?? line.connection_termination_details ?? '-',
  }
}

function matches(expected: Expected, line: AccessLogLine): boolean {
  const got = summary(line)
  const flags = (text: string) => text.split(',').sort().join(',')
  return (
    expected.type === got.type &&
    expected.code === got.code &&
    (expected.flags === '*' || flags(expected.flags) === flags(got.flags)) &&
    (expected.details === '*' || expected.details === got.details)
  )
}

function print({ type, code, flags, details }: Expected): string {
  return `${type} ${code} ${flags} ${details}`
}

function sorted(codes: readonly (number | null)[]): string {
  return codes
    .map((code) => code ?? 0)
    .sort((a, b) => a - b)
    .join(',')
}
