import { startStore } from '../../src/store/supervisor.ts'
import { silentLog } from '../../src/telemetry/log.ts'

/** A process that owns a store, for tests that end it: `node store-owner.ts DIRECTORY` prints one line of JSON and waits. */
const store = await startStore({ dir: process.argv[2]!, log: silentLog })
console.log(JSON.stringify({ pid: process.pid, storePid: store.pid, url: store.url }))
setInterval(() => undefined, 60_000)
