import { Readable } from 'node:stream'
import { createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import type { Clock } from '../../lib/clock.ts'
import { createSemaphore } from '../../lib/semaphore.ts'
import type { Note } from '../../pipeline/journal-format.ts'
import type { LaneGate, NoteSource } from '../../pipeline/lane.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins } from '../entry/origins.ts'
import { createForms, isFormProblem } from './forms.ts'
import { createGateWait } from './gate.ts'
import { createKeys, ERRORS_MAX, type KeyState, type Keys, keyNote, type LineError } from './keys.ts'
import type { LineParser } from './parser.ts'
import { Prefix } from './prefix.ts'
import { createLineReader, type LineReader } from './read-line.ts'
import { createRejectedLines, type RejectedLines } from './rejected-lines.ts'
import { LineSource } from './source.ts'
import { createJsonSplitter, lineSplitter } from './split.ts'
import { createUnwrapper } from './unwrap/index.ts'

/**
 * Log lines over HTTP, apart from HTTP itself: a body of lines or JSON becomes rows, and is answered when they are on disk.
 *
 *   body ─► decompress ─► split ─► writer ─► lane ─► fsync ─► how many were accepted, how many not, and why
 *
 * With a key the position in the body is noted in the journal in one record with the rows. Whoever repeats a request under
 * its key, after whatever happened to the first one, stores nothing twice: what is there is stepped over, and the answer
 * counts it. Parts of one content (Content-Range) are one body, that may come in many requests.
 */
export interface LogsReceiver extends Stage {
  take(request: LogsRequest): Promise<LogsAnswer | LogsRefusal>
  /** How far the content of a key is stored: for those who send it in parts. */
  position(key: string): LogsPosition
  readonly counters: Readonly<LogsCounters>
  readonly rejected: RejectedLines
}

export interface LogsRequest {
  readonly body: Readable
  readonly contentType: string
  readonly contentEncoding: string
  readonly preset?: string | undefined
  readonly format?: string | undefined
  readonly service?: string | undefined
  readonly node?: string | undefined
  /** Idempotency-Key. */
  readonly key?: string | undefined
  /** Offset of the first byte of the body in the whole content, when it is a part of one. */
  readonly from?: number | undefined
  /** Address of the sender. */
  readonly peer: string
  /** Aborts when the sender is gone. */
  readonly signal: AbortSignal
}

export interface LogsAnswer {
  readonly accepted: number
  readonly rejected: number
  readonly errors: readonly LineError[]
}

export interface LogsRefusal {
  readonly refused: LogsRefusalCode
  readonly detail: string
  readonly parameter?: string
  readonly help?: string
  /** What became rows all the same: they are safe, or will be. */
  readonly accepted: number
  readonly rejected: number
  readonly errors: readonly LineError[]
  readonly retryAfterSeconds?: number
}

export type LogsRefusalCode =
  | 'bad_parameter'
  | 'bad_body'
  | 'body_too_large'
  | 'unsupported_media_type'
  | 'nothing_accepted'
  | 'key_reused'
  | 'key_in_use'
  | 'wrong_position'
  | 'journal_full'
  | 'stopping'

export interface LogsPosition {
  /** Bytes of the content that need not be sent again, and the CRC-32 of `checked` bytes. */
  readonly position: number
  readonly checked: number
  readonly crc: number
  /** CRC-32 of the first 64 · 4^k bytes, as many as there are. */
  readonly marks: readonly number[]
  readonly accepted: number
  readonly rejected: number
}

export interface LogsCounters {
  requests: number
  /** Decompressed. */
  bytes: number
  lines: number
  rows: number
  readonly rejected: Map<string, number>
  readonly refused: Map<LogsRefusalCode, number>
  /** Wall clock, ms, of the last request; 0 before the first. */
  lastMs: number
}

export interface LogsOptions {
  /** Not shared with others: a position is exact only when nobody else's entries are between. */
  readonly writer: EntryWriter
  readonly origins: Origins
  readonly gate: LaneGate
  readonly synced: () => Promise<void>
  readonly addNoteSource: (source: NoteSource) => () => void
  readonly notes: (prefix: string) => Iterable<Note>
  readonly forget: (key: string) => void
  readonly onRejected?: (nodeId: string, lines: number) => void
  readonly clock: Clock
  readonly limits?: Partial<LogsLimits>
}

export interface LogsLimits {
  /** Of a body as it comes, and decompressed. */
  readonly bodyBytesMax: number
  readonly decompressedBytesMax: number
  readonly lineBytesMax: number
  /** How long a request waits for room in the journal. */
  readonly roomMs: number
}

const LIMITS: LogsLimits = {
  bodyBytesMax: 64 << 20,
  decompressedBytesMax: 512 << 20,
  lineBytesMax: 1 << 20,
  roomMs: 20_000,
}
const RETRY_SECONDS = 5
/** Pieces that decompression brings; a larger one costs the other requests their turn. */
const PIECE_BYTES = 64 << 10
const STOP_TICK_MS = 20
const KEY_CHARS_MAX = 256

export function createLogsReceiver(options: LogsOptions): LogsReceiver {
  return new Logs(options)
}

class Logs implements LogsReceiver {
  readonly name = 'logs'
  readonly counters: LogsCounters = {
    requests: 0,
    bytes: 0,
    lines: 0,
    rows: 0,
    rejected: new Map(),
    refused: new Map(),
    lastMs: 0,
  }
  readonly rejected = createRejectedLines()
  readonly #options: LogsOptions
  readonly #limits: LogsLimits
  readonly #forms = createForms()
  readonly #keys: Keys
  readonly #turns = createSemaphore(1)
  readonly #gateOpen: (signal: AbortSignal) => Promise<void>
  /** Keys whose rows may be in the builders. */
  readonly #dirty = new Set<KeyState>()
  #active = 0
  #stopping = false

  constructor(options: LogsOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#gateOpen = createGateWait(options.gate)
    this.#keys = createKeys({ ...options, now: () => options.clock.now() })
    options.addNoteSource({
      notes: () => [...this.#dirty].map(keyNote),
      noted: () => {
        // A request under way brings more.
        for (const state of this.#dirty) if (state.source === null) this.#dirty.delete(state)
      },
    })
  }

  position(key: string): LogsPosition {
    const state = this.#keys.find(key)
    if (state === null) return { position: 0, checked: 0, crc: 0, marks: [], accepted: 0, rejected: 0 }
    const { prefix, replayFrom, accepted, rejected } = state
    const position = replayFrom < 0 || state.reader !== null ? prefix.bytes : replayFrom
    return { position, checked: prefix.bytes, crc: prefix.crc, marks: prefix.marks, accepted, rejected }
  }

  async start(): Promise<void> {}

  /** Takes nothing more, and waits for what is under way. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.#stopping = true
    while (this.#active > 0 && !deadline.aborted) await this.#options.clock.sleep(STOP_TICK_MS, deadline)
  }

  async take(request: LogsRequest): Promise<LogsAnswer | LogsRefusal> {
    if (this.#stopping) {
      return { ...refusal('stopping', 'the process is stopping', NOTHING), retryAfterSeconds: RETRY_SECONDS }
    }
    this.#active++
    try {
      return await this.#count(request)
    } finally {
      this.#active--
    }
  }

  async #count(request: LogsRequest): Promise<LogsAnswer | LogsRefusal> {
    const { counters } = this
    counters.requests++
    counters.lastMs = this.#options.clock.now()
    const result = await this.#take(request)
    if ('refused' in result) {
      counters.refused.set(result.refused, (counters.refused.get(result.refused) ?? 0) + 1)
    }
    return result
  }

  async #take(request: LogsRequest): Promise<LogsAnswer | LogsRefusal> {
    if (this.#options.gate.closed) return journalFull(NOTHING)
    const form = this.#forms(request)
    if (isFormProblem(form)) {
      const { option, problem, help } = form
      return {
        ...refusal('bad_parameter', problem, NOTHING),
        parameter: option,
        ...(help === undefined ? {} : { help }),
      }
    }
    const type = typeOf(request.contentType)
    if (type === null) {
      return {
        ...refusal(
          'unsupported_media_type',
          `bodies of type ${request.contentType.slice(0, 100)} are not read`,
          NOTHING,
        ),
        help: 'send application/x-ndjson, application/json or text/plain',
      }
    }
    const content = decompressed(request, this.#limits.bodyBytesMax)
    if (content === null) {
      return {
        ...refusal(
          'unsupported_media_type',
          `content-encoding ${request.contentEncoding.slice(0, 100)} is not known`,
          NOTHING,
        ),
        help: 'send gzip, deflate, zstd, or nothing of the kind',
      }
    }
    const key = request.key
    if (key === undefined) {
      if (request.from !== undefined) return refusal('bad_parameter', 'Content-Range needs an Idempotency-Key', NOTHING)
      return this.#read(request, content, form, type, null)
    }
    if (key === '' || key.length > KEY_CHARS_MAX) {
      return refusal('bad_parameter', `an Idempotency-Key has 1 to ${KEY_CHARS_MAX} characters`, NOTHING)
    }
    const state = this.#keys.of(key)
    if (state.source !== null) {
      return {
        ...refusal('key_in_use', 'a request with this Idempotency-Key is under way', state),
        retryAfterSeconds: 1,
      }
    }
    return this.#read(request, content, form, type, state)
  }

  async #read(
    request: LogsRequest,
    content: Readable,
    form: LineParser,
    type: 'lines' | 'json',
    state: KeyState | null,
  ): Promise<LogsAnswer | LogsRefusal> {
    const errors: LineError[] = state === null ? [] : state.errors
    const known = state?.prefix ?? new Prefix()
    const from = request.from ?? 0
    if (from > known.bytes) {
      return refusal(
        'wrong_position',
        `the content is stored up to byte ${known.bytes}, this begins at ${from}`,
        state!,
      )
    }
    const parts = request.from !== undefined
    const reader = (parts ? state?.reader : null) ?? this.#readerOf(request, form)
    const source = this.#sourceOf(request, { reader, type, state, from, errors })
    const before = { accepted: state?.accepted ?? 0 }
    if (state !== null) {
      state.source = source
      state.parts ||= parts
      this.#dirty.add(state)
    }
    const sofar = (): Sofar => ({
      accepted: before.accepted + source.added - source.refused,
      rejected: source.rejected + source.refused,
      errors: errors.slice(0, ERRORS_MAX),
    })
    const release = (): void => {
      if (state === null) return
      const { prefix, replayFrom, rejected } = source.position()
      state.prefix = prefix.copy()
      state.replayFrom = replayFrom
      state.accepted = before.accepted + source.added
      state.rejected = rejected
      state.reader = parts && reader.holds ? reader : null
      state.source = null
    }
    const seen = parts ? null : new Prefix()
    const verdict = await this.#pump(request, content, source, known, seen, sofar)
    if (verdict === 'later') {
      // What is in the writer becomes rows when there is room: until then the request is under way, and so is its key.
      void this.#settle(source, new AbortController().signal).then(release)
      return journalFull(sofar())
    }
    if (verdict === null && seen !== null && seen.bytes < known.bytes) {
      release()
      return refusal('key_reused', 'the Idempotency-Key was used for a longer body', sofar())
    }
    try {
      await this.#options.synced()
    } catch {
      release()
      return journalFull(sofar())
    }
    release()
    if (verdict !== null) return { ...verdict, ...sofar() }
    const { accepted, rejected } = sofar()
    if (accepted === 0 && rejected > 0) return refusal('nothing_accepted', 'no line could be read', sofar())
    return sofar()
  }

  /** Reads the body to its end. Null: done. 'later': no room in the journal for too long. */
  async #pump(
    request: LogsRequest,
    content: Readable,
    source: LineSource,
    known: Prefix,
    seen: Prefix | null,
    sofar: () => Sofar,
  ): Promise<LogsRefusal | 'later' | null> {
    const { decompressedBytesMax, lineBytesMax } = this.#limits
    let bytes = 0
    try {
      for await (const piece of content) {
        const whole = piece as Buffer
        bytes += whole.length
        this.counters.bytes += whole.length
        if (bytes > decompressedBytesMax) {
          return refusal('body_too_large', `the body has more than ${decompressedBytesMax} bytes decompressed`, sofar())
        }
        if (seen !== null && seen.bytes < known.bytes) {
          seen.advance(whole.subarray(0, known.bytes - seen.bytes))
          if (seen.bytes === known.bytes && seen.crc !== known.crc) {
            return refusal('key_reused', 'the Idempotency-Key was used for another body', sofar())
          }
        }
        for (let at = 0; at < whole.length; at += PIECE_BYTES) {
          const outcome = await this.#give(source, whole.subarray(at, at + PIECE_BYTES))
          if (outcome === 'later') return 'later'
          if (outcome === 'too_large') {
            return refusal('body_too_large', `a value has more than ${lineBytesMax} bytes`, sofar())
          }
        }
      }
    } catch (error) {
      if (error instanceof BodyTooLarge) return refusal('body_too_large', error.message, sofar())
      if (request.signal.aborted) return refusal('bad_body', 'the sender left', sofar())
      const reason = error instanceof Error ? error.message : String(error)
      return refusal('bad_body', `the body cannot be read: ${reason}`, sofar())
    }
    // A part of a content ends at the end of a line, or its last line comes again.
    if (request.from === undefined && (await this.#give(source, null)) === 'later') return 'later'
    return null
  }

  /** One at a time: the writer counts entries in order. */
  async #give(source: LineSource, piece: Buffer | null): Promise<'ok' | 'later' | 'too_large'> {
    const leave = await this.#turns.enter(NEVER)
    let fits = true
    if (piece === null) source.end()
    else fits = source.push(piece)
    if (source.settled) {
      leave()
      return fits ? 'ok' : 'too_large'
    }
    const patience = new AbortController()
    const timer = setTimeout(() => patience.abort(), this.#limits.roomMs)
    await this.#settle(source, patience.signal)
    clearTimeout(timer)
    if (source.settled) {
      leave()
      return 'ok'
    }
    // Nobody gets a turn before this has found its room.
    void this.#settle(source, NEVER).then(leave)
    return 'later'
  }

  async #settle(source: LineSource, signal: AbortSignal): Promise<void> {
    while (!source.settled && !signal.aborted) {
      await this.#gateOpen(signal)
      if (!signal.aborted) source.settle()
    }
  }

  #readerOf(request: LogsRequest, parser: LineParser): LineReader {
    const { writer, origins } = this.#options
    return createLineReader({
      parser,
      unwrapper: createUnwrapper({ charsMax: this.#limits.lineBytesMax, streamsMax: 16, hintsMax: 256 }),
      writer,
      origins,
      sender: {
        ...(request.node === undefined ? {} : { nodeId: request.node }),
        logName: 'http',
        ...(request.service === undefined ? {} : { self: { service: request.service } }),
      },
    })
  }

  #sourceOf(
    request: LogsRequest,
    run: { reader: LineReader; type: 'lines' | 'json'; state: KeyState | null; from: number; errors: LineError[] },
  ): LineSource {
    const { reader, type, state, from, errors } = run
    const { counters } = this
    return new LineSource({
      reader,
      writer: this.#options.writer,
      splitter: type === 'json' ? createJsonSplitter() : lineSplitter,
      entryBytesMax: this.#limits.lineBytesMax,
      ...(state === null ? {} : { prefix: state.prefix, rejected: state.rejected }),
      from,
      onReject: (reason, line, _end, text) => {
        counters.rejected.set(reason, (counters.rejected.get(reason) ?? 0) + 1)
        if (errors.length < ERRORS_MAX) errors.push({ line, reason })
        this.#options.onRejected?.(request.node ?? '', 1)
        this.rejected.add({ reason, source: request.peer, position: line, text, timeMs: counters.lastMs })
      },
      onChunk: (lines, _bytes, rows) => {
        counters.lines += lines
        counters.rows += rows
      },
    })
  }
}

interface Sofar {
  readonly accepted: number
  readonly rejected: number
  readonly errors: readonly LineError[]
}

const NOTHING: Sofar = { accepted: 0, rejected: 0, errors: [] }
const NEVER = new AbortController().signal

function refusal(refused: LogsRefusalCode, detail: string, { accepted, rejected, errors }: Sofar): LogsRefusal {
  return { refused, detail, accepted, rejected, errors }
}

const journalFull = (sofar: Sofar): LogsRefusal => ({
  ...refusal('journal_full', 'the journal has no room', sofar),
  retryAfterSeconds: RETRY_SECONDS,
})

/** What curl and many agents say when nobody tells them is taken for lines. Null: something that is no text. */
function typeOf(contentType: string): 'lines' | 'json' | null {
  const type = contentType.split(';')[0]!.trim().toLowerCase()
  if (type === 'application/json') return 'json'
  if (type === '' || type.startsWith('text/') || LINE_TYPES.has(type)) return 'lines'
  return null
}

const LINE_TYPES = new Set([
  'application/x-ndjson',
  'application/ndjson',
  'application/jsonl',
  'application/x-jsonlines',
  'application/json-lines',
  'application/octet-stream',
  'application/x-www-form-urlencoded',
])

class BodyTooLarge extends Error {}

/** The body without its compression, read no further than allowed. Null: the compression is not known. */
function decompressed({ body, contentEncoding }: LogsRequest, bytesMax: number): Readable | null {
  const encoding = contentEncoding.trim().toLowerCase()
  const options = { chunkSize: PIECE_BYTES }
  const decompress =
    encoding === 'gzip' || encoding === 'x-gzip'
      ? createGunzip(options)
      : encoding === 'deflate'
        ? createInflate(options)
        : encoding === 'zstd'
          ? createZstdDecompress(options)
          : null
  if (decompress === null && encoding !== '' && encoding !== 'identity') return null
  const counted = Readable.from(counting(body, bytesMax), { objectMode: false })
  if (decompress === null) return counted
  counted.on('error', (error) => decompress.destroy(error))
  decompress.on('close', () => counted.destroy())
  return counted.pipe(decompress)
}

async function* counting(body: Readable, bytesMax: number): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of body) {
    bytes += (chunk as Buffer).length
    if (bytes > bytesMax) throw new BodyTooLarge(`the body has more than ${bytesMax} bytes`)
    yield chunk as Buffer
  }
}
