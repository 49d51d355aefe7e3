import { runOne } from '../../bench/support/run-one.ts'

// `npm run campaign -- NAME [options]`: the long tests, one process each. Each prints JSON with its seed, and exits 1 when
// something does not hold.
await runOne(import.meta.dirname, 'campaign', process.argv.slice(2), {
  envoy: 'a real Envoy through every fault, row for row: --count 20000 --seed 1',
  everything: 'the same requests by every way that one Envoy has to tell them: --count 5000 --seed 1',
  'kill-main': 'kill -9 of the main process under load: --kills 300 --seed 1',
  'kill-store': "kill -9 of the store's process in the middle of inserts: --kills 500 --seed 1",
  'kill-journal': 'kill -9 of a journal writer: KILLS SEED',
  'kill-kafka': 'kill -9 and rebalances of two consumers of one group: KILLS STOPS SEED DRIVER',
  'kill-roles': 'kill -9 of edge, writer and engine, restarts of the broker: KILLS RESTARTS SEED DRIVER',
  'kill-tail': 'kill -9 of the process that follows a log, in the middle of rotations: KILLS ROTATIONS SEED RUNS',
  'mutate-als': 'damaged access log messages: --seed 1 --count 1000000',
  'mutate-lines': 'damaged lines of access logs: --seed 1 --count 1000000',
  'mutate-presets': 'damaged lines of every preset, in every envelope: --seed 1 --count 1000000',
  'mutate-otlp': 'damaged OTLP requests: --seed 1 --count 1000000',
  'mutate-statsd': 'damaged StatsD lines: --seed 1 --count 1000000',
  'mutate-metrics-service': 'damaged metrics service messages: --seed 1 --count 1000000',
  'mutate-receivers': 'damaged scrape pages, Fluentd messages, syslog streams: --seed 1 --count 1000000 --what text',
  wavefront: 'hostile names and tags through the parsers of the real proxy: --seed 1 --count 1000000',
  backfill: 'a large JSON log, killed on the way again and again: --megabytes 1000 --kills 4 --seed 1',
  'otlp-outage': 'the target of OTLP is away for long: --minutes 30 --rate 20',
  'all-down': 'the store and the targets of all adapters are away, and come back: --seconds 600 --rate 50000',
  outages: 'the store stands still, the disk is full: --seconds 60 --rate 20000',
})
