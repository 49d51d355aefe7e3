import { resolve } from 'node:path'
import { SidecastError } from '../../errors.ts'
import { type ClientTlsConfig, clientTls } from '../../lib/tls.ts'
import { parseDuration } from '../../lib/units.ts'
import type { Adapter, AdapterShared } from '../../pipeline/adapter.ts'
import { createDelivery } from '../../pipeline/delivery.ts'
import { createPost } from './send.ts'
import { createRemoteWriteSink } from './sink.ts'

/** `adapters.prometheus.remoteWrite`, as the configuration has it. */
export interface RemoteWriteConfig {
  readonly url: string
  readonly version: 'auto' | '1.0' | '2.0'
  readonly jobs: readonly string[]
  readonly headers: Readonly<Record<string, string>>
  readonly token: string
  readonly username: string
  readonly password: string
  readonly externalLabels: Readonly<Record<string, string>>
  readonly exemplars: boolean
  readonly samplesMax: number
  readonly timeout: string
  readonly tls: ClientTlsConfig
}

const OPTION = 'adapters.prometheus.remoteWrite'

/** Null where no URL is configured. */
export async function openRemoteWrite(config: RemoteWriteConfig, shared: AdapterShared): Promise<Adapter | null> {
  if (config.url === '') return null
  const url = urlOf(config.url)
  const { journal, clock, log, data, version } = shared
  const sink = createRemoteWriteSink({
    post: createPost({
      url,
      headers: { ...config.headers, ...authorization(config) },
      tls: clientTls(config.tls, `${OPTION}.tls`),
      timeoutMs: parseDuration(config.timeout)!,
      userAgent: `sidecast/${version}`,
    }),
    version: config.version,
    jobs: new Set(config.jobs),
    externalLabels: Object.entries(config.externalLabels),
    exemplars: config.exemplars,
    samplesMax: config.samplesMax,
    seriesPath: resolve(data, 'remote-write', 'series.log'),
    clock,
    log,
  })
  const delivery = createDelivery({ sink, journal, clock, log })
  return {
    name: sink.name,
    endpoint: `${url.protocol}//${url.host}${url.pathname}`,
    stages: [sink, delivery],
    deliveries: [delivery],
    counters: () => ({ ...sink.counters }),
  }
}

function urlOf(text: string): URL {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new SidecastError('SC1205', `${OPTION}.url is no http:// or https:// URL`, {
      help: 'set it to where the receiver listens, for example http://prometheus:9090/api/v1/write',
    })
  }
  if (url.username !== '' || url.password !== '') {
    throw new SidecastError('SC1205', `${OPTION}.url has a user or a password in it`, {
      help: `set ${OPTION}.username and .password instead`,
    })
  }
  return url
}

function authorization({ token, username, password }: RemoteWriteConfig): Record<string, string> {
  if (username !== '') {
    return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
  }
  return token === '' ? {} : { authorization: `Bearer ${token}` }
}
