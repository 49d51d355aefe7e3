import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Rig } from './rig.ts'

/** One line of the rig's JSON access log: what Envoy itself says of a request. Absent values are null. */
export interface AccessLogLine {
  /** RFC 3339 with microseconds, of the start. */
  readonly start_time: string
  readonly access_log_type: string
  readonly scenario: string | null
  readonly seq: string | null
  readonly method: string | null
  readonly path: string | null
  readonly authority: string | null
  readonly protocol: string | null
  readonly upstream_protocol: string | null
  /** 0 when no code was sent. */
  readonly response_code: number
  readonly response_code_details: string | null
  /** Short names joined by commas, in no fixed order; '-' or null for none. */
  readonly response_flags: string | null
  readonly response_flags_long: string | null
  readonly connection_termination_details: string | null
  readonly upstream_transport_failure_reason: string | null
  readonly bytes_received: number
  readonly bytes_sent: number
  /** Whole ms, rounded down; null when there is none. */
  readonly duration: number | null
  readonly upstream_service_time: string | null
  readonly served_us: string | null
  readonly upstream_host: string | null
  /** The cluster that was chosen, also where the access log service does not name it. */
  readonly upstream_cluster: string | null
  readonly route_name: string | null
  readonly listener: string | null
  readonly downstream: string | null
  readonly attempts: number
  readonly user_agent: string | null
  readonly request_id: string | null
  readonly stream_id: string | null
  readonly trace_id: string | null
  readonly grpc_status: number | null
  /** Points in whole microseconds after the start. */
  readonly t_rx_end_us: number | null
  readonly t_us_tx_beg_us: number | null
  readonly t_us_tx_end_us: number | null
  readonly t_us_rx_beg_us: number | null
  readonly t_us_rx_end_us: number | null
  readonly t_ds_tx_beg_us: number | null
  readonly t_ds_tx_end_us: number | null
}

/** The rig's JSON access log as it is now. A last line that is still being written is left out. */
export async function readAccessLog(rig: Pick<Rig, 'dir'>): Promise<AccessLogLine[]> {
  const text = await readFile(join(rig.dir, 'access-json.log'), 'utf8').catch(() => '')
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as AccessLogLine)
}

/**
 * The access log once nothing has been added to it for `quietMs`. Envoy writes it, and flushes to the access log
 * service, every 200 ms; a connection that the client closed can end a little later.
 */
export async function settledAccessLog(
  rig: Pick<Rig, 'dir'>,
  { quietMs = 1_000, timeoutMs = 30_000 } = {},
): Promise<AccessLogLine[]> {
  const deadline = performance.now() + timeoutMs
  let lines = await readAccessLog(rig)
  let changed = performance.now()
  while (performance.now() - changed < quietMs) {
    if (performance.now() > deadline) throw new Error(`The access log of ${rig.dir} still grows`)
    await sleep(100)
    const now = await readAccessLog(rig)
    if (now.length !== lines.length) changed = performance.now()
    lines = now
  }
  return lines
}

/** Whether a line is of a finished request or connection, which is what counts as a request. */
export function isRequest(line: AccessLogLine): boolean {
  return line.access_log_type === 'DownstreamEnd' || line.access_log_type === 'TcpConnectionEnd'
}
