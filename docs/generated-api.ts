import { systemClock } from '../src/lib/clock.ts'
import { DEFAULT_LIMITS } from '../src/query/ports.ts'
import { PROBLEMS } from '../src/query/problem.ts'
import { createQueryServer } from '../src/query/server.ts'
import { silentLog } from '../src/telemetry/log.ts'

interface Operation {
  readonly summary: string
  readonly parameters?: readonly { readonly name: string; readonly description: string }[]
}
interface Document {
  readonly paths: Readonly<Record<string, { readonly get: Operation } & Readonly<Record<string, Operation>>>>
}

/** `docs/api.md`, from the server's own `/openapi.json`. */
export async function apiDocs(): Promise<string> {
  const paths = Object.entries((await openapi()).paths)
  const names = paths.flatMap(([, { get }]) => (get.parameters ?? []).map((parameter) => parameter.name))
  const meanings = new Map(
    paths.flatMap(([, { get }]) => (get.parameters ?? []).map(({ name, description }) => [name, description] as const)),
  )
  const uses = (name: string) => names.filter((other) => other === name).length
  const isSame = (name: string) =>
    paths.every(([, { get }]) =>
      (get.parameters ?? []).every((one) => one.name !== name || one.description === meanings.get(name)),
    )
  const common = [...meanings.keys()].filter((name) => uses(name) > 1 && isSame(name))
  const rows = paths.flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { summary, parameters = [] }]) => {
      const own = parameters.map(({ name }) => `\`${name}\``).join(' ')
      return `| \`${method === 'get' ? '' : `${method.toUpperCase()} `}${path}\` | ${summary} | ${own} |`
    }),
  )
  const own = paths.flatMap(([path, { get }]) =>
    (get.parameters ?? [])
      .filter(({ name }) => !common.includes(name))
      .map(({ name, description }) => `| \`${name}\` of \`${path.replace('/api/v1/', '')}\` | ${cell(description)} |`),
  )
  return `<!-- Made by \`node docs/generate.ts\` from src/query. -->

# The API

Ask which of your services is slow, and how sure that is:

\`\`\`
curl 'http://127.0.0.1:8080/api/v1/latency?from=-1h&by=destination_service&q=0.5,0.99'
\`\`\`

\`\`\`json
{ "as_of": "2026-01-10T12:00:00Z", "through": "2026-01-10T11:59:59Z", "precision_ns": 1,
  "coverage": { "served": null, "stored": 120000, "lost": null, "filtered": null, "sampled": null, "known": false },
  "from": "2026-01-10T11:00:00Z", "to": "2026-01-10T12:00:00Z", "step": null, "view": "auto",
  "unit": "ms", "phase": "total", "source": "requests", "method": "exact",
  "series": [ { "labels": { "destination_service": "checkout" },
    "points": [ { "time": "2026-01-10T11:00:00Z", "n": 120000, "min": 0.41, "max": 3022.7, "mean": 12.9,
      "quantiles": { "0.5": { "value": 9.1, "low": 9.1, "high": 9.1 }, "0.99": { "value": 87.31, "low": 87.31, "high": 87.31 } } } ] } ] }
\`\`\`

Every shape is in \`/openapi.json\` (OpenAPI 3.1); columns and their units are in \`/api/v1/schema\`.

| resource | answers | parameters |
|---|---|---|
${rows.join('\n')}

| parameter | |
|---|---|
${common.map((name) => `| \`${name}\` | ${cell(meanings.get(name)!)} |`).join('\n')}
${own.join('\n')}

## How figures are made

- The q-quantile is the value of rank ⌈q·n⌉ in ascending order. \`method=exact\` reads the rows, and value, low and high are one figure.
  \`method=histogram\` reads rollups of minutes, hours and days, and rows at the edges: the true value is inside [low, high], and value is within 0.55 % of it.
  \`auto\` reads rows while no more than ${thousands(DEFAULT_LIMITS.autoRowsMax)} match, or where rollups lack a column; \`method\` and \`source\` say what it did.
- Points of a \`step\` start at its multiples since 1970; the first and the last may be partial. A point without requests is left out.
- Where rows have expired, the ends of the interval move outward to whole minutes, or hours; \`from\` and \`to\` of the answer are the effective ones.
  What only rows can tell is then 422 \`rows_expired\`, with the \`oldest\` time that works.
- A request counts once, though both sidecars report it. \`view=auto\` takes for each destination service the reports of its own proxy, else of a
  waypoint, a gateway, the source, or a proxy that does not know its side. \`server\`: destination, else waypoint. \`client\`: source and gateway.
  \`all\`: every report; also the default where \`where\` or \`by\` name \`reporter\`.
- Nor does it count twice because its proxy logs by several ways: for each node, and apart for HTTP and for TCP and UDP, the first of
  \`identity.primary.sources\` that brought rows lately counts. The others are kept with \`secondary\`, and are in the answer where \`where\` or
  \`by\` name \`source\` or \`secondary\`.
- A missing value compares like the empty text: \`response_code!=200\` has the requests without a code, \`response_code=\` has them alone.
- \`bounds=loss\`: where the quantile can lie when the lost requests are counted in. They are known for the whole mesh, so each series bears all of
  them. \`bounds=few\`: the 95 % interval of order statistics; \`cut_short\` counts the requests at or above the value that were aborted or timed out.
- \`rate\` is over the whole interval, and \`error_ratio\` is the part of class \`server_error\`.
- Rows come as JSON, as \`application/x-ndjson\` and as \`text/csv\` by Accept; the latter two have the envelope in the header \`sidecast-envelope\` and the
  cursor in \`sidecast-next-cursor\`. A page of \`requests\` may be shorter than \`limit\` and still have a \`next_cursor\`: it ends at ${thousands(DEFAULT_LIMITS.pageBytesMax / 1024 ** 2)} MiB.

## Limits

| | default |
|---|---|
| questions that run or wait; above it 429 | ${DEFAULT_LIMITS.queriesMax} (\`http.queriesMax\`) |
| statements in the store at one time; the rest wait | ${DEFAULT_LIMITS.statementsMax} |
| time of a statement; above it 422 | ${DEFAULT_LIMITS.timeoutMs / 1000} s (\`http.queryTimeout\`) |
| its memory in the store; above it 422 | ${DEFAULT_LIMITS.memoryBytesMax / 1024 ** 3} GiB (\`http.queryMemoryMax\`) |
| series of an answer; points of all its series | ${thousands(DEFAULT_LIMITS.seriesMax)}; ${thousands(DEFAULT_LIMITS.pointsMax)} |
| filters; columns of \`by\`; quantiles, of at most six digits | 20; 5; 20 |

A client that leaves has its statements ended.

## Problems

RFC 9457, \`application/problem+json\`: \`code\` is stable, \`parameter\` is at fault, \`help\` says what to do.

| code | status | |
|---|---|---|
${Object.entries(PROBLEMS)
  .map(([code, [status, title]]) => `| \`${code}\` | ${status} | ${title} |`)
  .join('\n')}
`
}

async function openapi(): Promise<Document> {
  const nothing = () => Promise.reject(new Error('nothing is asked here'))
  const server = createQueryServer({
    listen: '127.0.0.1:0',
    store: { query: nothing, stream: () => ({ [Symbol.asyncIterator]: () => ({ next: nothing }) }), ping: nothing },
    ledger: {
      through: () => null,
      coverage: () => null,
      precisionNs: () => null,
      nodes: () => [],
      adapters: () => [],
      since: () => null,
    },
    status: { report: nothing, unhealthy: () => [], unready: nothing },
    metrics: nothing,
    mesh: nothing,
    web: async () => null,
    slos: { slos: () => [], documents: { put: nothing, remove: nothing } },
    alerts: {
      alerts: () => [],
      rules: () => [],
      alertmanagers: () => [],
      last: null,
      forMs: 0,
      generatorUrl: () => '',
    },
    retention: { rowsMs: null, minutesMs: null, hoursMs: null },
    log: silentLog,
    clock: systemClock,
  })
  await server.app.ready()
  const document = JSON.parse(JSON.stringify(server.app.swagger())) as Document
  await server.stop(AbortSignal.timeout(1000))
  return document
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}

function thousands(n: number): string {
  return n.toLocaleString('en').replaceAll(',', ' ')
}
