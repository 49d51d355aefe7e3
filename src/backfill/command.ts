import { resolve } from 'node:path'
import { type App, startApp } from '../app.ts'
import type { Config } from '../config.ts'
import { SidecastError } from '../errors.ts'
import { lockDirectory } from '../lib/directory-lock.ts'
import { createLog, type Log } from '../telemetry/log.ts'
import { backfillFile } from './backfill.ts'
import { createSender } from './send.ts'
import { type Show, showBar, showJson } from './show.ts'

/**
 * `sidecast backfill FILE…`: to a sidecast that runs, or, when nobody has the data directory, by opening it for as long as
 * that takes.
 */
export interface BackfillCommand {
  readonly files: readonly string[]
  /** Of a running sidecast; found out by the data directory if it is not given. */
  readonly url?: string | undefined
  readonly preset?: string | undefined
  readonly format?: string | undefined
  readonly node?: string | undefined
  readonly service?: string | undefined
  /** The configuration with these `path=value` on top. */
  readonly configure: (overrides: readonly string[]) => Config
  /** Columns of the terminal; null where there is none. */
  readonly columns: (() => number) | null
  readonly signal: AbortSignal
  stdout(text: string): unknown
  stderr(text: string): unknown
}

/** Exit code: 0 when every file is stored to its end. */
export async function runBackfill(command: BackfillCommand): Promise<number> {
  const { files, signal, columns } = command
  const log = createLog((line) => command.stderr(line))
  const now = () => performance.now()
  const show = columns === null ? showJson(command.stdout, now) : showBar(command.stderr, columns, now)
  const { url, app } = await open(command, log)
  const { preset, format, node, service } = command
  const sender = createSender({ url, preset, format, node, service, signal, onWait: (reason) => show.wait(reason) })
  try {
    return (await sendAll(files, sender, show, signal)) ? 0 : 1
  } finally {
    await app?.stop()
  }
}

async function sendAll(
  files: readonly string[],
  sender: ReturnType<typeof createSender>,
  show: Show,
  signal: AbortSignal,
): Promise<boolean> {
  let whole = true
  for (const file of files) {
    if (signal.aborted) return false
    const result = await backfillFile({ file, sender, signal, onProgress: (progress) => show.progress(progress) })
    show.file(result)
    whole &&= result.error === null
  }
  return whole
}

/** Nobody but us is to find the listeners of a process that is there for a moment. */
const QUIET = [
  'http.listen=127.0.0.1:0',
  'ingest.grpc.listen=127.0.0.1:0',
  'ingest.otlpHttp.listen=127.0.0.1:0',
  'ingest.statsd.udp=""',
  'ingest.statsd.tcp=""',
  'ingest.statsd.unix=""',
  'ingest.statsd.unixStream=""',
  'ingest.files=[]',
  'ingest.stdin.enabled=false',
  'ingest.scrape=[]',
  'ingest.kafka=[]',
  'ingest.syslog={}',
  'ingest.fluentd={}',
]

async function open(command: BackfillCommand, log: Log): Promise<{ url: string; app: App | null }> {
  if (command.url !== undefined) return { url: command.url.replace(/\/+$/, ''), app: null }
  const config = command.configure([])
  if (isInUse(resolve(config.data, 'journal', '0'))) return { url: `http://${config.http.listen}`, app: null }
  const quiet = { ...log, info() {} }
  const app = await startApp({ config: command.configure(QUIET), log: quiet })
  return { url: `http://${app.addresses.http}`, app }
}

function isInUse(journal: string): boolean {
  const attempt = lockDirectory(journal)
  if (attempt.held) attempt.lock.release()
  else if (attempt.ownerPid !== null) return true
  return false
}

export function requireFiles(files: readonly string[]): void {
  if (files.length > 0) return
  throw new SidecastError('SC1207', 'backfill takes files', { help: 'sidecast backfill FILE…' })
}
