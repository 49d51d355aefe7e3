import type { RemoteWriteConfig } from '../../../src/adapters/remote-write/open.ts'

/** The configuration's defaults. */
export const remoteWriteConfig = (parts: Partial<RemoteWriteConfig>): RemoteWriteConfig => ({
  url: '',
  version: 'auto',
  jobs: ['sidecast-mesh'],
  headers: {},
  token: '',
  username: '',
  password: '',
  externalLabels: {},
  exemplars: true,
  samplesMax: 2000,
  timeout: '30s',
  tls: {},
  ...parts,
})
