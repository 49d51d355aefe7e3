import { join } from 'node:path'
import { SidecastError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import { type ClientTlsConfig, clientTls } from '../lib/tls.ts'
import { parseDuration } from '../lib/units.ts'
import type { Stage } from '../pipeline/sink.ts'
import type { AlertsSource } from '../query/ports.ts'
import type { BurnReader } from '../query/slo/burn.ts'
import type { Slo } from '../query/slo/slo.ts'
import type { Log } from '../telemetry/log.ts'
import { type AlertmanagerPeer, createAlertmanagerPeer, type PeerCounters } from './alertmanager.ts'
import { createEvaluator, type EvaluatorCounters } from './evaluator.ts'
import { createPostJson } from './post.ts'

/** `alertmanager`, as the configuration has it. */
export interface AlertmanagerConfig {
  readonly url: string
  readonly every: string
  readonly for: string
  readonly resend: string
  readonly timeout: string
  readonly generatorUrl: string
  readonly labels: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  readonly token: string
  readonly username: string
  readonly password: string
  readonly tls: ClientTlsConfig
}

export interface Alerts extends Stage, AlertsSource {
  readonly counters: EvaluatorCounters
  readonly peers: readonly {
    readonly url: string
    readonly counters: PeerCounters
    readonly lastError: string | null
  }[]
  /** Throws SC1205 when something is wrong in it; else what it returns takes it over. */
  prepare(config: AlertmanagerConfig): () => Promise<void>
}

export interface AlertsOptions {
  readonly config: AlertmanagerConfig
  readonly reader: BurnReader
  readonly slos: () => readonly Slo[]
  readonly through: () => number | null
  readonly lost: (fromMs: number, toMs: number) => number | null
  /** The data directory. */
  readonly data: string
  /** `host:port` of the API. */
  readonly httpAddress: () => string
  readonly version: string
  readonly clock: Clock
  readonly log: Log
}

const PEERS_MAX = 10
const LEAST_MS = 1000

/** Alerts of objectives, and the Alertmanagers that hear of them; without any, alerts are those of the API alone. */
export function openAlerts(options: AlertsOptions): Alerts {
  const { reader, slos, through, lost, data, clock, log } = options
  let { config } = options
  let peers = openPeers(config)
  let running = false
  const stopped = AbortSignal.abort()

  const evaluator = createEvaluator({
    reader,
    slos,
    through,
    lost,
    path: join(data, 'alerts.json'),
    timing: timingOf(config),
    onAlerts: () => {
      for (const peer of peers) peer.wake()
    },
    clock,
    log,
  })

  function openPeers(of: AlertmanagerConfig): AlertmanagerPeer[] {
    const tls = clientTls(of.tls, 'alertmanager.tls')
    return urlsOf(of).map((url) =>
      createAlertmanagerPeer({
        url: `${url.protocol}//${url.host}${url.pathname}`,
        post: createPostJson({
          url,
          headers: { 'user-agent': `sidecast/${options.version}`, ...of.headers, ...authorization(of) },
          tls,
          timeoutMs: parseDuration(of.timeout)!,
        }),
        *alerts() {
          for (const alert of evaluator.alerts()) if (alert.state !== 'pending') yield alert
        },
        generatorUrl: ({ slo }) => `${generatorUrl()}/api/v1/slos/${encodeURIComponent(slo)}`,
        resendMs: parseDuration(of.resend)!,
        clock,
        log,
      }),
    )
  }

  function generatorUrl(): string {
    return config.generatorUrl === '' ? `http://${options.httpAddress()}` : config.generatorUrl.replace(/\/+$/, '')
  }

  return {
    name: 'alerts',
    counters: evaluator.counters,
    get peers() {
      return peers
    },
    async start() {
      await evaluator.start()
      running = true
      for (const peer of peers) await peer.start()
    },
    async stop() {
      running = false
      await evaluator.stop(stopped)
      for (const peer of peers) await peer.stop(stopped)
    },
    prepare(next) {
      const timing = timingOf(next)
      const opened = openPeers(next)
      return async () => {
        const before = peers
        config = next
        peers = opened
        evaluator.setTiming(timing)
        for (const peer of before) await peer.stop(stopped)
        if (running) for (const peer of peers) await peer.start()
      }
    },
    alerts: () => evaluator.alerts(),
    rules: () => evaluator.rules(),
    get last() {
      return evaluator.last
    },
    alertmanagers: () =>
      peers.map(({ url, counters, lastError, lastSentMs }) => ({ url, counters, lastError, lastSentMs })),
    get forMs() {
      return parseDuration(config.for)!
    },
    generatorUrl: (slo) => `${generatorUrl()}/api/v1/slos/${encodeURIComponent(slo)}`,
  }
}

function timingOf({ every, for: forText, resend, labels }: AlertmanagerConfig) {
  for (const [name, text] of Object.entries({ every, resend })) {
    if (parseDuration(text)! < LEAST_MS) throw new SidecastError('SC1205', `alertmanager.${name} is less than 1s`)
  }
  const wrong = Object.keys(labels).find((name) => !/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name))
  if (wrong !== undefined) {
    throw new SidecastError('SC1205', `alertmanager.labels: \`${wrong}\` is no name of a label`, {
      help: 'letters, digits and underscores, no digit first',
    })
  }
  return { everyMs: parseDuration(every)!, forMs: parseDuration(forText)!, labels }
}

/** Each of them is told: behind a load balancer, only one of a cluster would be. */
function urlsOf({ url: text }: AlertmanagerConfig): URL[] {
  const texts = text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
  if (texts.length > PEERS_MAX) {
    throw new SidecastError('SC1205', `alertmanager.url has ${texts.length} addresses, ${PEERS_MAX} at most are told`)
  }
  return texts.map((one) => {
    const url = URL.parse(one)
    if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.search !== '') {
      throw new SidecastError('SC1205', 'alertmanager.url is no http:// or https:// URL', {
        help: 'for example http://alertmanager:9093; several with commas',
      })
    }
    if (url.username !== '' || url.password !== '') {
      throw new SidecastError('SC1205', 'alertmanager.url has a user or a password in it', {
        help: 'set alertmanager.username and .password instead',
      })
    }
    url.pathname = `${url.pathname.replace(/\/+$/, '').replace(/\/api\/v2(?:\/alerts)?$/, '')}/api/v2/alerts`
    return url
  })
}

function authorization({ token, username, password }: AlertmanagerConfig): Record<string, string> {
  if (username !== '') {
    return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
  }
  return token === '' ? {} : { authorization: `Bearer ${token}` }
}
