import type { WavefrontConfig } from '../../../src/adapters/wavefront/open.ts'
import { loadConfig } from '../../../src/config.ts'

const DEFAULTS = loadConfig({ env: {} }).config?.adapters.wavefront

/** The defaults, with an interval as short as tests want it, but for what is said. */
export function wavefrontConfig(part: Partial<WavefrontConfig>): WavefrontConfig {
  if (DEFAULTS === undefined) throw new Error('the defaults are no configuration')
  return { ...DEFAULTS, interval: '100ms', timeout: '30s', application: 'shop', ...part }
}
