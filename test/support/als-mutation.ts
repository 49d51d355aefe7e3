import { readFileSync } from 'node:fs'
import { type AlsDecoder, createAlsDecoder } from '../../src/ingest/als/decode.ts'
import { seededRandom } from '../../src/lib/random.ts'
import type { BatchBuilder } from '../../src/model/batch-builder.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { COUNTS, HEAPS, PORTS, READ_COUNTS, type RowColumns, TEXT_MAPS } from '../../src/model/row-columns.ts'
import { ROW_TABLES, type RowTable } from '../../src/model/schema.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import { type Builders, echoResolver, framed, originOf, RECEIVED_MS } from './als-decoding.ts'
import { RandomMessages } from './als-oracle.ts'
import { readBlocks } from './native-rows.ts'

/**
 * Damages messages in every way that comes to mind and decodes them: nothing may throw or hang, the rows of entries
 * before the damage must be those of the undamaged message, value for value, and what is left must be a valid block.
 */
export interface MutationReport {
  readonly count: number
  /** Messages that had a part rejected, and rows that were compared. */
  readonly rejected: number
  readonly compared: number
  /** First thing found wrong. */
  readonly failure: string | null
}

const ROWS_MAX = 64

function createBuilders(): Builders {
  const resolver = echoResolver()
  resolver.resolve = forgetful(resolver.resolve)
  return Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax: ROWS_MAX, resolver })]),
  ) as Builders
}

/** One identity for all: millions of calls must not fill the memory of the test itself. */
function forgetful(resolve: BatchBuilderResolve): BatchBuilderResolve {
  let identity: ReturnType<BatchBuilderResolve> | undefined
  return (input) => {
    identity ??= resolve(input)
    return identity
  }
}
type BatchBuilderResolve = ReturnType<typeof echoResolver>['resolve']

export interface Sample {
  readonly message: Buffer
  /** Where each entry ends in the message, in order. */
  readonly ends: readonly number[]
}

/** Messages of a few entries: recorded ones, and random ones with every field. */
export function mutationSamples(seed: number): Sample[] {
  const samples: Sample[] = []
  for (const kind of ['http', 'tcp'] as const) {
    const file = readFileSync(new URL(`../fixtures/als/als-${kind}.bin`, import.meta.url))
    const entries = framed(file).flatMap((message) => entriesIn(message))
    for (let k = 0; k < entries.length; k += 3) samples.push(sampleOf(entries.slice(k, k + 3), kind === 'tcp'))
  }
  const random = seededRandom(seed)
  const messages = new RandomMessages(random)
  for (let k = 0; k < 60; k++) {
    const isTcp = k % 4 === 0
    const entries = Array.from({ length: 3 }, () => entriesIn(messages.message(1, isTcp))).flat()
    if (entries.length > 0) samples.push(sampleOf(entries, isTcp))
  }
  return samples
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128)
  return Buffer.from([...bytes, value])
}

function readVarint(bytes: Uint8Array, at: number): [value: number, at: number] {
  let value = 0
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at++]!
    value += (byte & 127) * scale
    if (byte < 128) return [value, at]
  }
}

/** Serialized entries of a valid message. Only what recorded and random messages hold. */
function entriesIn(message: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (const [tag, list] of delimitedFields(message)) {
    if (tag !== 18 && tag !== 26) continue
    for (const [inner, entry] of delimitedFields(list)) if (inner === 10) found.push(entry)
  }
  return found
}

function* delimitedFields(bytes: Buffer): Generator<[tag: number, value: Buffer]> {
  for (let at = 0; at < bytes.length; ) {
    let tag: number
    ;[tag, at] = readVarint(bytes, at)
    if (tag % 8 !== 2) return
    let length: number
    ;[length, at] = readVarint(bytes, at)
    yield [tag, bytes.subarray(at, at + length)]
    at += length
  }
}

function sampleOf(entries: readonly Buffer[], isTcp: boolean): Sample {
  const fields = entries.map((entry) => Buffer.concat([Buffer.from([10]), varint(entry.length), entry]))
  const list = Buffer.concat(fields)
  const head = Buffer.concat([Buffer.from([isTcp ? 26 : 18]), varint(list.length)])
  const ends: number[] = []
  fields.reduce((at, field) => {
    ends.push(at + field.length)
    return at + field.length
  }, head.length)
  return { message: Buffer.concat([head, list]), ends }
}

/** A damaged copy, and the first byte that is not what it was. */
export function mutate(message: Buffer, random: () => number): { bytes: Buffer; from: number } {
  const below = (count: number): number => Math.floor(random() * count)
  const at = below(message.length)
  const kind = below(9)
  if (kind < 3) {
    const bytes = Buffer.from(message)
    if (kind === 0) bytes[at]! ^= 1 << below(8)
    else if (kind === 1) bytes[at] = below(256)
    else bytes.fill([0, 0xff, 0x80, 0x7f][below(4)]!, at, Math.min(bytes.length, at + 1 + below(12)))
    return { bytes, from: at }
  }
  if (kind === 3) return { bytes: message.subarray(0, at), from: at }
  const length = 1 + below(below(2) === 0 ? 8 : 200)
  if (kind === 4) return { bytes: Buffer.concat([message.subarray(0, at), message.subarray(at + length)]), from: at }
  if (kind === 5) {
    const noise = Buffer.from(Array.from({ length }, () => below(256)))
    return { bytes: Buffer.concat([message.subarray(0, at), noise, message.subarray(at)]), from: at }
  }
  if (kind === 6) {
    const other = below(message.length)
    const part = message.subarray(other, other + length)
    return { bytes: Buffer.concat([message.subarray(0, at), part, message.subarray(at)]), from: at }
  }
  if (kind === 7) {
    const bytes = Buffer.from(message)
    const other = below(message.length)
    bytes.copyWithin(at, other, other + length)
    return { bytes, from: at }
  }
  // Several small ones: damage that a checksum would not see either.
  const bytes = Buffer.from(message)
  let from = message.length
  for (let k = 0; k < 1 + below(6); k++) {
    const place = below(message.length)
    bytes[place]! ^= 1 << below(8)
    from = Math.min(from, place)
  }
  return { bytes, from }
}

export interface MutationOptions {
  readonly seed: number
  readonly count: number
  /** Called before each message with its number; for a watchdog. */
  readonly onMessage?: (k: number) => void
}

/** Two decoders, one for what is damaged and one for what is not; to be used for many runs. */
export function createMutationRun(): (options: MutationOptions) => MutationReport {
  const redaction = createRedaction()
  const sound = createBuilders()
  const damaged = createBuilders()
  const decoders = [sound, damaged].map((builders) =>
    createAlsDecoder({ builders, redaction, onIdentifier: () => originOf('edge-1') }),
  )
  return (options) => run(options, sound, damaged, decoders)
}

function run(
  { seed, count, onMessage }: MutationOptions,
  sound: Builders,
  damaged: Builders,
  decoders: readonly AlsDecoder[],
): MutationReport {
  const random = seededRandom(seed)
  const samples = mutationSamples(seed)
  const origin = originOf('edge-1')
  let rejected = 0
  let compared = 0
  for (let k = 0; k < count; k++) {
    onMessage?.(k)
    const { message, ends } = samples[Math.floor(random() * samples.length)]!
    const { bytes, from } = mutate(message, random)
    for (const table of ROW_TABLES) {
      sound[table].reset()
      damaged[table].reset()
    }
    const before = ends.filter((end) => end <= from).length
    const label = `seed ${seed}, message ${k}: ${bytes.toString('base64')}`
    try {
      const result = decoders[1]!.decode(bytes, 0, bytes.length, { origin }, RECEIVED_MS)
      if (result.rejected > 0) rejected++
      if ((result.reason === null) !== (result.rejected === 0)) return failed(k, `${label}: reason without rejection`)
      const added = result.requests + result.attempts + result.progress + result.connections
      if (added < before) return failed(k, `${label}: ${added} rows, ${before} entries before the damage`)
      for (const table of ROW_TABLES) {
        if (damaged[table].rows !== result[table]) return failed(k, `${label}: ${table} has rows nobody counted`)
      }
      // The undamaged entries alone.
      const part = sampleOfPrefix(message, ends, before)
      if (part !== null) decoders[0]!.decode(part, 0, part.length, { origin }, RECEIVED_MS)
      for (const table of ROW_TABLES) {
        const difference = firstDifference(sound[table].columns, damaged[table].columns)
        if (difference !== null) return failed(k, `${label}: ${table}.${difference}`)
        compared += sound[table].rows
      }
      if (k % 16 === 0) for (const table of ROW_TABLES) readable(damaged, table)
    } catch (error) {
      return failed(k, `${label}: ${error instanceof Error ? error.stack : error}`)
    }
  }
  return { count, rejected, compared, failure: null }

  function failed(k: number, failure: string): MutationReport {
    return { count: k, rejected, compared, failure }
  }
}

function sampleOfPrefix(message: Buffer, ends: readonly number[], entries: number): Buffer | null {
  if (entries === 0) return null
  const [, start] = readVarint(message, 1)
  const list = message.subarray(start, ends[entries - 1]!)
  return Buffer.concat([message.subarray(0, 1), varint(list.length), list])
}

/** The block must be readable, with as many rows as the builder has. */
function readable(builders: Builders, table: RowTable): void {
  const builder: BatchBuilder = builders[table]
  if (builder.rows === 0) return
  const [block] = readBlocks(builder.seal().encode('segment-1').buffers)
  if (block!.rows.length !== builder.rows) throw new Error(`${table}: the block has other rows than the builder`)
}

/**
 * Compares the rows of `sound` with the first rows of `damaged`. Both began empty and saw the same entries first, so
 * everything they hold of them must be the same: numbers, codes, texts.
 */
function firstDifference(sound: RowColumns, damaged: RowColumns): string | null {
  const { rows } = sound
  if (rows === 0) return null
  const arrays = (c: RowColumns): [string, ArrayLike<number>, number][] => [
    ['stream', c.stream, 1],
    ['identity', c.identity, 1],
    ['endSeconds', c.endSeconds, 1],
    ['endNanos', c.endNanos, 1],
    ['received', c.received, 2],
    ['duration', c.duration, 1],
    ...c.points.map((point, k): [string, ArrayLike<number>, number] => [`point ${k}`, point, 1]),
    ['code', c.code, 1],
    ['grpcStatus', c.grpcStatus, 1],
    ['flags', c.flags, 1],
    ['attempts', c.attempts, 1],
    ['mutualTls', c.mutualTls, 1],
    ['streamIsRequest', c.streamIsRequest, 1],
    ['kind', c.kind, 1],
    ['entryType', c.entryType, 1],
    ['outcome', c.outcome, 1],
    ['class', c.responseClass, 1],
    ['protocol', c.protocol, 1],
    ['method', c.method, 1],
    ['requestUuid', c.requestUuid, 4],
    ['streamUuid', c.streamUuid, 4],
    ['traceUuid', c.traceUuid, 4],
    ['spanNumber', c.spanNumber, 2],
    ...READ_COUNTS.map((name): [string, ArrayLike<number>, number] => [name, c.readCounts[name], 1]),
    ...COUNTS.map((name): [string, ArrayLike<number>, number] => [name, c.counts[name], 2]),
    ...PORTS.map((name): [string, ArrayLike<number>, number] => [name, c.ports[name], 1]),
    ...Object.entries(c.codes).map(([name, codes]): [string, ArrayLike<number>, number] => [name, codes, 1]),
    ...Object.entries(c.numbers).map(([name, numbers]): [string, ArrayLike<number>, number] => [name, numbers, 1]),
    ...TEXT_MAPS.map((name): [string, ArrayLike<number>, number] => [`${name} offsets`, c.maps[name].offsets, 2]),
    ['filter_state offsets', c.filterState.offsets, 2],
  ]
  const damagedArrays = arrays(damaged)
  for (const [k, [name, values, width]] of arrays(sound).entries()) {
    const others = damagedArrays[k]![1]
    for (let i = 0; i < rows * width; i++) {
      if (values[i] !== others[i]) return `${name}[${i}]: ${others[i]} instead of ${values[i]}`
    }
  }
  for (const [name, dictionary] of Object.entries(sound.dictionaries)) {
    const other = damaged.dictionaries[name as keyof RowColumns['dictionaries']]
    if (!dictionary.keys.subarray(0, dictionary.end).equals(other.keys.subarray(0, dictionary.end))) {
      return `texts of ${name}`
    }
  }
  for (const name of HEAPS) {
    const { bytes, end } = sound.heaps[name]
    if (!bytes.subarray(0, end).equals(damaged.heaps[name].bytes.subarray(0, end))) return `texts of ${name}`
  }
  for (const name of TEXT_MAPS) {
    const map = sound.maps[name]
    const other = damaged.maps[name]
    for (let i = 0; i < map.count; i++) {
      if (map.keys.text(map.codes[i]!) !== other.keys.text(other.codes[i]!)) return `keys of ${name}`
    }
    const { bytes, end } = map.heap
    if (!bytes.subarray(0, end).equals(other.heap.bytes.subarray(0, end))) return `values of ${name}`
  }
  const { filterState } = sound
  for (let i = 0; i < filterState.count; i++) {
    const wanted = filterState.values!.text(filterState.valueCodes[i]!)
    if (wanted !== damaged.filterState.values!.text(damaged.filterState.valueCodes[i]!)) return 'filter_state'
  }
  return null
}
