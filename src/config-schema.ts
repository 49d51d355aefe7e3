import Type, { type Static, type TOptional, type TString } from 'typebox'
import { ISTIO_BUCKETS, PHASE_BUCKETS } from './adapters/prometheus/classic.ts'
import { RULE_SOURCES, RULE_TARGETS, type RuleSource, type RuleTarget } from './ingest/als/identity-rules.ts'
import { COMPRESSIONS } from './kafka/producer.ts'
import { HASH_PATTERN, SCOPES } from './lib/tokens.ts'
import { CLASSES, ROW_TABLES } from './model/schema.ts'
import { SOURCES } from './pipeline/ledger-rows.ts'
import { REDACTION_DEFAULTS } from './pipeline/redact.ts'

/**
 * The one schema of the configuration: type, defaults, validation and `docs/config.md` come from it. Durations, sizes
 * and addresses are strings with a unit (`format`), checked here and parsed where they are used.
 */
const object = <P extends Parameters<typeof Type.Object>[0]>(properties: P, options: Record<string, unknown> = {}) =>
  Type.Object(properties, { additionalProperties: false, default: {}, ...options })
const address = (value: string, description: string) => Type.String({ default: value, format: 'address', description })
/** An address to listen on; '' when nothing listens. */
export const listener = (value: string, description: string) =>
  Type.String({ default: value, format: 'listener', description })
const regex = (value: string, description: string) => Type.String({ default: value, format: 'regex', description })
/** Any keys, text values. */
export const texts = (description: string) => Type.Record(Type.String(), Type.String(), { default: {}, description })
const duration = (value: string, description: string) =>
  Type.String({ default: value, format: 'duration', description })
const size = (value: string, description: string) => Type.String({ default: value, format: 'size', description })
const count = (value: number, minimum: number, maximum: number, description: string) =>
  Type.Integer({ default: value, minimum, maximum, description })
const sans = (description: string) => Type.Array(Type.String({ minLength: 1 }), { default: [], description })
/** Of a listener with TLS. `serverTls` of lib/tls.ts makes something of it. */
export const serverTls = {
  cert: Type.String({ default: '', description: 'File with the certificate; read again when it changes' }),
  key: Type.String({ default: '', description: 'File with its key' }),
  clientCa: Type.String({ default: '', description: 'File with the authority of clients; empty: any client' }),
  allowedSans: sans('Names of which a client’s certificate must have one; `spiffe://mesh/*`, `*.a.example`'),
}
/** Of a client: `tls: object(clientTls)`. `clientTls` of lib/tls.ts makes something of it. */
export const clientTls = {
  ca: Type.String({ default: '', description: 'File with the certificates to trust; empty: those of the system' }),
  cert: Type.String({ default: '', description: 'File with our certificate; read again when it changes' }),
  key: Type.String({ default: '', description: 'File with its key' }),
  serverName: Type.String({ default: '', description: 'Name that the certificate has; empty: the host' }),
  allowedSans: sans('Names of which the server’s certificate must have one, in place of the host’s'),
  insecure: Type.Boolean({ default: false, description: 'Take any certificate' }),
}
const kafkaSasl = object({
  mechanism: Type.Union(
    [Type.Literal(''), Type.Literal('PLAIN'), Type.Literal('SCRAM-SHA-256'), Type.Literal('SCRAM-SHA-512')],
    { default: '', description: 'Empty: none' },
  ),
  username: Type.String({ default: '', description: 'User' }),
  password: Type.String({
    default: '',
    secret: true,
    description: 'Password; better from the environment or a file',
  }),
})
/** Which requests go to OTLP. */
const tailRules = {
  sample: Type.Number({
    default: 0.1,
    minimum: 0,
    maximum: 1,
    description: 'Share of the requests that no rule keeps; the trace id decides',
  }),
  classes: Type.Array(Type.Union(CLASSES.map((name) => Type.Literal(name))), {
    default: ['server_error', 'aborted'],
    description: 'Always kept: classes of answers',
  }),
  slow: duration('1s', 'Always kept: requests that took longer; 0s: none for that reason'),
  rare: count(5, 0, 1_000_000, 'Always kept: the first so many requests of each route in each minute'),
  wholeTraces: Type.Boolean({
    default: true,
    description: 'Always kept: further requests of traces of which a failed, slow or rare one was kept',
  }),
}

/** What is said of lines, and of the proxies that wrote them. */
const linesOf = {
  preset: Type.String({ default: '', description: 'Product that wrote the lines; empty: found out line by line' }),
  format: Type.String({ default: '', description: 'Envoy format string of the lines, or its JSON format as text' }),
  node: Type.String({ default: '', description: 'Node id; empty: what stands around the line says it, if anything' }),
  mesh: Type.String({ default: '', description: 'Mesh' }),
  region: Type.String({ default: '', description: 'Region' }),
  zone: Type.String({ default: '', description: 'Zone' }),
  workload: Type.String({ default: '', description: 'Workload of the proxies' }),
  namespace: Type.String({ default: '', description: 'Its namespace' }),
  service: Type.String({ default: '', description: 'Its service' }),
  version: Type.String({ default: '', description: 'Its version' }),
}

export const configSchema = object({
  data: Type.String({ default: './sidecast-data', minLength: 1, description: 'Journal, embedded store, positions' }),
  http: object({
    listen: address('127.0.0.1:8080', 'API, page and /metrics'),
    queriesMax: count(16, 1, 1000, 'Queries that run or wait at one time; above it 429'),
    queryTimeout: duration('30s', 'Longest time of one query'),
    queryMemoryMax: size('1 GiB', 'Most memory of one query in the store'),
    hostNames: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description: 'Names, beside `localhost` and addresses, under which browsers may write here',
    }),
    tls: object(serverTls),
  }),
  ingest: object({
    grpc: object({
      listen: address('127.0.0.1:9001', 'gRPC: access log service, metrics service, OTLP'),
      messageMax: size('64 MiB', 'Largest gRPC message; Envoy sends 16 KiB by default'),
      streamsMax: count(20_000, 1, 1_000_000, 'Open streams over all connections'),
      streamAge: duration('30m', 'Streams are ended politely after this, ±20 %, so that load spreads again'),
      keepalive: duration('30s', 'PING to silent peers; two unanswered ones close the connection'),
      tls: object(serverTls),
    }),
    otlpHttp: object({
      listen: address('127.0.0.1:4318', 'OTLP over HTTP: /v1/logs, /v1/metrics, /v1/traces'),
      bodyMax: size('20 MiB', 'Largest body as it comes'),
      decompressedMax: size('64 MiB', 'Largest body when unpacked'),
      tls: object(serverTls),
    }),
    otlp: object({
      attributes: Type.Array(
        object({
          attribute: Type.String({ default: '', minLength: 1, description: 'Attribute of a log record' }),
          column: Type.String({ default: '', minLength: 1, description: 'What it is: see docs/receivers/otlp.md' }),
        }),
        { default: [], description: 'Attributes of access log records beyond those that are known by themselves' },
      ),
      statsPrefix: Type.String({ default: 'envoy', description: '`prefix` of Envoy’s OpenTelemetry stats sink' }),
    }),
    metricsService: object({
      counters: Type.Union([Type.Literal('auto'), Type.Literal('delta'), Type.Literal('absolute')], {
        default: 'auto',
        description: 'How proxies count: `report_counters_as_deltas` true, false, or found out for each',
      }),
    }),
    statsd: object({
      udp: listener('127.0.0.1:8125', 'StatsD, DogStatsD and Graphite lines over UDP; empty: none'),
      udpProcess: Type.Boolean({
        default: false,
        description:
          'A process of its own reads the UDP socket: for senders of one line a datagram, at a third of the CPU. Node 26.1 or later, 64-bit Linux',
      }),
      tcp: listener('127.0.0.1:8125', 'The same over TCP; empty: none'),
      unix: Type.String({ default: '', description: 'Path of a Unix datagram socket; empty: none' }),
      unixStream: Type.String({ default: '', description: 'Path of a Unix stream socket; empty: none' }),
      receiveBuffer: size('8 MiB', 'Of the UDP socket; the kernel grants up to net.core.rmem_max'),
      connectionsMax: count(1024, 1, 100_000, 'Open connections of each stream listener'),
      idle: duration('10m', 'Silent connections are closed after this'),
      prefixes: Type.Array(Type.String({ minLength: 1 }), {
        default: ['envoy'],
        description: '`prefix` of Envoy’s sinks: names that begin so are named as Envoy itself does',
      }),
      instanceTag: Type.String({ default: '', description: 'Tag that names the sender; empty: container or address' }),
      setInterval: duration('10s', 'Sets are counted for so long: a gauge of how many different values came'),
      mapping: Type.String({ default: '', description: 'File with mapping rules of statsd_exporter; empty: none' }),
      tls: object(serverTls, { description: 'Of the TCP listener' }),
    }),
    statsTags: object({
      rules: Type.Union([Type.Literal('envoy'), Type.Literal('istio'), Type.Literal('none')], {
        default: 'envoy',
        description: 'Tags found in names that come without: Envoy’s own, Istio’s, or only those below',
      }),
      custom: Type.Array(
        object({
          tag: Type.String({ default: '', minLength: 1, description: 'As `tag_name` of Envoy’s stats_tags' }),
          regex: Type.String({ default: '', description: 'Its `regex`; empty: that of Envoy’s own tag' }),
          value: Type.String({ default: '', description: 'Its `fixed_value`; empty: none' }),
        }),
        { default: [], description: 'The same as stats_config.stats_tags of the proxies' },
      ),
    }),
    files: Type.Array(
      object({
        paths: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Files to follow; globs' }),
        exclude: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Globs of files to leave out' }),
        rotated: Type.Boolean({
          default: true,
          description:
            'What rotation left beside them is read as well, as far as it was not: renamed, copied, compressed',
        }),
        start: Type.Union([Type.Literal('beginning'), Type.Literal('end')], {
          default: 'beginning',
          description: 'Where to begin at the very first start',
        }),
        lineMax: size('1 MiB', 'Longer lines are stepped over and counted'),
        ...linesOf,
      }),
      { default: [], description: 'Log files: docs/receivers/files.md' },
    ),
    stdin: object({
      enabled: Type.Boolean({ default: false, description: 'Read log lines from standard input' }),
      ...linesOf,
    }),
    http: object({
      bodyMax: size('64 MiB', 'Largest body of POST /ingest/v1/logs'),
      decompressedMax: size('512 MiB', 'The same, decompressed'),
      lineMax: size('1 MiB', 'Longer lines are stepped over and counted'),
    }),
    scrape: Type.Array(
      object({
        job: Type.String({ default: 'envoy-scrape', minLength: 1, description: 'Label `job` of the series' }),
        targets: Type.Array(Type.String({ minLength: 1 }), { default: [], description: '`host:port`' }),
        files: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          description: 'Files in Prometheus’s format for file service discovery; `*` in the last part',
        }),
        scheme: Type.Union([Type.Literal('http'), Type.Literal('https')], { default: 'http', description: 'Protocol' }),
        path: Type.String({ default: '/stats/prometheus', description: 'Path, and a query if any' }),
        interval: duration('15s', 'Between two scrapes of a target'),
        timeout: duration('10s', 'For a whole answer; no longer than the interval'),
        labels: Type.Record(Type.String(), Type.String(), { default: {}, description: 'Labels of all series' }),
        honorLabels: Type.Boolean({
          default: false,
          description: 'Labels of the page go before those of the target; otherwise they become `exported_…`',
        }),
        honorTimestamps: Type.Boolean({ default: true, description: 'Timestamps of the page count' }),
        protobuf: Type.Boolean({ default: false, description: 'Ask for protobuf first: native histograms' }),
        nodeId: Type.Boolean({
          default: true,
          description: 'Of Envoys, the node id is the label `instance` where `/server_info` tells it',
        }),
        bodyMax: size('64 MiB', 'Largest page, also when unpacked'),
        samplesMax: count(200_000, 1, 10_000_000, 'Most samples of one page'),
        tls: object(clientTls),
        token: Type.String({ default: '', secret: true, description: 'Bearer token' }),
        tokenFile: Type.String({ default: '', description: 'File with a bearer token; read again when it changes' }),
        username: Type.String({ default: '', description: 'User of basic authentication' }),
        password: Type.String({ default: '', secret: true, description: 'Its password' }),
      }),
      { default: [], description: 'Prometheus targets: docs/receivers/scrape.md' },
    ),
    kafka: Type.Array(
      object({
        brokers: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          minItems: 1,
          description: '`host:port` of some brokers',
        }),
        topics: Type.Array(Type.String({ minLength: 1 }), { default: [], minItems: 1, description: 'Topics, by name' }),
        group: Type.String({
          default: 'sidecast',
          minLength: 1,
          description: 'Consumer group; its members share the partitions',
        }),
        encoding: Type.Union(
          [
            Type.Literal('json'),
            Type.Literal('text'),
            Type.Literal('otlp'),
            Type.Literal('als'),
            Type.Literal('als-delimited'),
          ],
          { default: 'json', description: 'What a value is: log lines, OTLP logs, or ALS messages' },
        ),
        driver: Type.Union([Type.Literal('platformatic'), Type.Literal('kafkajs')], {
          default: 'platformatic',
          description: 'Client library; all members of a group need the same',
        }),
        preset: Type.String({ default: '', description: 'Of lines: form by name; empty: found out by the lines' }),
        format: Type.String({ default: '', description: 'Of lines: format string as in Envoy’s own configuration' }),
        node: Type.String({ default: '', description: 'Node of rows that do not say theirs; empty: `kafka:<topic>`' }),
        from: Type.Union([Type.Literal('earliest'), Type.Literal('latest')], {
          default: 'earliest',
          description: 'Where a group begins that has no position yet',
        }),
        session: duration('30s', 'A member that is silent for longer loses its partitions'),
        takeover: duration('5m', 'How long records that a lost member had begun with wait for it to come back'),
        fetchMax: size('4 MiB', 'Bytes of one fetch'),
        tls: object({
          enabled: Type.Boolean({ default: false, description: 'TLS to the brokers' }),
          ...clientTls,
        }),
        sasl: kafkaSasl,
      }),
      { default: [], description: 'Topics to read: docs/receivers/kafka.md' },
    ),
    syslog: object({
      udp: listener('', 'Syslog over UDP; empty: off'),
      tcp: listener('', 'Syslog over TCP; empty: off'),
      tls: object({ listen: listener('', 'Syslog over TLS; empty: off'), ...serverTls }),
      preset: Type.String({ default: '', description: 'Form of the lines by name; empty: found out by the lines' }),
      format: Type.String({ default: '', description: 'Format string as in Envoy’s own configuration' }),
      node: Type.String({ default: '', description: 'Node of all rows; empty: the host that the message names' }),
      offsetMinutes: Type.Integer({
        default: 0,
        minimum: -1440,
        maximum: 1440,
        description: 'How far senders of RFC 3164, which has no zone, are ahead of UTC',
      }),
      messageMax: size('64 KiB', 'Largest message'),
      receiveBuffer: size('4 MiB', 'Of the UDP socket'),
    }),
    fluentd: object({
      listen: listener('', 'Fluentd forward protocol; empty: off'),
      preset: Type.String({ default: '', description: 'Form of the records by name; empty: found out by the records' }),
      format: Type.String({ default: '', description: 'Format as in Envoy’s own configuration' }),
      node: Type.String({
        default: '',
        description: 'Node of rows that do not say theirs; empty: the sender’s address',
      }),
      messageMax: size('32 MiB', 'Largest message, also when unpacked'),
      tls: object(serverTls),
    }),
  }),
  identity: object({
    primary: object({
      sources: Type.Array(Type.Union(SOURCES.map((source) => Type.Literal(source))), {
        default: [...SOURCES],
        description: 'Where a proxy logs each request in several ways: which one counts, the best first',
      }),
      fallback: duration('1m', 'After this long without rows by the better way, rows by the next one count'),
    }),
    rules: Type.Array(
      object({
        when: object(
          Object.fromEntries(
            RULE_SOURCES.map((source) => [
              source,
              Type.Optional(Type.String({ format: 'regex', description: 'Regular expression over the whole text' })),
            ]),
          ) as Record<RuleSource, TOptional<TString>>,
        ),
        set: object(
          Object.fromEntries(
            RULE_TARGETS.map((target) => [
              target,
              Type.Optional(Type.String({ description: 'Value; $1 is a group of `when`' })),
            ]),
          ) as Record<RuleTarget, TOptional<TString>>,
        ),
      }),
      { default: [], description: 'Names what no proxy says: the first rule that matches fills what is still unknown' },
    ),
  }),
  redaction: object({
    query: Type.Union([Type.Literal('values'), Type.Literal('all'), Type.Literal('none')], {
      default: 'values',
      description: 'Query strings: replace values, replace all after the ?, or keep. Before anything touches disk',
    }),
    queryKeep: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description: 'Query keys whose values are kept under `values`',
    }),
    headers: Type.Array(Type.String({ minLength: 1 }), {
      default: [...REDACTION_DEFAULTS.headers],
      description: 'Headers, trailers, tags and metadata keys whose values are replaced by *',
    }),
    paths: Type.Array(
      object({
        pattern: regex('', 'JavaScript regular expression'),
        replace: Type.String({ default: '*', description: 'What stands there instead' }),
      }),
      { default: [], description: 'Applied to paths, in order' },
    ),
    maskAddresses: Type.Boolean({ default: false, description: 'Client addresses lose their host part: /24 and /48' }),
  }),
  journal: object({
    disk: object({ max: size('10 GiB', 'When full, receivers stop reading') }),
    segment: object({
      bytes: size('64 MiB', 'A segment seals at this size'),
      rows: count(262_144, 1000, 1_048_576, 'or at this many rows'),
      age: duration('1s', 'or at this age'),
    }),
    keepAfterAck: duration('2m', 'Segments stay this long after the store has them, for verification after a crash'),
  }),
  store: object({
    freshFirst: Type.Boolean({
      default: false,
      description:
        'After an outage what came lately is stored before the backlog: answers are fresh, with a hole that fills',
    }),
    clickhouse: object({
      url: Type.String({
        default: '',
        description:
          'http(s)://… of a ClickHouse server; several with the same data, or of one cluster, with commas between them; empty: the embedded engine',
      }),
      database: Type.String({ default: 'sidecast', pattern: '^[A-Za-z_][A-Za-z0-9_]{0,63}$', description: 'Database' }),
      username: Type.String({ default: 'default', description: 'User' }),
      password: Type.String({
        default: '',
        secret: true,
        description: 'Password; better from the environment or a file',
      }),
      token: Type.String({ default: '', secret: true, description: 'Bearer token, in place of user and password' }),
      tls: object(clientTls),
      insertTimeout: duration('2m', 'Longest time of one insert'),
      cluster: object({
        name: Type.String({ default: '', description: 'Name in `remote_servers`; empty: one server' }),
        localDatabase: Type.String({
          default: '',
          pattern: '^([A-Za-z_][A-Za-z0-9_]{0,63})?$',
          description: 'Database of the tables on each server; empty: `<database>_local`',
        }),
        replicated: Type.Boolean({
          default: true,
          description:
            'Replicated tables, which several Sidecasts may write to; false: a shard is one server, and they may not',
        }),
        keeperPath: Type.String({
          default: '/clickhouse/tables/{shard}/{database}/{table}',
          minLength: 1,
          description: 'Path of a table in Keeper, with macros of the servers',
        }),
        replicaName: Type.String({ default: '{replica}', minLength: 1, description: 'Name of a replica' }),
        shards: Type.Array(
          object({
            urls: Type.Array(Type.String({ pattern: '^https?://[^\\s/]+' }), {
              default: [],
              minItems: 1,
              description: 'HTTP URLs of its replicas',
            }),
          }),
          {
            default: [],
            description: 'Shards in order; empty: as `system.clusters` says, with protocol and port of `url`',
          },
        ),
        quorum: Type.String({
          default: '0',
          pattern: '^(auto|[0-9]{1,2})$',
          description: '`insert_quorum`: how many replicas have an insert before it counts; 0: one',
        }),
      }),
    }),
    disk: object({ max: size('50 GiB', 'Past it the oldest days of rows go first') }),
    memory: object({ max: size('2 GiB', 'Memory of the embedded engine') }),
  }),
  adapters: object({
    clickhouse: object({
      url: Type.String({
        default: '',
        description:
          'http(s)://… of the server that copies go to; several with the same data, with commas; empty: none',
      }),
      database: Type.String({ default: 'default', minLength: 1, description: 'Database of tables that name none' }),
      username: Type.String({ default: 'default', description: 'User' }),
      password: Type.String({
        default: '',
        secret: true,
        description: 'Password; better from the environment or a file',
      }),
      token: Type.String({ default: '', secret: true, description: 'Bearer token, in place of user and password' }),
      tls: object(clientTls),
      insertTimeout: duration('2m', 'Longest time of one insert'),
      otel: object({
        logs: Type.Boolean({ default: false, description: 'Requests as log records: otel_logs' }),
        traces: Type.Boolean({ default: false, description: 'Requests and spans as spans: otel_traces' }),
        metrics: Type.Boolean({
          default: false,
          description: 'Durations and counts by minute: otel_metrics_exp_histogram, otel_metrics_sum',
        }),
        database: Type.String({ default: '', description: 'Their database; empty: `database`' }),
        create: Type.Boolean({ default: true, description: 'Make tables that are not there' }),
        keep: duration('7d', 'How long rows of tables that are made stay'),
      }),
      tables: Type.Array(
        object({
          from: Type.String({ default: 'requests', description: 'Table of docs/schema.md' }),
          into: Type.String({
            default: '',
            minLength: 1,
            description: '`table` or `database.table`; it has to be there',
          }),
          columns: texts('For each of its columns an expression of ClickHouse over ours'),
          where: Type.String({ default: '', description: 'Condition of ClickHouse on the rows; empty: all' }),
        }),
        { default: [], description: 'Tables of your own: docs/adapters/clickhouse.md' },
      ),
    }),
    prometheus: object({
      enabled: Type.Boolean({ default: true, description: '/metrics/mesh' }),
      seriesMax: count(100_000, 100, 10_000_000, 'Label sets; above it they go to the overflow series'),
      expiry: duration('15m', 'Series without traffic for this long are dropped'),
      buckets: Type.Array(Type.Number({ exclusiveMinimum: 0 }), {
        default: [...ISTIO_BUCKETS],
        minItems: 1,
        maxItems: 64,
        description: 'Upper bounds of classic buckets of Istio’s histograms, in ms and in bytes; ascending',
      }),
      phaseBuckets: Type.Array(Type.Number({ exclusiveMinimum: 0 }), {
        default: [...PHASE_BUCKETS],
        minItems: 1,
        maxItems: 64,
        description: 'The same of the phases, in seconds',
      }),
      memory: size('32 MiB', 'Memory for label sets; above it they go to the overflow series as well'),
      remoteWrite: object({
        url: Type.String({ default: '', description: 'Where to send /metrics/mesh to; empty: nowhere' }),
        version: Type.Union([Type.Literal('auto'), Type.Literal('1.0'), Type.Literal('2.0')], {
          default: 'auto',
          description: 'Of the protocol; auto: 2.0, and 1.0 where the receiver does not know it',
        }),
        jobs: Type.Array(Type.String({ minLength: 1 }), {
          default: ['sidecast-mesh'],
          description: 'Stats that are sent, by their job; `*`: all that arrive here',
        }),
        nativeHistograms: Type.Boolean({ default: false, description: 'Durations as native histograms too' }),
        exemplars: Type.Boolean({ default: true, description: 'Exemplars: traces that are an example of a bucket' }),
        headers: texts('Further headers'),
        token: Type.String({ default: '', secret: true, description: 'Bearer token' }),
        username: Type.String({ default: '', description: 'User of basic authentication' }),
        password: Type.String({ default: '', secret: true, description: 'Its password' }),
        externalLabels: texts('Labels that every series gets'),
        samplesMax: count(2000, 1, 100_000, 'Samples of one request'),
        timeout: duration('30s', 'For an answer'),
        tls: object(clientTls),
      }),
    }),
    wavefront: object({
      proxy: Type.String({
        default: '',
        pattern: '^(?:.+:[0-9]{1,5})?$',
        description: '`host:port` of a Wavefront proxy, or of what takes its lines; empty: none',
      }),
      transport: Type.Union([Type.Literal('tcp'), Type.Literal('http')], {
        default: 'tcp',
        description: 'How the proxy gets lines: as they are over TCP, or in bodies of HTTP',
      }),
      tracePort: count(0, 0, 65_535, 'Port of the proxy for spans and their logs, usually 30000 or 30001; 0: none'),
      url: Type.String({ default: '', description: 'Of direct ingestion, instead of a proxy; empty: none' }),
      token: Type.String({ default: '', secret: true, description: 'Bearer token' }),
      tokenFile: Type.String({ default: '', description: 'File with the token; read again for each request' }),
      interval: duration('1m', 'What is sent at once adds up over this time'),
      source: Type.String({ default: '', description: 'Source of all lines; empty: the name of this machine' }),
      prefix: Type.String({ default: 'istio', minLength: 1, description: 'In front of the names of metrics' }),
      application: Type.String({ default: 'sidecast', minLength: 1, description: 'Tag `application`' }),
      cluster: Type.String({ default: 'none', minLength: 1, description: 'Tag `cluster`' }),
      shard: Type.String({ default: 'none', minLength: 1, description: 'Tag `shard`' }),
      points: Type.Boolean({ default: true, description: 'Count, extremes, mean, deviation, percentiles as points' }),
      distributions: Type.Array(Type.Union([Type.Literal('minute'), Type.Literal('hour'), Type.Literal('day')]), {
        default: ['minute'],
        maxItems: 3,
        uniqueItems: true,
        description: 'Histogram distributions by these bins',
      }),
      tags: Type.Array(Type.String({ minLength: 1 }), {
        default: [],
        maxItems: 8,
        description: 'Columns that become point tags beside those of the Mixer adapter: `route`, `method`, `mesh` …',
      }),
      where: Type.Array(Type.String({ minLength: 1 }), {
        default: [],
        description: 'Rows for which all of these filters hold are sent: `destination_namespace=shop`',
      }),
      seriesMax: count(5000, 10, 100_000, 'Label sets of an interval; above it rows go to the overflow series'),
      red: Type.Boolean({
        default: true,
        description: 'The metrics that Wavefront derives from spans. Not where a proxy derives them itself: port 30001',
      }),
      traces: object({
        enabled: Type.Boolean({ default: true, description: 'Requests as spans: to `tracePort`, or to `url`' }),
        logs: Type.Boolean({ default: true, description: 'Phases as logs of the spans' }),
        received: Type.Boolean({ default: false, description: 'Spans that came here by OTLP as well, all of them' }),
        ...tailRules,
      }),
      freshFirst: Type.Boolean({ default: false, description: 'Spans that came lately go before a backlog' }),
      timeout: duration('30s', 'For one body'),
      tls: object({
        enabled: Type.Boolean({ default: false, description: 'TLS to the proxy' }),
        ...clientTls,
      }),
    }),
    otlp: object({
      endpoint: Type.String({
        default: '',
        description: 'OTLP over gRPC: `host:port`, `http://…` or `https://…` for TLS; empty: off',
      }),
      headers: Type.Record(Type.String(), Type.String(), {
        default: {},
        secret: true,
        description: 'Sent with every request: keys of an API, tenants',
      }),
      compression: Type.Union([Type.Literal('gzip'), Type.Literal('none')], {
        default: 'gzip',
        description: 'Of requests',
      }),
      timeout: duration('10s', 'Of one request'),
      requestMax: size('3 MiB', 'A request before compression; most targets take 4 MiB'),
      where: Type.Array(Type.String({ minLength: 1 }), {
        default: [],
        description: 'Only requests for which all of these hold, as `where` of the API. Metrics are of all requests',
      }),
      freshFirst: Type.Boolean({ default: false, description: 'What came lately goes before a backlog' }),
      traces: object({
        enabled: Type.Boolean({ default: true, description: 'Requests as spans' }),
        ...tailRules,
      }),
      logs: object({
        enabled: Type.Boolean({ default: true, description: 'Requests as log records' }),
        ...tailRules,
      }),
      metrics: object({
        enabled: Type.Boolean({ default: true, description: 'What requests add up to, as exponential histograms' }),
        interval: duration('1m', 'Of the points'),
        phases: Type.Boolean({ default: true, description: 'A histogram for each phase as well' }),
        bucketsMax: count(640, 2, 4096, 'Buckets of a histogram from its lowest to its highest; 64 for each doubling'),
        keysMax: count(20_000, 10, 65_536, 'Label sets of an interval; further ones are one of their own'),
      }),
      selfTraces: object({
        enabled: Type.Boolean({ default: true, description: 'Spans of Sidecast’s own deliveries' }),
      }),
      tls: object(clientTls),
    }),
    kafka: object({
      brokers: Type.Array(Type.String({ minLength: 1 }), {
        default: [],
        description: '`host:port` of some brokers; empty: off',
      }),
      topicPrefix: Type.String({
        default: 'sidecast.',
        pattern: '^[A-Za-z0-9._-]{0,100}$',
        description: 'Of all topics: `sidecast.segments`, `sidecast.requests` …',
      }),
      encoding: Type.Union([Type.Literal('native'), Type.Literal('json'), Type.Literal('otlp')], {
        default: 'native',
        description: 'Whole segments for writers, or a row as JSON, or batches of OTLP logs and spans',
      }),
      driver: Type.Union([Type.Literal('platformatic'), Type.Literal('kafkajs')], {
        default: 'platformatic',
        description: 'Client library',
      }),
      compression: Type.Union(
        COMPRESSIONS.map((name) => Type.Literal(name)),
        { default: 'lz4', description: 'Of slices of segments; of JSON and OTLP by the batch' },
      ),
      batchMax: size('960 KiB', 'Before compression; brokers take 1 MiB unless they are told otherwise'),
      key: Type.Union([Type.Literal('node'), Type.Literal('service')], {
        default: 'node',
        description: 'Of JSON and OTLP: rows of one node, or of one destination service, are on one partition',
      }),
      where: Type.Array(Type.String({ minLength: 1 }), {
        default: [],
        description: 'Of JSON and OTLP: only rows for which all of these hold, as `where` of the API',
      }),
      tables: Type.Array(Type.Union(ROW_TABLES.map((table) => Type.Literal(table))), {
        default: [...ROW_TABLES],
        minItems: 1,
        description: 'Of JSON: a topic for each',
      }),
      columns: Type.Array(Type.String({ minLength: 1 }), {
        default: [],
        description: 'Of JSON: only these columns; empty: all that have a value',
      }),
      signals: Type.Array(Type.Union([Type.Literal('traces'), Type.Literal('logs')]), {
        default: ['traces', 'logs'],
        minItems: 1,
        description: 'Of OTLP: requests as spans to `otlp_spans`, as log records to `otlp_logs`',
      }),
      node: Type.String({ default: '', description: 'Name of this edge in headers; empty: the host' }),
      create: object({
        enabled: Type.Boolean({ default: true, description: 'Make topics that do not exist' }),
        partitions: count(12, 1, 10_000, 'Their partitions'),
        replicas: Type.Integer({
          default: -1,
          minimum: -1,
          maximum: 100,
          description: 'Replicas; −1: as the broker says',
        }),
      }),
      tls: object({
        enabled: Type.Boolean({ default: false, description: 'TLS to the brokers' }),
        ...clientTls,
      }),
      sasl: kafkaSasl,
    }),
  }),
  writer: object({
    group: Type.String({ default: 'sidecast-writer', minLength: 1, description: 'Consumer group of all writers' }),
    session: duration('30s', 'A writer that is silent for longer loses its partitions'),
    fetchMax: size('8 MiB', 'Bytes of one fetch'),
    abandonAfter: duration('15m', 'Parts of a segment whose rest never came are left behind after this'),
    disk: object({ max: size('10 GiB', 'Segments that are kept after the store has them; the oldest go first') }),
  }),
  metrics: object({
    seriesMax: count(
      1_000_000,
      1000,
      20_000_000,
      'Series of stats in memory, 1 kB each; writes to further ones are dropped',
    ),
    sampleEvery: duration('15s', 'How often /metrics and /metrics/mesh are stored as stats'),
    meshSeriesMax: count(20_000, 0, 10_000_000, 'Series of /metrics/mesh that are stored, and so sent on; 4 kB each'),
  }),
  retention: object({
    rows: duration('7d', 'Rows of single requests'),
    minutes: duration('90d', 'Rollups of one minute'),
    hours: duration('3y', 'Rollups of one hour'),
    metrics: duration('15d', 'Stats: samples and histograms. Spans stay as long as rows'),
  }),
  rollup: object({
    keysMax: count(50_000, 100, 1_000_000, 'Rollup keys of one minute; above it rows go to the overflow key'),
  }),
  auth: object({
    tokens: Type.Array(
      object({
        name: Type.String({ default: '', minLength: 1, description: 'For people' }),
        hash: Type.String({ default: '', pattern: HASH_PATTERN, secret: true, description: 'From `sidecast token`' }),
        scopes: Type.Array(Type.Union(SCOPES.map((scope) => Type.Literal(scope))), {
          default: [],
          minItems: 1,
          description: '`read` asks, `ingest` sends, `admin` changes',
        }),
      }),
      { default: [], description: 'With one, every HTTP request and every gRPC call needs one: docs/safety.md' },
    ),
  }),
  limits: object({
    sender: object({
      connections: count(2000, 0, 1_000_000, 'Open connections of one address over all listeners; 0: no bound'),
      streams: count(20_000, 0, 1_000_000, 'Its open gRPC streams; 0: no bound'),
      bytesPerSecond: size('0', 'What is read of it in a second, the rest waits with it; 0: no bound'),
    }),
  }),
  allowInsecure: Type.Boolean({
    default: false,
    description: 'Allow listeners that other machines can reach without certificate or token',
  }),
  workers: count(1, 1, 64, 'Ingest threads; this version has one'),
  slo: object({
    files: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description: 'OpenSLO files, or folders of which every .yaml and .yml is read: docs/slo.md',
    }),
  }),
  alertmanager: object({
    url: Type.String({
      default: '',
      description: 'Alertmanagers that hear of objectives that burn too fast, with commas; each is told. Empty: none',
    }),
    every: duration('10s', 'How often objectives are looked at'),
    for: duration('0s', 'How long they have to burn too fast before an alert fires'),
    resend: duration(
      '1m',
      'A firing alert is told again after this; four times as long after the last it ends by itself',
    ),
    timeout: duration('10s', 'For an answer'),
    generatorUrl: Type.String({
      default: '',
      pattern: '^(https?://[^\\s?#]+)?$',
      description: 'Where people find this API, for the links of alerts; empty: where it listens',
    }),
    labels: texts('Labels that every alert gets'),
    headers: texts('Further headers'),
    token: Type.String({ default: '', secret: true, description: 'Bearer token' }),
    username: Type.String({ default: '', description: 'User of basic authentication' }),
    password: Type.String({ default: '', secret: true, description: 'Its password' }),
    tls: object(clientTls),
  }),
})

export type Config = Static<typeof configSchema>
