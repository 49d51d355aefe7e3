import type { LineParser } from '../parser.ts'
import { clfInstant } from './clf.ts'
import { or, setRequestLine, TCP_CONNECTION_END } from './values.ts'

/**
 * HAProxy's `httplog`, `httpslog` and `tcplog`. Its timers are consecutive, so they are points of the request:
 *
 *     0 ─TR─► request's head is there ─Tw─► ─Tc─► connected ─Tr─► head of the answer ─ … ─► Ta
 *
 * A timer of −1 was never reached, nor what follows it. Times are local ones of HAProxy's host, without a zone.
 */
export const haproxy: LineParser = {
  name: 'haproxy',
  precisionNs: 1_000_000,
  source: 'text',
  parse(line, entry) {
    const head = HEAD.exec(line)
    if (head === null) return NOTICE.test(line) ? 'not_an_entry' : 'unmatched'
    const [whole, client, time, frontend, rest] = head as unknown as string[]
    const at = clfInstant(time!)
    if (whole === undefined || at === null) return 'bad_value'
    const http = HTTP.exec(rest!)
    const tcp = http === null ? TCP.exec(rest!) : null
    // `frontend/bind: SSL handshake failure`: a connection that never became a request.
    if (http === null && tcp === null) return /\/\S+: /.test(`${frontend} ${rest}`) ? 'not_an_entry' : 'unmatched'
    entry.startSeconds = at.seconds
    entry.startNanos = at.nanos
    entry.downstreamRemote = client!
    entry.listener = frontend!.replace(/~$/, '')
    entry.scheme = frontend!.endsWith('~') ? 'https' : ''
    entry.reporter = 'gateway'
    if (http !== null) {
      const [, backend, server, TR, Tw, Tc, Tr, Ta, status, bytes, termination, retries, ending] =
        http as unknown as string[]
      const { captured, request } = endingOf(ending!)
      if (request === null) return 'unmatched'
      entry.durationNs = Number(Ta) < 0 ? 0 : Number(Ta) * 1e6
      points(entry, [TR!, Tw!, Tc!, Tr!].map(Number))
      entry.code = Math.max(0, Number(status))
      entry.responseBodyBytes = Number(bytes)
      setServer(entry, backend!, server!, Number(retries))
      entry.customTags.add('termination', termination!)
      if (captured !== '') entry.customTags.add('captured', captured)
      setRequestLine(entry, request)
      return null
    }
    const [, backend, server, , , Tt, bytes, termination, retries] = tcp as unknown as string[]
    entry.tcp = true
    entry.type = TCP_CONNECTION_END
    entry.scheme = ''
    entry.durationNs = Number(Tt) * 1e6
    entry.responseBodyBytes = Number(bytes)
    setServer(entry, backend!, server!, Number(retries))
    entry.customTags.add('termination', termination!)
    return null
  },
}

const HEAD = /^(\S+:\d{1,5}) \[(\d\d\/[A-Z][a-z]{2}\/\d{4}:[\d:.]+)\] (\S+) (.*)$/s
/** Counters `actconn/feconn/beconn/srv_conn/retries`, then the queues. `+` marks what was logged before the end. */
const COUNTERS = String.raw`\d+\/\d+\/\d+\/\d+\/\+?(\d+) \d+\/\d+`
const HTTP = new RegExp(
  String.raw`^([^/\s]+)\/(\S+) (-?\d+)\/(-?\d+)\/(-?\d+)\/(-?\d+)\/\+?(-?\d+) (-?\d+) \+?(\d+) \S+ \S+ (\S{4}) ${COUNTERS}(.*)$`,
  's',
)
const TCP = new RegExp(String.raw`^([^/\s]+)\/(\S+) (-?\d+)\/(-?\d+)\/\+?(\d+) \+?(\d+) (\S{2}) ${COUNTERS}`)
/** Starts, stops, health checks. */
const NOTICE =
  /^(?:\[[A-Z]+\] |Proxy \S+ (?:started|stopped|stopping)|Server \S+\/\S+ is |Health check |Stopping |backend \S+ has no server)/

/**
 * ` {captured request headers} {captured response headers} "request line"`, and with `httpslog` more behind it. Headers
 * may hold anything; a request line that is cut has no closing quote.
 */
function endingOf(text: string): { readonly captured: string; readonly request: string | null } {
  const at = text.startsWith(' {') ? text.indexOf('} "') + 1 : 0
  if (!text.startsWith(' "', at)) return { captured: '', request: null }
  const last = text.lastIndexOf('"')
  return { captured: text.slice(1, at), request: text.slice(at + 2, last > at + 1 ? last : undefined) }
}

function setServer(
  entry: { upstreamCluster: string; upstreamHost: string; attempts: number },
  backend: string,
  server: string,
  retries: number,
): void {
  entry.upstreamCluster = backend
  // The server is a name of the configuration, not an address; `<NOSRV>`: none was chosen.
  if (server === '<NOSRV>') return
  entry.upstreamHost = or(server)
  entry.attempts = retries + 1
}

function points(
  entry: { rxEndNs: number; upTxBeginNs: number; upTxEndNs: number; upRxBeginNs: number; downTxBeginNs: number },
  [TR, Tw, Tc, Tr]: number[],
): void {
  if (TR! < 0) return
  entry.rxEndNs = TR! * 1e6
  if (Tw! < 0 || Tc! < 0) return
  entry.upTxBeginNs = (TR! + Tw! + Tc!) * 1e6
  entry.upTxEndNs = entry.upTxBeginNs
  if (Tr! < 0) return
  entry.upRxBeginNs = (TR! + Tw! + Tc! + Tr!) * 1e6
  entry.downTxBeginNs = entry.upRxBeginNs
}
