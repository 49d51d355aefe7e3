import { crc32c, Writer } from '@platformatic/kafka'
import type { Compression, OutRecord } from './producer.ts'
import { compressValue } from './value-codec.ts'

/**
 * Record batches of Kafka's message format 2, written into memory that is used again. The client libraries make several
 * copies of each batch, and buffers of a megabyte are what a garbage collector runs for: for a batch of 960 KiB three of
 * them, and a full collection for each 20 batches. That cost more than everything else of sending.
 *
 *   base offset 8 │ length 4 │ leader epoch 4 │ 2 │ CRC-32C 4 │ attributes 2 │ last offset 4 │ times 2 × 8 │ producer 8 + 2
 *   │ sequence 4 │ count 4 │ records, all of them compressed together when there is a codec
 *
 * https://kafka.apache.org/documentation/#recordbatch
 */
export interface BatchOrigin {
  readonly producerId: bigint
  readonly producerEpoch: number
  /** Of the first record: the broker takes each number once. */
  readonly sequence: number
  readonly compression: Compression
  /** Wall clock, ms: the time of all records. */
  readonly nowMs: number
}

const HEAD_BYTES = 61
const CRC_FROM = 21
const MAGIC = 2
const ATTRIBUTES: Readonly<Record<Compression, number>> = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 }
/** No number is longer than five bytes in base 128; a record has six beside those of its headers. */
const NUMBER_BYTES = 5
const RECORD_BYTES = 1 + 6 * NUMBER_BYTES
const UTF8_BYTES = 3

export class RecordBatches {
  #memory: Buffer = Buffer.alloc(0)
  #used = 0

  /** What was written before is not valid any more. */
  clear(): void {
    this.#used = 0
  }

  /** Records of one partition as a batch, whose bytes are valid until `clear`. */
  add(records: readonly OutRecord[], origin: BatchOrigin): Buffer {
    const start = this.#used
    this.#reserve(HEAD_BYTES + records.reduce((sum, record) => sum + bytesAtMost(record), 0))
    this.#used = start + HEAD_BYTES
    for (const [k, record] of records.entries()) this.#record(record, k)
    const first = start + HEAD_BYTES
    if (origin.compression !== 'none') {
      const packed = compressValue(origin.compression, this.#memory.subarray(first, this.#used))
      this.#used = first
      this.#reserve(packed.length)
      this.#bytes(packed)
    }
    const batch = this.#memory.subarray(start, this.#used)
    head(batch, records.length, origin)
    return batch
  }

  #record(record: OutRecord, offset: number): void {
    const { key, value, headers } = record
    const names = Object.keys(headers)
    const length = recordBytes(record, offset, names)
    this.#number(length)
    // Attributes, and the time after the batch's.
    this.#memory[this.#used++] = 0
    this.#number(0)
    this.#number(offset)
    if (key === null) this.#number(-1)
    else {
      this.#number(key.length)
      this.#bytes(key)
    }
    this.#number(value.length)
    this.#bytes(value)
    this.#number(names.length)
    for (const name of names) {
      this.#text(name)
      this.#text(headers[name]!)
    }
  }

  /** Base 128, least significant first, the sign in the lowest bit. */
  #number(value: number): void {
    let rest = value < 0 ? -2 * value - 1 : 2 * value
    for (; rest > 127; rest = Math.floor(rest / 128)) this.#memory[this.#used++] = (rest % 128) | 128
    this.#memory[this.#used++] = rest
  }

  #bytes(bytes: Buffer): void {
    this.#used += bytes.copy(this.#memory, this.#used)
  }

  #text(text: string): void {
    this.#number(Buffer.byteLength(text))
    this.#used += this.#memory.write(text, this.#used)
  }

  /** Batches written since `clear` keep the memory that they are in. */
  #reserve(bytes: number): void {
    const needed = this.#used + bytes
    if (needed <= this.#memory.length) return
    const memory = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#memory.length))
    this.#memory.copy(memory, 0, 0, this.#used)
    this.#memory = memory
  }
}

function head(batch: Buffer, count: number, origin: BatchOrigin): void {
  const { producerId, producerEpoch, sequence, compression, nowMs } = origin
  batch.writeBigInt64BE(0n, 0)
  batch.writeInt32BE(batch.length - 12, 8)
  batch.writeInt32BE(-1, 12)
  batch.writeInt8(MAGIC, 16)
  batch.writeInt16BE(ATTRIBUTES[compression], CRC_FROM)
  batch.writeInt32BE(count - 1, 23)
  batch.writeBigInt64BE(BigInt(nowMs), 27)
  batch.writeBigInt64BE(BigInt(nowMs), 35)
  batch.writeBigInt64BE(producerId, 43)
  batch.writeInt16BE(producerEpoch, 51)
  batch.writeInt32BE(sequence, 53)
  batch.writeInt32BE(count, 57)
  // In this wrapping alone the library looks at the bytes where they are; of a buffer it makes a copy first.
  const { dynamicBuffer } = Writer.create().append(batch.subarray(CRC_FROM))
  batch.writeUInt32BE(crc32c(dynamicBuffer), 17)
}

/** After the number that says it. */
function recordBytes({ key, value, headers }: OutRecord, offset: number, names: readonly string[]): number {
  let bytes = 1 + 1 + numberBytes(offset) + numberBytes(value.length) + value.length + numberBytes(names.length)
  bytes += key === null ? 1 : numberBytes(key.length) + key.length
  for (const name of names) bytes += textBytes(name) + textBytes(headers[name]!)
  return bytes
}

function textBytes(text: string): number {
  const length = Buffer.byteLength(text)
  return numberBytes(length) + length
}

function numberBytes(value: number): number {
  let bytes = 1
  for (let rest = 2 * value; rest > 127; rest = Math.floor(rest / 128)) bytes++
  return bytes
}

function bytesAtMost({ key, value, headers }: OutRecord): number {
  let bytes = RECORD_BYTES + (key?.length ?? 0) + value.length
  for (const [name, text] of Object.entries(headers)) {
    bytes += 2 * NUMBER_BYTES + UTF8_BYTES * (name.length + text.length)
  }
  return bytes
}
