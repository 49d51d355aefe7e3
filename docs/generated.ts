import { configSchema } from '../src/config-schema.ts'
import { ERRORS } from '../src/errors.ts'
import { ROLLUP_COLUMNS, ROLLUP_TIME } from '../src/model/rollup-columns.ts'
import { type Column, FLAGS, ROW_COLUMNS, SIDE_TABLES } from '../src/model/schema.ts'
import { SIDE_COLUMNS, SIDE_MEANING } from '../src/model/side-columns.ts'

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>
  readonly patternProperties?: unknown
  readonly items?: Schema
  readonly anyOf?: readonly { readonly const: unknown }[]
  readonly type?: string
  readonly format?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly default?: unknown
  readonly description?: string
}

/** `docs/config.md`, from the schema of the configuration. */
export function configDocs(): string {
  const rows: string[] = []
  const walk = (schema: Schema, path: string) => {
    if (schema.properties === undefined) {
      rows.push(`| \`${path}\` | ${shown(schema.default)} | ${kindOf(schema)} | ${schema.description ?? ''} |`)
    } else {
      for (const [key, child] of Object.entries(schema.properties)) walk(child, path === '' ? key : `${path}.${key}`)
    }
  }
  walk(configSchema as unknown as Schema, '')
  return `<!-- Made by \`node docs/generate.ts\` from src/config-schema.ts. -->

# Configure Sidecast

Without any file the defaults are a working set-up on loopback. One YAML file, or single values on the command line:

\`\`\`
sidecast run --config sidecast.yaml --set http.listen=127.0.0.1:8081
sidecast check-config sidecast.yaml --effective
\`\`\`

Text may hold \`\${NAME}\`, \`\${NAME:-default}\` and \`\${file:PATH}\` (relative to the file it stands in). \`--set\` wins over the file.
A listener that other machines can reach has to ask who comes, by certificate or token, or needs \`allowInsecure: true\`: docs/safety.md.

| key | default | value | |
|---|---|---|---|
${rows.join('\n')}
`
}

function shown(value: unknown): string {
  if (value === '') return 'empty'
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return 'none'
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map((item) => `\`${item}\``).join(', ')
  return `\`${String(value)}\``
}

function kindOf(schema: Schema): string {
  if (schema.anyOf !== undefined) return schema.anyOf.map((option) => `\`${option.const}\``).join(', ')
  if (schema.format === 'address') return 'host:port'
  if (schema.format !== undefined) return schema.format
  if (schema.patternProperties !== undefined) return 'keys with texts'
  if (schema.type === 'integer' || schema.type === 'number') return `${schema.minimum} to ${schema.maximum}`
  if (schema.type === 'array')
    return schema.items?.properties === undefined
      ? 'list'
      : `list of ${Object.keys(schema.items.properties)
          .map((key) => `\`${key}\``)
          .join(', ')}`
  return schema.type === 'boolean' ? 'true, false' : 'text'
}

/** `docs/errors.md`, from the table of error codes. */
export function errorDocs(): string {
  return `<!-- Made by \`node docs/generate.ts\` from src/errors.ts. -->

# Error codes

SC1xxx: what was asked is wrong. SC2xxx: allowed, but look at it. SC3xxx: data. SC4xxx: the machine or another program.

| code | meaning |
|---|---|
${Object.entries(ERRORS)
  .map(([code, meaning]) => `| ${code} | ${meaning} |`)
  .join('\n')}
`
}

const GROUPS: Readonly<Record<string, string>> = {
  identity: 'Identity: which entry, of which proxy',
  who: 'Who: from where to where',
  request: 'Request',
  answer: 'Answer',
  time: 'Time: points on one clock, and the phases between them',
  tls: 'TLS of the downstream connection',
  extra: 'Extra: what was configured to be logged',
}

/** `docs/schema.md`, from the table of columns. */
export function schemaDocs(): string {
  const groups = Object.entries(GROUPS).map(([group, title]) => {
    const rows = ROW_COLUMNS.filter((column) => column.group === group && column.internal !== true).map(columnRow)
    return `### ${title}\n\n| column | type | what | ALS |\n|---|---|---|---|\n${rows.join('\n')}\n`
  })
  const internal = ROW_COLUMNS.filter((column) => column.internal === true)
  const halves = internal.filter((column) => column.expr === undefined).map(columnRow)
  const rollups = ROLLUP_COLUMNS.map(
    ({ name, type, merge, meaning }) =>
      `| \`${name === ROLLUP_TIME ? 'minute`, `hour' : name}\` | ${type} | ${merge === 'map' ? 'sum, by the first array' : merge} | ${meaning} |`,
  )
  const side = SIDE_TABLES.map((table) => {
    const rows = SIDE_COLUMNS[table].filter((column) => column.internal !== true).map(sideRow)
    return `### ${table}\n\n${SIDE_MEANING[table]}.\n\n| column | type | what |\n|---|---|---|\n${rows.join('\n')}\n`
  })
  const flags = FLAGS.map((flag, bit) => `${bit} \`${flag}\``)
  return `<!-- Made by \`node docs/generate.ts\` from src/model/schema.ts, src/model/rollup-columns.ts and src/model/side-columns.ts. -->

# The schema

Ask for it: \`GET /api/v1/schema\`, or \`DESCRIBE TABLE requests\` in the store. Times are UTC, durations whole nanoseconds.

| table | a row is | kept |
|---|---|---|
| \`requests\` | one finished request, or one finished TCP or UDP connection that is proxied | \`retention.rows\` |
| \`attempts\` | one finished attempt at an upstream (\`UpstreamEnd\`) | \`retention.rows\` |
| \`progress\` | a start or periodic entry of something not finished | \`retention.rows\` |
| \`connections\` | one downstream connection, as listeners log them | \`retention.rows\` |
| \`latency_1m\` | counts and histograms of \`requests\`, by minute and key | \`retention.minutes\` |
| \`latency_1h\` | the same by hour | \`retention.hours\` |
| \`latency_1d\` | the same by UTC day, made in the background when the day is over | \`retention.hours\` |
| \`series\` | one series of stats on one day | \`retention.metrics\` |
| \`samples\`, \`histograms\` | one value, one distribution of a series | \`retention.metrics\` |
| \`spans\` | one span of a trace | \`retention.rows\` |

## Rows

The four tables of rows have the same columns. \`end_time\` is the time that counts: partitions, expiry, rollups and every interval
go by it. What a source does not know is empty, 0 or NULL; nothing is guessed. *Computed* columns are made when they are read.

${groups.join('\n')}
### Stored halves

Not part of the API: what computed columns are made of.

| column | type | what | ALS |
|---|---|---|---|
${halves.join('\n')}

## Rollups

A key is any number of rows until the engine has merged them: always group, and put values together as the third column says. A key
whose \`n\` comes out as 0 does not exist (a correction took it away; counts add modulo 2^64).

\`\`\`sql
SELECT destination_service, sum(n), sum(total_sum) / sum(n) / 1e6 AS mean_ms, max(total_max) / 1e6 AS max_ms
FROM latency_1h WHERE hour >= now() - INTERVAL 1 DAY GROUP BY destination_service HAVING sum(n) != 0;

SELECT bucket, sum(count) FROM latency_1h ARRAY JOIN \`totalMap.bucket\` AS bucket, \`totalMap.count\` AS count
WHERE destination_service = 'cart' GROUP BY bucket ORDER BY bucket;
\`\`\`

Bucket i holds durations in (2^((i−1)/64), 2^(i/64)] seconds; −1914 holds 0 ns.

| column | type | merge | what |
|---|---|---|---|
${rollups.join('\n')}

## Stats and spans

Counters and histograms are cumulative since \`start\`, whatever way they came. A value below the one before, or a later \`start\`, is a
reset. \`stale\` marks the end of a series.

\`\`\`sql
SELECT s.instance, argMax(value, time) AS requests FROM samples INNER JOIN (
  SELECT id, any(instance) AS instance FROM series WHERE name = 'envoy_http_downstream_rq_total' GROUP BY id
) AS s ON s.id = samples.series WHERE time >= now() - INTERVAL 5 MINUTE AND NOT stale GROUP BY s.instance;
\`\`\`

${side.join('\n')}
## Response flags

Bits of \`response_flags\`: ${flags.join(' · ')}. What has no bit is in \`flags_text\`.
`
}

function sideRow({ name, type, meaning, unit, expr }: Column): string {
  const what = unit === undefined || unit === 'time' ? meaning : `${meaning} (${unit})`
  return `| \`${name}\` | ${expr === undefined ? type : `${type}, computed`} | ${what.replaceAll('|', '\\|')} |`
}

function columnRow({ name, type, meaning, unit, expr, als }: Column): string {
  const kind = expr === undefined ? type : `${type}, computed`
  const what = unit === undefined || unit === 'time' || unit === 'count' ? meaning : `${meaning} (${unit})`
  const cell = (text: string) => text.replaceAll('|', '\\|')
  return `| \`${name}\` | ${kind} | ${cell(what)} | ${als === undefined ? '' : `\`${cell(als)}\``} |`
}
