import type { Readable } from 'node:stream'
import type { Clock } from '../../lib/clock.ts'
import { parseBytes } from '../../lib/units.ts'
import type { Journal } from '../../pipeline/journal.ts'
import type { Lane } from '../../pipeline/lane.ts'
import type { Log } from '../../telemetry/log.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins, Sender } from '../entry/origins.ts'
import { configuredParser } from './configured.ts'
import { createFilesReceiver, type FilesReceiver } from './files.ts'
import { createLogsReceiver, type LogsReceiver } from './http.ts'
import { createStdinReceiver, type StdinReceiver } from './stdin.ts'

/** What the configuration says of lines and who wrote them; empty texts: nothing. */
export interface LinesConfig {
  readonly preset: string
  readonly format: string
  readonly node: string
  readonly mesh: string
  readonly region: string
  readonly zone: string
  readonly workload: string
  readonly namespace: string
  readonly service: string
  readonly version: string
}

/** One entry of `ingest.files`. */
export interface FilesConfig extends LinesConfig {
  readonly paths: readonly string[]
  readonly exclude: readonly string[]
  readonly rotated: boolean
  readonly start: 'beginning' | 'end'
  readonly lineMax: string
}

export interface LinesParts {
  /** One for each receiver: positions count entries. */
  readonly newWriter: () => EntryWriter
  readonly origins: Origins
  readonly lane: Lane
  readonly journal: Journal
  readonly onDecoded: (nodeId: string, decoded: number, rejected: number) => void
  readonly stdin: () => Readable
  readonly clock: Clock
  readonly log: Log
}

export interface Lines {
  readonly files: FilesReceiver
  /** Null: standard input is not read. */
  readonly stdin: StdinReceiver | null
  readonly logs: LogsReceiver
}

/** Receivers of log lines: `ingest.files`, `ingest.stdin`, `ingest.http`. */
export function openLines(
  config: {
    readonly files: readonly FilesConfig[]
    readonly stdin: LinesConfig & { readonly enabled: boolean }
    readonly http: { readonly bodyMax: string; readonly decompressedMax: string; readonly lineMax: string }
  },
  parts: LinesParts,
): Lines {
  const { lane, journal, origins, clock, log } = parts
  const shared = {
    origins,
    gate: lane.gate,
    addNoteSource: lane.addNoteSource.bind(lane),
    notes: journal.notes.bind(journal),
    forget: journal.forget.bind(journal),
    onRejected: (node: string, lines: number) => parts.onDecoded(node, 0, lines),
    clock,
  }
  const lineBytesMax = Math.max(0, ...config.files.map(({ lineMax }) => parseBytes(lineMax)!))
  return {
    files: createFilesReceiver({
      ...shared,
      groups: config.files.map((file, k) => ({
        paths: file.paths,
        exclude: file.exclude,
        rotated: file.rotated,
        start: file.start,
        parser: configuredParser(file, `ingest.files.${k}`),
        sender: senderOf(file, 'file'),
      })),
      writer: parts.newWriter(),
      log,
      ...(lineBytesMax === 0 ? {} : { limits: { lineBytesMax } }),
    }),
    stdin: config.stdin.enabled
      ? createStdinReceiver({
          ...shared,
          input: parts.stdin(),
          writer: parts.newWriter(),
          parser: configuredParser(config.stdin, 'ingest.stdin')(),
          sender: senderOf(config.stdin, 'stdin'),
        })
      : null,
    logs: createLogsReceiver({
      ...shared,
      writer: parts.newWriter(),
      synced: () => lane.synced(),
      limits: {
        bodyBytesMax: parseBytes(config.http.bodyMax)!,
        decompressedBytesMax: parseBytes(config.http.decompressedMax)!,
        lineBytesMax: parseBytes(config.http.lineMax)!,
      },
    }),
  }
}

function senderOf(config: LinesConfig, logName: string): Omit<Sender, 'source' | 'precisionNs'> {
  const { node, mesh, region, zone, workload, namespace, service, version } = config
  return {
    ...(node === '' ? {} : { nodeId: node }),
    logName,
    mesh,
    region,
    zone,
    self: { workload, namespace, service, version },
  }
}
