import type { OtlpConfig } from '../../src/adapters/otlp/open.ts'
import { loadConfig } from '../../src/config.ts'

type Partly<T> = T extends readonly unknown[] ? T : T extends object ? { readonly [K in keyof T]?: Partly<T[K]> } : T

/** `adapters.otlp` as the product reads it: defaults, and these. */
export function otlpConfig(values: Partly<OtlpConfig>): OtlpConfig {
  const set = Object.entries(values).map(([key, value]) => `adapters.otlp.${key}=${JSON.stringify(value)}`)
  const { config, findings } = loadConfig({ set, env: {} })
  const errors = findings.filter(({ severity }) => severity === 'error')
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '))
  return config.adapters.otlp
}
