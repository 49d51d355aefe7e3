import type { AccessEntry } from '../../entry/entry.ts'
import type { LineParser } from '../parser.ts'
import { parseInstant } from '../unwrap/time.ts'
import { type JsonForm, textOf } from './json.ts'
import { integer, or, present, protocolOf, setUri } from './values.ts'

/**
 * Access log of linkerd2-proxy (`config.linkerd.io/access-log: json` or `apache`), written by the destination's proxy when
 * the head of the answer passes: `total_ns` ends there, and bodies are not timed. `timestamp` is when the request came.
 */
export const linkerdJson: JsonForm = {
  name: 'linkerd-json',
  precisionNs: 1,
  detects: (record) => 'total_ns' in record && 'client.addr' in record,
  fill(record, entry) {
    const code = integer(textOf(record, 'status'))
    const total = integer(textOf(record, 'total_ns'))
    if (Number.isNaN(code) || Number.isNaN(total)) return 'bad_value'
    if (!setStart(entry, textOf(record, 'timestamp'))) return 'bad_value'
    entry.code = code
    entry.durationNs = total
    entry.method = textOf(record, 'method')
    entry.authority = textOf(record, 'host')
    setUri(entry, textOf(record, 'uri'))
    entry.protocol = protocolOf(textOf(record, 'version'))
    entry.userAgent = textOf(record, 'user_agent')
    entry.requestBodyBytes = integer(textOf(record, 'request_bytes')) || 0
    entry.responseBodyBytes = integer(textOf(record, 'response_bytes')) || 0
    const trace = textOf(record, 'trace_id')
    if (/^(?:[0-9a-f]{16}|[0-9a-f]{32})$/.test(trace)) entry.traceId = trace
    else entry.requestId = trace
    const processing = textOf(record, 'processing_ns')
    if (present(processing)) entry.customTags.add('processing_ns', processing)
    setClient(entry, textOf(record, 'client.addr'), textOf(record, 'client.id'))
    return null
  },
}

const APACHE = /^(\S+:\d{1,5}) (\S+) - \[(\d{4}-\d\d-\d\dT[^\]]+)\] "(\S+) (\S+) (HTTP\/[\d.]+)" (\d{3}|-)$/

export const linkerdApache: LineParser = {
  name: 'linkerd-apache',
  precisionNs: 1,
  source: 'text',
  parse(line, entry) {
    const match = APACHE.exec(line)
    if (match === null) return 'unmatched'
    const [, client, id, timestamp, method, uri, version, status] = match as unknown as string[]
    if (!setStart(entry, timestamp!)) return 'bad_value'
    entry.method = method!
    setUri(entry, uri!)
    entry.protocol = protocolOf(version!)
    entry.code = Number(or(status!, '0'))
    setClient(entry, client!, id!)
    return null
  },
}

function setStart(entry: AccessEntry, text: string): boolean {
  const at = parseInstant(text)
  if (at === null) return false
  entry.startSeconds = at.seconds
  entry.startNanos = at.nanos
  return true
}

/** The id is `<service account>.<namespace>.serviceaccount.identity.<linkerd's namespace>.<trust domain>`. */
function setClient(entry: AccessEntry, address: string, id: string): void {
  entry.downstreamRemote = address
  entry.reporter = 'destination'
  entry.untold = true
  if (!present(id)) return
  entry.source.set('principal', id)
  const match = /^[^.]+\.([^.]+)\.serviceaccount\.identity\./.exec(id)
  if (match !== null) entry.source.set('namespace', match[1]!)
}
