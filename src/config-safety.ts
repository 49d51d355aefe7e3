import type { Finding } from './config.ts'
import type { Config } from './config-schema.ts'
import { isLoopback, parseAddress } from './lib/units.ts'

type Place = (path: readonly string[], key: boolean) => Pick<Finding, 'place' | 'excerpt'>
type ServerTls = Config['http']['tls']

/** One address that something listens on, and what could protect it. */
interface Listener {
  readonly path: readonly string[]
  readonly listen: string
  /** Null: the protocol has no TLS. */
  readonly tls: { readonly path: readonly string[]; readonly config: ServerTls } | null
  /** Its protocol can carry a token. */
  readonly takesTokens: boolean
}

function listenersOf({ http, ingest }: Config): Listener[] {
  const { grpc, otlpHttp, statsd, syslog, fluentd } = ingest
  const one = (path: string, listen: string, tls: ServerTls | null, takesTokens = false): Listener => {
    const keys = path.split('.')
    const at = keys.at(-2) === 'tls' ? keys.slice(0, -1) : [...keys.slice(0, -1), 'tls']
    return { path: keys, listen, tls: tls === null ? null : { path: at, config: tls }, takesTokens }
  }
  return [
    one('http.listen', http.listen, http.tls, true),
    one('ingest.grpc.listen', grpc.listen, grpc.tls, true),
    one('ingest.otlpHttp.listen', otlpHttp.listen, otlpHttp.tls, true),
    one('ingest.statsd.udp', statsd.udp, null),
    one('ingest.statsd.tcp', statsd.tcp, statsd.tls),
    one('ingest.syslog.udp', syslog.udp, null),
    one('ingest.syslog.tcp', syslog.tcp, null),
    one('ingest.syslog.tls.listen', syslog.tls.listen, syslog.tls),
    one('ingest.fluentd.listen', fluentd.listen, fluentd.tls),
  ].filter(({ listen }) => listen !== '')
}

/** Who may reach what: listeners that are open to others, TLS that is half there, tokens that say the same. */
export function checkSafety(config: Config, place: Place): Finding[] {
  const findings: Finding[] = []
  for (const listener of listenersOf(config)) {
    const { tls } = listener
    if (tls !== null) findings.push(...checkTls(tls.path, tls.config, listener, place))
    const finding = checkReach(listener, config, place)
    if (finding !== null) findings.push(finding)
  }
  const seen = new Map<string, string>()
  for (const [k, { name, hash, scopes }] of config.auth.tokens.entries()) {
    const at = (key: string) => ({
      ...place(['auth', 'tokens', String(k), key], false),
      path: `auth.tokens.${k}.${key}`,
    })
    const wrong = { severity: 'error', code: 'SC1205' } as const
    const other = seen.get(hash)
    if (other !== undefined) {
      findings.push({
        ...wrong,
        ...at('hash'),
        message: `the tokens ${other} and ${name} are the same`,
        help: 'make another with `sidecast token`',
      })
    }
    seen.set(hash, name)
    if (scopes.length === 0) {
      findings.push({
        ...wrong,
        ...at('scopes'),
        message: `the token ${name} may do nothing`,
        help: 'give it some of read, ingest, admin',
      })
    }
  }
  return findings
}

function checkTls(path: readonly string[], tls: ServerTls, { listen }: Listener, place: Place): Finding[] {
  const wrong = (key: string, message: string, help: string): Finding => ({
    severity: 'error',
    code: 'SC1205',
    ...place([...path, key], false),
    path: [...path, key].join('.'),
    message,
    help,
  })
  const dotted = path.join('.')
  if (tls.cert === '' && 'listen' in tls) {
    return [wrong('cert', `\`${dotted}\` listens on ${listen} and has no certificate`, `set ${dotted}.cert and .key`)]
  }
  if ((tls.cert === '') !== (tls.key === '')) {
    const [missing, given] = tls.cert === '' ? ['cert', 'key'] : ['key', 'cert']
    return [wrong(given, `\`${dotted}\` has a ${given} and no ${missing}`, `set ${dotted}.${missing} as well`)]
  }
  if (tls.cert === '' && tls.clientCa !== '') {
    return [wrong('clientCa', 'clients have certificates only where there is TLS', `set ${dotted}.cert and .key`)]
  }
  if (tls.clientCa === '' && tls.allowedSans.length > 0) {
    return [wrong('allowedSans', 'names are those of client certificates', `set ${dotted}.clientCa`)]
  }
  return []
}

/** Null: only this machine can reach it, or it asks everybody who they are, and nobody can listen in. */
function checkReach({ path, listen, tls, takesTokens }: Listener, config: Config, place: Place): Finding | null {
  if (isLoopback(parseAddress(listen)!.host)) return null
  const hasTls = tls !== null && tls.config.cert !== ''
  const hasTokens = takesTokens && config.auth.tokens.length > 0
  const knowsClients = hasTokens || (hasTls && tls.config.clientCa !== '')
  if (knowsClients && hasTls) return null
  const at = { code: 'SC2103' as const, ...place(path, false), path: path.join('.') }
  if (knowsClients) {
    return {
      ...at,
      severity: 'warning',
      message: `tokens cross the network to ${listen} as plain text`,
      help: `set ${tls!.path.join('.')}.cert and .key`,
    }
  }
  const lacks = hasTls ? 'asks for neither certificate nor token' : 'has no TLS and no token'
  const ways = [
    'listen on 127.0.0.1',
    ...(tls === null ? [] : [`set ${tls.path.join('.')}${hasTls ? '.clientCa' : ''}`]),
    ...(takesTokens ? ['set auth.tokens'] : []),
  ]
  return {
    ...at,
    severity: config.allowInsecure ? 'warning' : 'error',
    message: `${listen} can be reached from other machines and ${lacks}`,
    help: config.allowInsecure
      ? 'a network policy has to protect it'
      : `${ways.join(', or ')}, or set allowInsecure: true if a network policy protects it`,
  }
}
