import type { BackWriter } from '../lib/back-writer.ts'
import type { NativeBlockColumns, TextMap } from '../pipeline/segment-reader.ts'
import {
  type AttributeValue,
  attribute,
  attributes,
  CodeAttributes,
  keyOf,
  NONE,
  writeAttribute,
  writeCount,
  writeText,
} from './attributes.ts'
import { flagNames, grpcStatusName, protocolVersion, splitAuthority } from './semantic.ts'

/**
 * The columns of a block of requests as attributes by the semantic conventions. Written last first; what depends on a
 * dictionary is encoded once per block. One object for one block and one kind of owner (span or log record, `tag`).
 */
export interface RowAttributes {
  /** What the server's side of the proxy saw; everything that is known of the request. */
  writeServer(writer: BackWriter, row: number): void
  /** What the client's side did: towards the upstream. */
  writeClient(writer: BackWriter, row: number): void
  readonly facts: RowFacts
}

/** Of a row, what decides more than one attribute. */
export interface RowFacts {
  readonly http: (row: number) => boolean
  /** Null: not known. */
  readonly code: (row: number) => number
  readonly grpc: (row: number) => number
  readonly method: (row: number) => string
  readonly path: (row: number) => string
  readonly route: (row: number) => string
  /** `UF,URX`; '' for none. */
  readonly flags: (row: number) => string
  readonly class: (row: number) => string
  readonly outcome: (row: number) => string
  readonly details: (row: number) => string
  /** Whether a host was chosen and tried. */
  readonly upstream: (row: number) => boolean
  readonly attempts: (row: number) => number
}

const OTHER_METHOD = '_OTHER'

export function readFacts(block: NativeBlockColumns): RowFacts {
  const kinds = block.dictionary('kind')
  const codes = block.numbers('response_code')
  const codeNulls = block.nulls('response_code')!
  const grpc = block.numbers('grpc_status')
  const grpcNulls = block.nulls('grpc_status')!
  const flags = block.numbers('response_flags')
  const attempts = block.numbers('attempts')
  const hosts = block.dictionary('upstream_remote_address')
  const flagTexts = new Map<number, string>()
  const lookup = (name: string) => {
    const { codes: rows, texts } = block.dictionary(name)
    return (row: number) => texts[rows[row]!]!
  }
  const methods = lookup('method')
  const moreFlags = lookup('flags_text')
  const http = (row: number) => kinds.texts[kinds.codes[row]!] === 'http'
  return {
    http,
    code: (row) => (codeNulls[row] === 1 ? -1 : codes[row]!),
    grpc: (row) => (grpcNulls[row] === 1 ? -1 : grpc[row]!),
    method: (row) => methods(row) || (http(row) ? OTHER_METHOD : ''),
    path: (row) => block.text('path', row),
    route: lookup('path_template'),
    flags: (row) => {
      const bits = flags[row]!
      const more = moreFlags(row)
      if (bits === 0 && more === '') return ''
      if (more !== '') return flagNames(bits, more)
      let text = flagTexts.get(bits)
      if (text === undefined) {
        text = flagNames(bits, '')
        flagTexts.set(bits, text)
      }
      return text
    },
    class: lookup('class'),
    outcome: lookup('outcome'),
    details: lookup('response_code_details'),
    upstream: (row) => attempts[row]! > 0 || hosts.texts[hosts.codes[row]!] !== '',
    attempts: (row) => attempts[row]!,
  }
}

type Encode = (text: string) => Uint8Array
/** Column → attributes of a text of it. Empty texts have none. */
type Columns = readonly (readonly [column: string, encode: (tag: number) => Encode])[]

const named =
  (key: string) =>
  (tag: number): Encode =>
  (text) =>
    text === '' ? NONE : attribute(tag, key, text)

const SERVER: Columns = [
  ['scheme', named('url.scheme')],
  ['authority', (tag) => (text) => authorityAttributes(tag, text)],
  ['path_template', named('http.route')],
  ['user_agent', named('user_agent.original')],
  ['protocol', (tag) => (text) => protocolAttributes(tag, text)],
  ['downstream_remote_address', named('client.address')],
  ['tls_version', (tag) => (text) => tlsAttributes(tag, text)],
  ['sni', named('tls.client.server_name')],
  ['route', named('envoy.route')],
  ['upstream_cluster', named('envoy.upstream_cluster')],
  ['response_code_details', named('envoy.response_code_details')],
  ['connection_termination_details', named('envoy.connection_termination_details')],
  ['downstream_transport_failure', named('envoy.downstream_transport_failure')],
  ['upstream_transport_failure', named('envoy.upstream_transport_failure')],
  ['outcome', named('sidecast.outcome')],
  ['class', named('sidecast.class')],
  ['reporter', named('sidecast.reporter')],
  ['source_service', named('sidecast.source.service')],
  ['source_workload', named('sidecast.source.workload')],
  ['source_namespace', named('sidecast.source.namespace')],
  ['destination_service', named('sidecast.destination.service')],
  ['destination_workload', named('sidecast.destination.workload')],
  ['destination_namespace', named('sidecast.destination.namespace')],
  ['segment', named('sidecast.segment')],
]

const CLIENT: Columns = [
  ['scheme', named('url.scheme')],
  ['upstream_cluster', named('envoy.upstream_cluster')],
  ['upstream_transport_failure', named('envoy.upstream_transport_failure')],
  ['destination_service', named('service.peer.name')],
  ['destination_namespace', named('service.peer.namespace')],
]

export interface RowAttributesOptions {
  readonly block: NativeBlockColumns
  readonly facts: RowFacts
  /** Of the field `attributes` in whatever owns them. */
  readonly tag: number
}

export function createRowAttributes({ block, facts, tag }: RowAttributesOptions): RowAttributes {
  // A column that the block lacks has nothing to say.
  const codes = (columns: Columns) =>
    columns.filter(([name]) => block.has(name)).map(([name, make]) => new CodeAttributes(block, name, make(tag)))
  const server = codes(SERVER)
  const client = codes(CLIENT)
  const shared = sharedWriter(block, facts, tag)
  const downstream = addressWriter(block, tag, 'downstream_direct')
  const upstream = addressWriter(block, tag, 'upstream_remote')
  const ids = idWriter(block, tag)
  const maps = mapWriters(block, tag)
  const url = urlWriters(block, facts, tag)
  const sizes = countWriters(block, tag, [
    ['request_body_bytes', 'http.request.body.size'],
    ['response_body_bytes', 'http.response.body.size'],
  ])
  const authority = serverWriter(block, tag)
  const resend = keyOf('http.request.resend_count')
  const flagsKey = keyOf('envoy.response_flags')
  const attemptsKey = keyOf('envoy.attempts')

  return {
    facts,
    writeServer(writer, row) {
      for (const map of maps) map(writer, row)
      ids(writer, row)
      const flags = facts.flags(row)
      if (flags !== '') writeText(writer, tag, flagsKey, flags)
      const attempts = facts.attempts(row)
      if (attempts > 0) writeCount(writer, tag, attemptsKey, attempts)
      for (const size of sizes) size(writer, row)
      downstream(writer, row)
      for (const column of server) writer.raw(column.of(row))
      url.server(writer, row)
      shared(writer, row)
    },
    writeClient(writer, row) {
      const attempts = facts.attempts(row)
      if (attempts > 1 && facts.http(row)) writeCount(writer, tag, resend, attempts - 1)
      upstream(writer, row)
      for (const column of client) writer.raw(column.of(row))
      authority(writer, row)
      url.client(writer, row)
      shared(writer, row)
    },
  }
}

type Write = (writer: BackWriter, row: number) => void

/** Method, and what gRPC has of its own. */
function sharedWriter(block: NativeBlockColumns, facts: RowFacts, tag: number): Write {
  const methods = new CodeAttributes(block, 'method', (text) =>
    attribute(tag, 'http.request.method', text || OTHER_METHOD),
  )
  const statuses = new Map<number, Uint8Array>()
  const methodKey = keyOf('rpc.method')
  return (writer, row) => {
    if (!facts.http(row)) return
    const grpc = facts.grpc(row)
    if (grpc >= 0) {
      let status = statuses.get(grpc)
      if (status === undefined) {
        status = attributes(tag, { 'rpc.system.name': 'grpc', 'rpc.status_code': grpcStatusName(grpc) })
        statuses.set(grpc, status)
      }
      writeText(writer, tag, methodKey, rpcMethod(facts.path(row)))
      writer.raw(status)
    }
    writer.raw(methods.of(row))
  }
}

/** `pkg.Service/Method` of a path. */
export const rpcMethod = (path: string): string => path.replace(/\?.*$/s, '').replace(/^\//, '')

function urlWriters(block: NativeBlockColumns, facts: RowFacts, tag: number): { server: Write; client: Write } {
  const pathKey = keyOf('url.path')
  const queryKey = keyOf('url.query')
  const fullKey = keyOf('url.full')
  const scheme = block.dictionary('scheme')
  const authority = block.dictionary('authority')
  return {
    server(writer, row) {
      const path = facts.path(row)
      if (path === '') return
      const mark = path.indexOf('?')
      if (mark >= 0 && mark + 1 < path.length) writeText(writer, tag, queryKey, path.slice(mark + 1))
      writeText(writer, tag, pathKey, mark < 0 ? path : path.slice(0, mark))
    },
    client(writer, row) {
      const host = authority.texts[authority.codes[row]!]!
      const how = scheme.texts[scheme.codes[row]!]!
      if (host !== '' && how !== '') writeText(writer, tag, fullKey, `${how}://${host}${facts.path(row)}`)
    },
  }
}

/** `server.address` and `server.port` of the client's span: the authority, else the host that was chosen. */
function serverWriter(block: NativeBlockColumns, tag: number): Write {
  const authority = block.has('authority')
    ? new CodeAttributes(block, 'authority', (text) => authorityAttributes(tag, text))
    : null
  const hosts = new CodeAttributes(block, 'upstream_remote_address', (text) =>
    text === '' ? NONE : attribute(tag, 'server.address', text),
  )
  const ports = block.numbers('upstream_remote_port')
  const portKey = keyOf('server.port')
  return (writer, row) => {
    const named = authority?.of(row) ?? NONE
    if (named.length > 0) {
      writer.raw(named)
      return
    }
    if (ports[row]! > 0) writeCount(writer, tag, portKey, ports[row]!)
    writer.raw(hosts.of(row))
  }
}

/** `network.peer.*`. */
function addressWriter(block: NativeBlockColumns, tag: number, stem: string): Write {
  if (!block.has(`${stem}_address`)) return () => {}
  const addresses = new CodeAttributes(block, `${stem}_address`, (text) =>
    text === '' ? NONE : attribute(tag, 'network.peer.address', text),
  )
  const ports = block.numbers(`${stem}_port`)
  const portKey = keyOf('network.peer.port')
  return (writer, row) => {
    if (ports[row]! > 0) writeCount(writer, tag, portKey, ports[row]!)
    writer.raw(addresses.of(row))
  }
}

/** The request id, or else the stream id: what finds the row in Sidecast. */
function idWriter(block: NativeBlockColumns, tag: number): Write {
  const request = idColumn(block, 'request')
  const stream = idColumn(block, 'stream')
  const streamKey = keyOf('sidecast.stream_id')
  return (writer, row) => {
    const id = request(row)
    if (id !== '') writeAttribute(writer, tag, 'http.request.header.x-request-id', [id])
    else {
      const other = stream(row)
      if (other !== '') writeText(writer, tag, streamKey, other)
    }
  }
}

function idColumn(block: NativeBlockColumns, stem: string): (row: number) => string {
  const words = block.has(`${stem}_uuid`) ? block.words(`${stem}_uuid`) : null
  const texts = block.has(`${stem}_text`)
  return (row) => {
    const text = texts ? block.text(`${stem}_text`, row) : ''
    if (text !== '' || words === null) return text
    const at = 4 * row
    if ((words[at]! | words[at + 1]! | words[at + 2]! | words[at + 3]!) === 0) return ''
    const [a, b, c, d] = [hex(words[at + 1]!), hex(words[at]!), hex(words[at + 3]!), hex(words[at + 2]!)]
    return `${a}-${b.slice(0, 4)}-${b.slice(4)}-${c.slice(0, 4)}-${c.slice(4)}${d}`
  }
}

const hex = (word: number): string => word.toString(16).padStart(8, '0')

/** Request headers that an attribute of their own has already. */
const TOLD_HEADERS: ReadonlySet<string> = new Set(['x-request-id', 'user-agent'])

const HEADER_MAPS: readonly (readonly [column: string, prefix: string, told: ReadonlySet<string>])[] = [
  ['request_headers', 'http.request.header.', TOLD_HEADERS],
  ['response_headers', 'http.response.header.', new Set()],
  ['response_trailers', 'http.response.trailer.', new Set()],
]

/** Keys of ours begin so; `error.type` is the only other one. A custom tag that does is told apart: no key may stand twice. */
const OURS =
  /^(?:http\.|url\.|server\.|client\.|network\.|tls\.|rpc\.|user_agent\.|error\.type$|service\.peer\.|envoy\.|sidecast\.)/

/** Headers that the proxy logs are lists by the conventions; custom tags have the names that the mesh gave them. */
function mapWriters(block: NativeBlockColumns, tag: number): Write[] {
  const writers = HEADER_MAPS.filter(([column]) => block.has(column)).map(([column, prefix, told]) =>
    mapWriter(block.textMap(column), tag, (key, value) => (told.has(key) ? null : [`${prefix}${key}`, [value]])),
  )
  if (block.has('custom_tags')) {
    const name = (key: string) => (OURS.test(key) ? `envoy.tag.${key}` : key)
    writers.push(mapWriter(block.textMap('custom_tags'), tag, (key, value) => [name(key), value]))
  }
  return writers
}

type Pair = readonly [key: string, value: AttributeValue]

function mapWriter(map: TextMap, tag: number, pair: (key: string, value: string) => Pair | null): Write {
  return (writer, row) => {
    for (let entry = map.ends[row]! - 1, from = row === 0 ? 0 : map.ends[row - 1]!; entry >= from; entry--) {
      const told = pair(map.keys.texts[map.keys.codes[entry]!]!, map.value(entry))
      if (told !== null) writeAttribute(writer, tag, told[0], told[1])
    }
  }
}

function countWriters(
  block: NativeBlockColumns,
  tag: number,
  columns: readonly (readonly [string, string])[],
): Write[] {
  return columns
    .filter(([column]) => block.has(column))
    .map(([column, name]) => {
      const key = keyOf(name)
      const values = block.numbers(column)
      return (writer, row) => {
        if (values[row]! > 0) writeCount(writer, tag, key, values[row]!)
      }
    })
}

function authorityAttributes(tag: number, authority: string): Uint8Array {
  if (authority === '') return NONE
  const { host, port } = splitAuthority(authority)
  return attributes(tag, { 'server.address': host, 'server.port': port === 0 ? undefined : port })
}

function protocolAttributes(tag: number, protocol: string): Uint8Array {
  const version = protocolVersion(protocol)
  return version === ''
    ? NONE
    : attributes(tag, { 'network.protocol.name': 'http', 'network.protocol.version': version })
}

function tlsAttributes(tag: number, version: string): Uint8Array {
  if (version === '') return NONE
  const number = version.replace(/^TLSv/, '')
  return attributes(tag, { 'tls.protocol.name': 'tls', 'tls.protocol.version': number === '1' ? '1.0' : number })
}
