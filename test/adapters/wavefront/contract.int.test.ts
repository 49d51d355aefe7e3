import { openWavefront } from '../../../src/adapters/wavefront/open.ts'
import { sinkContract } from '../../support/sink-contract.ts'
import { wavefrontConfig } from '../../support/wavefront/config.ts'
import { startHttpTarget, startTcpTarget } from '../../support/wavefront/target.ts'

const ALL = { ...wavefrontConfig({}).traces, sample: 1 }

sinkContract('Wavefront over TCP', {
  start: startTcpTarget,
  open: (shared, { port }) =>
    openWavefront(wavefrontConfig({ proxy: `127.0.0.1:${port}`, tracePort: port, traces: ALL }), shared),
  // A proxy says nothing over TCP.
  rejects: false,
})

sinkContract('Wavefront over HTTP', {
  start: startHttpTarget,
  open: (shared, { port }) =>
    openWavefront(wavefrontConfig({ url: `http://127.0.0.1:${port}`, token: 'secret', traces: ALL }), shared),
})
