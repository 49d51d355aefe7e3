import { describe, expect, test } from 'vitest'
import { loadConfig, withoutSecrets } from '../src/config.ts'

const TLS = '{cert: c.pem, key: k.pem}'
const MTLS = '{cert: c.pem, key: k.pem, clientCa: ca.pem, allowedSans: [spiffe://mesh/*]}'
const HASH = `sha256:${'0a'.repeat(32)}`
const token = (name: string, hash = HASH) => `{name: ${name}, hash: "${hash}", scopes: [ingest]}`
const TOKENS = `auth.tokens=[${token('mesh')}]`

/** Code, severity, path and what to do about it, of every finding. */
const findings = (...set: string[]) =>
  loadConfig({ set, env: {} }).findings.map(({ severity, code, path, help }) => `${severity} ${code} ${path}: ${help}`)

describe('a listener that others can reach', () => {
  const open = (path: string, ...more: string[]) => findings(`${path}=0.0.0.0:1`, ...more)

  test.each([
    ['http.listen', 'set http.tls, or set auth.tokens'],
    ['ingest.grpc.listen', 'set ingest.grpc.tls, or set auth.tokens'],
    ['ingest.otlpHttp.listen', 'set ingest.otlpHttp.tls, or set auth.tokens'],
    ['ingest.statsd.tcp', 'set ingest.statsd.tls'],
    ['ingest.fluentd.listen', 'set ingest.fluentd.tls'],
    ['ingest.syslog.tcp', 'listen on 127.0.0.1'],
    ['ingest.syslog.udp', 'listen on 127.0.0.1'],
    ['ingest.statsd.udp', 'listen on 127.0.0.1'],
  ])('%s asks nobody anything: an error that says what to set', (path, help) => {
    expect(open(path)).toEqual([expect.stringContaining(`error SC2103 ${path}: `)])
    expect(open(path)[0]).toContain(help)
    expect(open(path, 'allowInsecure=true')).toEqual([expect.stringMatching(/^warning SC2103/)])
  })

  test.each(['http', 'ingest.grpc', 'ingest.otlpHttp'])(
    '%s is well with certificates of clients, or TLS and a token',
    (at) => {
      expect(open(`${at}.listen`, `${at}.tls=${MTLS}`)).toEqual([])
      expect(open(`${at}.listen`, `${at}.tls=${TLS}`, TOKENS)).toEqual([])
      // Whom it talks to is hidden, but it talks to anybody.
      expect(open(`${at}.listen`, `${at}.tls=${TLS}`)).toEqual([expect.stringMatching(/^error SC2103.*tls\.clientCa/)])
      // Everybody on the way can read the token.
      expect(open(`${at}.listen`, TOKENS)).toEqual([expect.stringMatching(/^warning SC2103.*tls\.cert and \.key/)])
    },
  )

  test('tokens do not help where the protocol has no place for them', () => {
    expect(open('ingest.statsd.tcp', TOKENS, `ingest.statsd.tls=${TLS}`)).toEqual([
      expect.stringMatching(/^error SC2103/),
    ])
    expect(open('ingest.statsd.tcp', `ingest.statsd.tls=${MTLS}`)).toEqual([])
  })
})

describe('what is half there is an error', () => {
  test.each([
    ['http.tls={cert: c.pem}', 'http.tls.cert'],
    ['http.tls={key: k.pem}', 'http.tls.key'],
    ['http.tls={clientCa: ca.pem}', 'http.tls.clientCa'],
    ['http.tls={cert: c.pem, key: k.pem, allowedSans: [a]}', 'http.tls.allowedSans'],
    ['ingest.syslog.tls.listen=127.0.0.1:0', 'ingest.syslog.tls.cert'],
    ['auth.tokens=[{name: a, hash: "secret", scopes: [read]}]', 'auth.tokens.0.hash'],
    [`auth.tokens=[{name: a, hash: "${HASH}", scopes: []}]`, 'auth.tokens.0.scopes'],
    [`auth.tokens=[{name: a, hash: "${HASH}", scopes: [root]}]`, 'auth.tokens.0.scopes.0'],
    [`auth.tokens=[${token('a')}, ${token('b')}]`, 'auth.tokens.1.hash'],
  ])('%s', (option, path) => {
    expect(findings(option)).toEqual([expect.stringContaining(`error SC1205 ${path}: `)])
  })

  test('what may be shown has no secrets', () => {
    const set = ['store.clickhouse.password=hunter2', 'ingest.scrape=[{token: hunter3, password: hunter4}]', TOKENS]
    const shown = JSON.stringify(withoutSecrets(loadConfig({ set, env: {} }).config))
    expect(shown).not.toMatch(/hunter|0a0a/)
    expect(shown).toContain('"token":"***"')
  })

  test('a token that was put where its hash belongs is not repeated', () => {
    const [finding] = loadConfig({
      set: ['auth.tokens=[{name: a, hash: "hunter2", scopes: [read]}]'],
      env: {},
    }).findings
    expect(`${finding?.message} ${finding?.help}`).not.toContain('hunter2')
  })
})
