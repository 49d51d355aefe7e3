import { runOne } from './support/run-one.ts'

// `npm run bench -- NAME [options]`: one question, one file, one line of JSON.
await runOne(import.meta.dirname, 'bench', process.argv.slice(2), {
  faults: 'what must hold after seeded faults: --level wire|real --runs 100 --seed 1',
  decode: 'access log entries into columns: --seconds 20',
  lines: 'lines of access logs into columns, text and JSON: --seconds 3',
  'log-lines': 'the whole path of log lines: --form json|text --via http|files --count 1000000',
  grpc: 'receiving alone',
  'kafka-in': 'what a record of Kafka costs until it is fsynced and committed, by driver: RECORDS=100000',
  'kafka-out': 'an edge and a writer by real processes and a real broker, by driver: --count 1000000 --compression lz4',
  journal: 'append, CRC and fsync: --rows 2000000',
  histogram: 'accuracy of quantiles, cost of a bucket, rollups and live metrics',
  ingest: 'the whole path over gRPC: [--stage] [--count 3000000] [--rate 20000 --seconds 600]',
  insert: 'segments into the embedded engine',
  store: "the store's HTTP face: --segments 8 --statements 200",
  otlp: 'OTLP access log records: [--seconds 8] [--product --count 2000000]',
  'otlp-out': 'rows as spans and log records to a target: --rows 200000 [--gzip]',
  query: 'percentiles over 10 M rows and 100 M requests in rollups',
  freshness: "from Envoy's flush to an answer: --rate 20000",
  fairness: 'how old one noisy sender makes the rows of others: --times 20, or max',
  'metrics-service': 'messages of a large proxy: --clusters 600 [--labels]',
  statsd: 'StatsD lines into the journal: [--udp [--process] [--senders 2]] [--dogstatsd] [--malformed] --rate 200000',
  scrape: 'scraped samples up to the journal: [--protobuf] [--http [--gzip]] --samples 3000000',
  wavefront: 'requests into the lines of an interval, and into spans: --rows 200000',
  'mesh-scrape': 'a scrape of /metrics/mesh over HTTP, in each form: --series 100000',
  cardinality: 'hostile label values: memory, totals, offenders: --values 10000000',
  'idle-streams': '2 000 streams that say little',
})
