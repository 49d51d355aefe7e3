import { openWavefront } from '../../../src/adapters/wavefront/open.ts'
import { sinkContract } from '../../support/sink-contract.ts'
import { WAVEFRONT_DEFAULTS } from '../../support/wavefront/config.ts'
import { startHttpTarget, startTcpTarget } from '../../support/wavefront/target.ts'

sinkContract('Wavefront over TCP', {
  start: startTcpTarget,
  open: (shared, { port }) => openWavefront({ ...WAVEFRONT_DEFAULTS, proxy: `127.0.0.1:${port}` }, shared),
  // A proxy says nothing over TCP.
  rejects: false,
})

sinkContract('Wavefront over HTTP', {
  start: startHttpTarget,
  open: (shared, { port }) =>
    openWavefront({ ...WAVEFRONT_DEFAULTS, url: `http://127.0.0.1:${port}`, token: 'secret' }, shared),
})
