import type { LineParser } from '../parser.ts'
import { parseInstant } from '../unwrap/time.ts'
import { durationNs, integer, or, protocolOf } from './values.ts'

/**
 * MOSN's default line. Durations are Go's; local times have no zone and are taken for UTC. Two points are known: when
 * the request left for the service, and when the answer came.
 *
 * `start trace  connection upstream_connection request_received response_received sent received protocol code duration
 * flag code upstream_local downstream_local downstream_remote upstream_host`; there are two blanks after the trace id.
 */
export const mosn: LineParser = {
  name: 'mosn',
  precisionNs: 1,
  source: 'text',
  parse(line, entry) {
    const match = LINE.exec(line)
    if (match === null) return NOT_ACCESS.test(line) ? 'not_an_entry' : 'unmatched'
    const [
      ,
      date,
      time,
      trace,
      ,
      ,
      requested,
      answered,
      sent,
      received,
      protocol,
      code,
      duration,
      ,
      again,
      upLocal,
      local,
      remote,
      host,
    ] = match as unknown as string[]
    const at = parseInstant(`${date!.replaceAll('/', '-')}T${time}Z`)
    const total = durationNs(duration!)
    const status = integer(code!)
    if (at === null || Number.isNaN(total) || Number.isNaN(status) || again !== code) return 'bad_value'
    entry.startSeconds = at.seconds
    entry.startNanos = at.nanos
    entry.durationNs = total
    // Its other protocols (Dubbo, Bolt …) are requests, too; what has neither protocol nor code is a connection.
    if (protocol === '-' && status === 0) {
      entry.tcp = true
      entry.type = 3
    } else entry.code = status
    entry.protocol = HTTP[protocol!] ?? ''
    if (entry.protocol === '' && protocol !== '-') entry.customTags.add('protocol', protocolOf(protocol!))
    const left = durationNs(requested!)
    const came = durationNs(answered!)
    if (!entry.tcp && left > 0 && left <= total) {
      entry.upTxBeginNs = left
      entry.upTxEndNs = left
      if (came > 0 && came <= total) entry.upRxBeginNs = came
    }
    entry.responseBodyBytes = integer(sent!) || 0
    entry.requestBodyBytes = integer(received!) || 0
    if (/^(?:[0-9a-f]{16}|[0-9a-f]{32})$/.test(trace!)) entry.traceId = trace!
    entry.upstreamLocal = or(upLocal!)
    entry.downstreamLocal = or(local!)
    entry.downstreamRemote = or(remote!)
    entry.upstreamHost = or(host!)
    return null
  },
}

const LINE =
  /^(\d{4}\/\d\d\/\d\d) (\d\d:\d\d:\d\d\.\d{3}) (\S*) {2}(\S+) (\S+) (\S+) (\S+) (\d+) (\d+) (\S+) (\d+) (\S+) (true|false) (\d+) (\S+) (\S+) (\S+) (\S+)$/
/** MOSN's own log: `2026-01-01 00:00:00,250 [INFO] …`. */
const NOT_ACCESS = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[[A-Z]+\] /
const HTTP: Readonly<Record<string, string>> = { Http1: 'HTTP/1.1', Http2: 'HTTP/2' }
