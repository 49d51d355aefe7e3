import type { OtlpConfig } from '../../src/adapters/otlp/faults.ts'
import { loadConfig } from '../../src/config.ts'

/** Keys of `adapters.otlp`; values as YAML would have them. */
export type OtlpSettings = Readonly<Record<string, unknown>>

/** `adapters.otlp` as the product reads it: defaults, and these. */
export function otlpConfig(values: OtlpSettings): OtlpConfig {
  const set = Object.entries(values).map(([key, value]) => `adapters.otlp.${key}=${JSON.stringify(value)}`)
  const { config, findings } = loadConfig({ set, env: {} })
  const errors = findings.filter(({ severity }) => severity === 'error')
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '))
  return config.adapters.otlp
}
