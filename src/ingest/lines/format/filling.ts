import { isRecord } from '../../../lib/json.ts'
import type { AccessEntry } from '../../entry/entry.ts'

/** Where the five addresses of an entry have a place for a port that a format prints by itself. */
export const ADDRESSES = [
  'upstreamHost',
  'upstreamLocal',
  'downstreamRemote',
  'downstreamDirect',
  'downstreamLocal',
] as const
export type AddressField = (typeof ADDRESSES)[number]

/** The points that spans go from and to. `start` is the beginning of the request, point 0. */
export const POINTS = [
  'rxEndNs',
  'upTxBeginNs',
  'upTxEndNs',
  'upRxBeginNs',
  'upRxEndNs',
  'downTxBeginNs',
  'downTxEndNs',
] as const
export type PointField = (typeof POINTS)[number]

/** More spans than a format has. */
const SPANS_MAX = 32

/**
 * An entry while a line is being read: what takes several values to know is put together at the end. One for each
 * parser, used for every line.
 */
export class Filling {
  entry!: AccessEntry
  /** Whether the line says of which type the entry is; `NotSet` is one. */
  typeSaid = false
  readonly ports = new Int32Array(ADDRESSES.length)
  #portsSet = false
  /** Spans between two points, neither of them the start: index of both, and ns. */
  readonly #spanFrom: number[] = []
  readonly #spanTo: number[] = []
  readonly #spanNs: number[] = []
  /** Dynamic metadata: paths (namespace first) and values as JSON text. */
  readonly #metadataPaths: (readonly string[])[] = []
  readonly #metadataValues: string[] = []

  begin(entry: AccessEntry): void {
    this.entry = entry
    this.typeSaid = false
    if (this.#portsSet) this.ports.fill(0)
    this.#portsSet = false
    this.#spanNs.length = 0
    this.#metadataValues.length = 0
  }

  setPort(address: number, port: number): void {
    this.ports[address] = port
    this.#portsSet = true
  }

  addSpan(from: number, to: number, ns: number): void {
    const at = this.#spanNs.length
    if (at >= SPANS_MAX) return
    this.#spanFrom[at] = from
    this.#spanTo[at] = to
    this.#spanNs.push(ns)
  }

  addMetadata(path: readonly string[], json: string): void {
    this.#metadataPaths[this.#metadataValues.length] = path
    this.#metadataValues.push(json)
  }

  finish(): void {
    if (this.#portsSet) this.#joinPorts()
    if (this.#spanNs.length > 0) this.#resolveSpans()
    if (this.#metadataValues.length > 0) this.#joinMetadata()
    settle(this.entry, this.typeSaid)
  }

  #joinPorts(): void {
    for (let k = 0; k < ADDRESSES.length; k++) {
      const field = ADDRESSES[k]!
      const address = this.entry[field]
      const port = this.ports[k]!
      if (port <= 0 || address === '' || address.startsWith('/') || address.startsWith('envoy:')) continue
      if (address.includes(':')) {
        if (!address.startsWith('[') && isBareIpv6(address)) this.entry[field] = `[${address}]:${port}`
      } else this.entry[field] = `${address}:${port}`
    }
  }

  /** Each span whose one end is known gives the other; as often as that finds something new. */
  #resolveSpans(): void {
    const { entry } = this
    for (let round = 0; round < POINTS.length; round++) {
      let found = false
      for (let k = 0; k < this.#spanNs.length; k++) {
        const from = POINTS[this.#spanFrom[k]!]!
        const to = POINTS[this.#spanTo[k]!]!
        const ns = this.#spanNs[k]!
        if (entry[from] >= 0 && entry[to] < 0) entry[to] = Math.max(0, entry[from] + ns)
        else if (entry[to] >= 0 && entry[from] < 0) entry[from] = Math.max(0, entry[to] - ns)
        else continue
        found = true
      }
      if (!found) return
    }
  }

  #joinMetadata(): void {
    const root = record()
    for (let k = 0; k < this.#metadataValues.length; k++) {
      const path = this.#metadataPaths[k]!
      let at = root
      for (let part = 0; part < path.length - 1; part++) {
        const known = at[path[part]!]
        const next = isRecord(known) ? known : record()
        at[path[part]!] = next
        at = next
      }
      const last = path.at(-1)!
      const value = parse(this.#metadataValues[k]!)
      const known = at[last]
      // A namespace, and keys of it beside: both are kept.
      at[last] = isRecord(known) && isRecord(value) ? { ...value, ...known } : value
    }
    this.entry.metadata = JSON.stringify(root)
  }
}

type Json = { [key: string]: unknown }

const record = (): Json => Object.create(null) as Json

function parse(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

/** Two colons at least: with one, it is `host:port` already. */
function isBareIpv6(address: string): boolean {
  return address.indexOf(':') !== address.lastIndexOf(':')
}

const TCP_CONNECTION_END = 3
const DOWNSTREAM_END = 6

/**
 * What a finished entry is, where its line does not say: formats are the same for requests and connections, and what only
 * requests have is missing of connections. Envoy logs both at their end unless it is told otherwise. What a listener logs
 * when no filter chain took a connection, or its handshake failed, has no type, as in ALS.
 */
export function settle(entry: AccessEntry, typeSaid = false): void {
  raiseDuration(entry)
  if (entry.type > 0) {
    entry.tcp = entry.type <= 3 || entry.type >= 11
    if (entry.tcp) entry.code = -1
    return
  }
  if (isRequest(entry)) {
    if (!typeSaid) entry.type = DOWNSTREAM_END
    return
  }
  entry.tcp = true
  entry.code = -1
  const listener =
    entry.protocol !== '' ||
    entry.responseCodeDetails === 'filter_chain_not_found' ||
    entry.downstreamTransportFailure !== ''
  if (!listener && !typeSaid) entry.type = TCP_CONNECTION_END
}

/**
 * A protocol and nothing else of a request is what a listener logs of a connection that carried HTTP; with a flag it is a
 * request that could not be parsed, and without a code at all it is a format that leaves most of it out.
 */
function isRequest(entry: AccessEntry): boolean {
  if (entry.method !== '' || entry.path !== '' || entry.code > 0) return true
  return entry.protocol !== '' && (entry.code < 0 || entry.flags !== '')
}

/** A duration in ms is cut; a point that says more shows that it was longer. */
function raiseDuration(entry: AccessEntry): void {
  if (entry.durationNs < 0) return
  const last = Math.max(
    entry.durationNs,
    entry.rxEndNs,
    entry.upTxBeginNs,
    entry.upTxEndNs,
    entry.upRxBeginNs,
    entry.upRxEndNs,
    entry.downTxBeginNs,
    entry.downTxEndNs,
  )
  if (last - entry.durationNs < 1e6) entry.durationNs = last
}
