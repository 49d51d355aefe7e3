import { SidecastError } from '../../errors.ts'
import { loadSlos, type SloPlaces } from './load.ts'
import { prometheusRules } from './prometheus-rules.ts'

interface SloWorld {
  stdout(text: string): unknown
  stderr(text: string): unknown
  /** Where the process has its objectives: files of the configuration, and those that came over HTTP. */
  configured(): SloPlaces
}

/** Buckets of Istio's histograms, ms: Envoy's default ones. */
const ISTIO_BUCKETS_MS = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
]

/**
 * `sidecast slo check FILE…`: whether files of objectives can be used. `slo rules FILE…`: rules for Prometheus. Without files,
 * of all objectives that the process has.
 */
export async function runSlo([verb, ...files]: readonly string[], output: SloWorld): Promise<number> {
  if (verb !== 'check' && verb !== 'rules') {
    throw new SidecastError('SC1207', 'slo takes check or rules', { help: 'sidecast slo check|rules [FILE…]' })
  }
  const { slos, warnings } = await loadSlos(files.length > 0 ? { files } : output.configured())
  for (const { place, message, help } of warnings) {
    output.stderr(`${place}  warning SC1208  ${message}\n  help: ${help}\n`)
  }
  if (verb === 'rules') output.stdout(prometheusRules(slos, { bucketsMs: ISTIO_BUCKETS_MS }))
  else output.stderr(`${slos.length} ${slos.length === 1 ? 'objective' : 'objectives'}: ok\n`)
  return 0
}
