import type { WavefrontConfig } from '../../../src/adapters/wavefront/open.ts'

/** The defaults, but an interval as short as tests want it. */
export const WAVEFRONT_DEFAULTS: WavefrontConfig = {
  proxy: '',
  transport: 'tcp',
  tracePort: 0,
  url: '',
  token: '',
  tokenFile: '',
  interval: '100ms',
  source: '',
  prefix: 'istio',
  application: 'shop',
  cluster: 'none',
  shard: 'none',
  points: true,
  distributions: ['minute'],
  tags: [],
  where: [],
  seriesMax: 5000,
  red: true,
  timeout: '2s',
  tls: { enabled: false },
}
