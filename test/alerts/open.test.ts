import { describe, expect, it } from 'vitest'
import { type AlertmanagerConfig, openAlerts } from '../../src/alerts/open.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { createManualClock } from '../support/manual-clock.ts'
import { createAnswerChecker } from '../support/openapi.ts'
import { createTestServer } from '../support/query.ts'

const CONFIG: AlertmanagerConfig = {
  url: '',
  every: '10s',
  for: '0s',
  resend: '1m',
  timeout: '10s',
  generatorUrl: '',
  labels: {},
  headers: {},
  token: '',
  username: '',
  password: '',
  tls: {},
}
const open = (config: Partial<AlertmanagerConfig>) =>
  openAlerts({
    config: { ...CONFIG, ...config },
    reader: { read: async () => [] },
    slos: () => [],
    through: () => null,
    lost: () => null,
    data: '/nowhere',
    httpAddress: () => '127.0.0.1:8080',
    version: '0',
    clock: createManualClock(0),
    log: silentLog,
  })

describe('alertmanager', () => {
  it.each([
    ['http://a:9093', ['http://a:9093/api/v2/alerts']],
    ['http://a:9093/, https://b/prefix', ['http://a:9093/api/v2/alerts', 'https://b/prefix/api/v2/alerts']],
    ['http://a/am/api/v2/alerts', ['http://a/am/api/v2/alerts']],
    ['', []],
  ])('url %s is %j', (url, urls) => {
    expect(
      open({ url })
        .alertmanagers()
        .map((peer) => peer.url),
    ).toEqual(urls)
  })

  it.each<[Partial<AlertmanagerConfig>, string]>([
    [{ url: 'a:9093' }, 'alertmanager.url'],
    [{ url: 'ftp://a' }, 'alertmanager.url'],
    [{ url: 'http://me:secret@a' }, 'alertmanager.username'],
    [{ url: Array(11).fill('http://a').join(',') }, '11 addresses'],
    [{ every: '10ms' }, 'alertmanager.every'],
    [{ resend: '0s' }, 'alertmanager.resend'],
    [{ labels: { 'a-b': 'x' } }, 'a-b'],
  ])('%j is refused', (config, what) => {
    let error: unknown
    try {
      open(config)
    } catch (cause) {
      error = cause
    }
    expect(error).toMatchObject({ code: 'SC1205' })
    const { message, help } = error as { message: string; help?: string }
    expect(`${message} ${help}`).toContain(what)
    expect(`${message} ${help}`).not.toContain('secret')
  })

  it('of another configuration is taken whole or not at all', async () => {
    const alerts = open({ url: 'http://a' })
    expect(() => alerts.prepare({ ...CONFIG, url: 'http://b', every: '1ms' })).toThrow('alertmanager.every')
    expect(alerts.peers.map(({ url }) => url)).toEqual(['http://a/api/v2/alerts'])
    await alerts.prepare({ ...CONFIG, url: 'http://b', generatorUrl: 'https://here/' })()
    expect(alerts.peers.map(({ url }) => url)).toEqual(['http://b/api/v2/alerts'])
    expect(alerts.generatorUrl('x')).toBe('https://here/api/v1/slos/x')
  })

  it('is answered as documented before anything was looked at', async () => {
    const store = { query: () => Promise.reject(new Error()), stream: () => [], ping: async () => true } as never
    const { app } = createTestServer(store, { alerts: open({ url: 'http://a' }) })
    const check = await createAnswerChecker(app)
    expect(await check.get('/api/v1/alerts')).toMatchObject({
      evaluation: { known: false, last: null },
      alerts: [],
      alertmanagers: [{ url: 'http://a/api/v2/alerts', sent: 0, last_sent: null, error: null }],
    })
    expect(await check.get('/api/v1/rules')).toMatchObject({ rules: [] })
  })
})
