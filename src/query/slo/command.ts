import { SidecastError } from '../../errors.ts'
import { loadSlos } from './load.ts'
import { prometheusRules } from './prometheus-rules.ts'

interface Output {
  stdout(text: string): unknown
  stderr(text: string): unknown
}

/** Buckets of Istio's histograms, ms: Envoy's default ones. */
const ISTIO_BUCKETS_MS = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
]

/** `sidecast slo check FILE…`: whether files of objectives can be used. `slo rules FILE…`: rules for Prometheus. */
export async function runSlo([verb, ...paths]: readonly string[], output: Output): Promise<number> {
  if ((verb !== 'check' && verb !== 'rules') || paths.length === 0) {
    throw new SidecastError('SC1207', 'slo takes check or rules, and files', { help: 'sidecast slo check|rules FILE…' })
  }
  const { slos, warnings } = await loadSlos(paths)
  for (const { place, message, help } of warnings) {
    output.stderr(`${place}  warning SC1208  ${message}\n  help: ${help}\n`)
  }
  if (verb === 'rules') output.stdout(prometheusRules(slos, { bucketsMs: ISTIO_BUCKETS_MS }))
  else output.stderr(`${slos.length} ${slos.length === 1 ? 'objective' : 'objectives'}: ok\n`)
  return 0
}
