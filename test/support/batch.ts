import type { Batch, DictionaryColumn, Identity, Origin, Party } from '../../src/model/batch.ts'
import { POINTS } from '../../src/model/phases.ts'
import { CLASSES, OUTCOMES, type RequestOutcome, type ResponseClass, type RowTable } from '../../src/model/schema.ts'

/** One row of a made-up batch; everything has a default. */
export interface Row {
  identity?: Identity
  stream?: Origin
  /** ms since the epoch. */
  end?: number
  duration?: number
  points?: readonly number[]
  code?: number
  grpcStatus?: number
  flags?: number
  class?: ResponseClass
  outcome?: RequestOutcome
  attempts?: number
  received?: number
  sent?: number
  kind?: 0 | 1 | 2
  mutualTls?: boolean
  secondary?: boolean
  route?: string
  method?: string
  protocol?: string
  authority?: string
  traceId?: string
  /** gRPC messages received and sent. */
  messages?: readonly [number, number]
}

const NO_PARTY: Party = { workload: '', namespace: '', service: '', version: '', principal: '', app: '', cluster: '' }
export const party = (parts: Partial<Party>): Party => ({ ...NO_PARTY, ...parts })

let identities = 0
export const identity = (parts: Partial<Identity> = {}): Identity => ({
  id: identities++,
  mesh: '',
  reporter: 'destination',
  source: NO_PARTY,
  destination: NO_PARTY,
  destinationHost: '',
  ...parts,
})

export const origin = (parts: Partial<Origin> = {}): Origin => ({
  source: 'als',
  nodeId: 'node',
  nodeCluster: '',
  mesh: '',
  region: '',
  zone: '',
  subZone: '',
  envoyVersion: '',
  logName: '',
  precisionNs: 1,
  self: NO_PARTY,
  nodeType: 'sidecar',
  ...parts,
})

const NOBODY = identity()
const NOWHERE = origin()

/** A batch of these rows, for tests of what takes batches; it cannot be encoded. */
export function batchOf(rows: readonly Row[], table: RowTable = 'requests'): Batch {
  const streams = distinct(rows.map((row) => row.stream ?? NOWHERE))
  const who = distinct(rows.map((row) => row.identity ?? NOBODY))
  const texts: Record<DictionaryColumn, (row: Row) => string> = {
    route: (row) => row.route ?? '',
    method: (row) => row.method ?? '',
    upstream_cluster: () => '',
    authority: (row) => row.authority ?? '',
    response_code_details: () => '',
    protocol: (row) => row.protocol ?? '',
  }
  const dictionaries = new Map(
    Object.entries(texts).map(([name, text]) => {
      const all = distinct(['', ...rows.map(text)])
      const index = new Map(all.map((value, code) => [value, code]))
      return [
        name,
        {
          codes: Uint16Array.from(rows, (row) => index.get(text(row))!),
          dictionary: { count: all.length, text: (code: number) => all[code]! },
        },
      ] as const
    }),
  )
  const streamIndex = new Map(streams.map((value, code) => [value, code]))
  const whoIndex = new Map(who.map((value, code) => [value, code]))
  return {
    table,
    rows: rows.length,
    streams,
    identities: who,
    stream: Uint16Array.from(rows, (row) => streamIndex.get(row.stream ?? NOWHERE)!),
    identity: Uint16Array.from(rows, (row) => whoIndex.get(row.identity ?? NOBODY)!),
    endSeconds: Uint32Array.from(rows, (row) => Math.floor((row.end ?? 0) / 1000)),
    endNanos: Uint32Array.from(rows, (row) => ((row.end ?? 0) % 1000) * 1e6),
    duration: Float64Array.from(rows, (row) => row.duration ?? 0),
    points: POINTS.map((_, k) => Float64Array.from(rows, (row) => row.points?.[k] ?? -1)),
    code: Int32Array.from(rows, (row) => row.code ?? -1),
    grpcStatus: Int16Array.from(rows, (row) => row.grpcStatus ?? -1),
    flags: Uint32Array.from(rows, (row) => row.flags ?? 0),
    responseClass: Uint8Array.from(rows, (row) => CLASSES.indexOf(row.class ?? 'success')),
    outcome: Uint8Array.from(rows, (row) => OUTCOMES.indexOf(row.outcome ?? 'upstream')),
    attempts: Uint32Array.from(rows, (row) => row.attempts ?? 1),
    downstreamReceived: Float64Array.from(rows, (row) => row.received ?? 0),
    downstreamSent: Float64Array.from(rows, (row) => row.sent ?? 0),
    secondary: rows.some((row) => row.secondary === true)
      ? Uint8Array.from(rows, (row) => (row.secondary === true ? 1 : 0))
      : null,
    kind: Uint8Array.from(rows, (row) => row.kind ?? 0),
    mutualTls: Uint8Array.from(rows, (row) => (row.mutualTls === true ? 1 : 0)),
    column: (name) => dictionaries.get(name)!,
    traceId: (row) => rows[row]!.traceId ?? '',
    grpcMessages: () =>
      rows.every((row) => row.messages === undefined)
        ? null
        : {
            requests: Float64Array.from(rows, (row) => row.messages?.[0] ?? -1),
            responses: Float64Array.from(rows, (row) => row.messages?.[1] ?? -1),
          },
    encode() {
      throw new Error('a made-up batch has no block')
    },
  }
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)]
}
