import {
  type AlsDecoder,
  type AlsDecoderOptions,
  createAlsDecoder,
  type DecodeResult,
} from '../../src/ingest/als/decode.ts'
import type { Identity, IdentityInput, IdentityResolver, Origin, Party } from '../../src/model/batch.ts'
import { type BatchBuilder, type BuilderLimits, createBatchBuilder } from '../../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable, STORED_ROW_COLUMNS } from '../../src/model/schema.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import { type ReadRow, type RowValue, readBlocks } from './native-rows.ts'

const NOBODY: Party = { workload: '', namespace: '', service: '', version: '', principal: '', app: '', cluster: '' }

export function originOf(nodeId: string): Origin {
  return {
    source: 'als',
    nodeId,
    nodeCluster: 'edge',
    mesh: 'mesh1',
    region: 'r1',
    zone: 'z1',
    subZone: 's1',
    envoyVersion: '1.40.0',
    logName: 'edge_http',
    precisionNs: 1,
    self: NOBODY,
    nodeType: 'unknown',
  }
}

/** Puts what it is asked into the identity, so that a test can see it in the columns. */
export function echoResolver(inputs: IdentityInput[] = [], needs = 0): IdentityResolver {
  return {
    needs: () => needs,
    resolve(input): Identity {
      inputs.push({
        ...input,
        downstreamPeer: input.downstreamPeer && Uint8Array.from(input.downstreamPeer),
        upstreamPeer: input.upstreamPeer && Uint8Array.from(input.upstreamPeer),
      })
      return {
        id: inputs.length,
        mesh: input.origin.mesh,
        reporter: 'gateway',
        source: { ...NOBODY, principal: input.peerSan },
        destination: { ...NOBODY, service: input.cluster, workload: input.route, version: input.authority },
        destinationHost: '',
      }
    },
  }
}

export type Builders = Readonly<Record<RowTable, BatchBuilder>>

export interface Decoding {
  readonly builders: Builders
  readonly decoder: AlsDecoder
  /** Decodes messages of one stream; builders that are full are read and reset on the way. */
  feed(...messages: readonly Uint8Array[]): DecodeResult
  /** Rows so far by table, in order, through Native and back; resets the builders. */
  take(): Record<RowTable, ReadRow[]>
}

export interface DecodingOptions {
  readonly rowsMax?: number
  readonly resolver?: IdentityResolver
  readonly builderLimits?: Partial<BuilderLimits>
  readonly decoder?: Partial<AlsDecoderOptions>
  readonly receivedMs?: number
  readonly origin?: Origin | null
}

export const RECEIVED_MS = 1_767_225_600_123

export function createDecoding(options: DecodingOptions = {}): Decoding {
  const { rowsMax = 4096, resolver = echoResolver(), builderLimits = {}, receivedMs = RECEIVED_MS } = options
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax, resolver, limits: builderLimits })]),
  ) as Builders
  const decoder = createAlsDecoder({
    builders,
    redaction: createRedaction(),
    onIdentifier: () => originOf('edge-1'),
    ...options.decoder,
  })
  const stream = { origin: options.origin === undefined ? originOf('edge-1') : options.origin }
  const rows = Object.fromEntries(ROW_TABLES.map((table) => [table, []])) as unknown as Record<RowTable, ReadRow[]>
  const flush = (table: RowTable): void => {
    rows[table].push(...rowsOf(builders[table]))
    builders[table].reset()
  }
  return {
    builders,
    decoder,
    feed(...messages) {
      let total: DecodeResult | null = null
      for (const message of messages) {
        let result = decoder.decode(message, 0, message.length, stream, receivedMs)
        total = added(total, result)
        while (result.full !== null) {
          flush(result.full)
          result = decoder.decode(message, 0, message.length, stream, receivedMs, result.resume)
          total = added(total, result)
        }
      }
      return total!
    },
    take() {
      for (const table of ROW_TABLES) flush(table)
      const taken = { ...rows }
      for (const table of ROW_TABLES) rows[table] = []
      return taken
    },
  }
}

function added(total: DecodeResult | null, result: DecodeResult): DecodeResult {
  if (total === null) return { ...result }
  return {
    requests: total.requests + result.requests,
    attempts: total.attempts + result.attempts,
    progress: total.progress + result.progress,
    connections: total.connections + result.connections,
    rejected: total.rejected + result.rejected,
    reason: total.reason ?? result.reason,
    offset: total.reason === null ? result.offset : total.offset,
    cut: total.cut + result.cut,
    untimed: total.untimed + result.untimed,
    full: result.full,
    resume: result.resume,
  }
}

/** Rows of a builder as its Native block says them, with the engine's defaults for columns that were left out. */
export function rowsOf(builder: BatchBuilder): ReadRow[] {
  if (builder.rows === 0) return []
  const [block] = readBlocks(builder.seal().encode('segment-1').buffers)
  return block!.rows.map((row) => ({ ...DEFAULTS, ...row }))
}

const DEFAULTS: ReadRow = Object.fromEntries(STORED_ROW_COLUMNS.map(({ name, type }) => [name, defaultOf(type)]))

function defaultOf(type: string): RowValue {
  if (type.startsWith('Nullable')) return null
  if (type.startsWith('Map')) return {}
  if (type === 'UUID') return '00000000-0000-0000-0000-000000000000'
  if (type === 'Bool') return 0
  if (type === 'UInt64' || type.startsWith('DateTime64')) return 0n
  return type.includes('String') ? '' : 0
}

/** Messages of a file that has a uint32 (little-endian) length before each. */
export function framed(file: Buffer): Buffer[] {
  const messages: Buffer[] = []
  for (let at = 0; at < file.length; ) {
    const length = file.readUInt32LE(at)
    messages.push(file.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return messages
}
