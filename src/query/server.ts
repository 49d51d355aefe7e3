import type { AddressInfo } from 'node:net'
import swagger from '@fastify/swagger'
import Fastify, { type FastifyInstance } from 'fastify'
import { cannotListen, SidecastError } from '../errors.ts'
import { type Access, openAccess } from '../lib/access.ts'
import type { Clock } from '../lib/clock.ts'
import { guardConnections } from '../lib/guard-connections.ts'
import { formatAddress, parseAddress } from '../lib/units.ts'
import type { QueryStore } from '../model/query.ts'
import type { Stage } from '../pipeline/sink.ts'
import type { Log } from '../telemetry/log.ts'
import { VERSION } from '../version.ts'
import type { QueryContext } from './context.ts'
import { handleErrors, refuseConnection, sendProblem } from './errors.ts'
import { createWriteGuard, setSecurityHeaders } from './guard.ts'
import { createHorizonReader } from './horizon.ts'
import {
  type AlertsSource,
  DEFAULT_LIMITS,
  type LedgerSource,
  type LogsPort,
  type QueryLimits,
  type ReloadPort,
  type RemoteWritePort,
  type Retention,
  type SloSource,
  type StatusSource,
  type TextHandler,
  type WebHandler,
} from './ports.ts'
import { Problem } from './problem.ts'
import { createQuestions } from './question.ts'
import { alertsRoutes } from './routes/alerts.ts'
import { healthRoutes } from './routes/health.ts'
import { latencyRoute } from './routes/latency.ts'
import { logsRoute } from './routes/logs.ts'
import { metaRoutes } from './routes/meta.ts'
import { pageRoutes } from './routes/pages.ts'
import { phasesRoute } from './routes/phases.ts'
import { prometheusRoutes } from './routes/prometheus.ts'
import { reloadRoute } from './routes/reload.ts'
import { remoteWriteRoute } from './routes/remote-write.ts'
import { requestsRoute } from './routes/requests.ts'
import { sloDocumentsRoutes } from './routes/slo-documents.ts'
import { slosRoutes } from './routes/slos.ts'
import { tracesRoute } from './routes/traces.ts'
import { trafficRoutes } from './routes/traffic.ts'
import { createTokenGuard } from './scopes.ts'
import { createSenderGuard } from './sender-guard.ts'

export interface QueryServerOptions {
  /** `host:port`; port 0 means any free port. */
  readonly listen: string
  readonly store: QueryStore
  readonly ledger: LedgerSource
  readonly status: StatusSource
  /** Of this process, and of the mesh. */
  readonly metrics: TextHandler
  readonly mesh: TextHandler
  readonly web: WebHandler
  /** Takes log lines; absent where none are taken. */
  readonly logs?: LogsPort
  /** Absent: the process has a configuration that cannot be read again. */
  readonly reload?: ReloadPort
  /** Absent: there are none. */
  readonly slos?: SloSource
  /** Absent: objectives are not watched here. */
  readonly alerts?: AlertsSource
  /** Takes remote write; absent where none is taken. */
  readonly remoteWrite?: RemoteWritePort
  readonly retention: Retention
  /** Unix ms before which the store dropped rows for want of room; 0 when it never did. */
  readonly rowsDroppedBefore?: (signal: AbortSignal) => Promise<number>
  readonly limits?: Partial<QueryLimits>
  /** Everybody's, without TLS, where it is absent. */
  readonly access?: Access
  /** Further host names under which browsers may write to this server. */
  readonly hostNames?: readonly string[]
  readonly log: Log
  readonly clock: Clock
}

export interface QueryServer extends Stage {
  /** `host:port` it listens on; the one that was asked for until it has started. */
  readonly address: string
  /** Other bounds of questions from now on. */
  setLimits(limits: Pick<QueryLimits, 'queriesMax' | 'timeoutMs' | 'memoryBytesMax'>): void
  /** For tests: requests without a socket. */
  readonly app: FastifyInstance
}

const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 60_000
const KEEP_ALIVE_MS = 72_000

/** The HTTP side: builds the server, and nothing more. Questions and answers are in `routes/`. */
export function createQueryServer(options: QueryServerOptions): QueryServer {
  const { store, log, clock } = options
  const limits: QueryLimits = { ...DEFAULT_LIMITS, ...options.limits }
  const listen = parseAddress(options.listen)
  if (listen === null) throw new SidecastError('SC1205', `${options.listen} is not host:port`)
  const access = options.access ?? openAccess()
  const stopping = new AbortController()
  const tick = () => performance.now()
  const context: QueryContext = {
    store,
    questions: createQuestions(store, limits, tick),
    horizon: createHorizonReader(options.retention, () => clock.now(), options.rowsDroppedBefore),
    ledger: options.ledger,
    status: options.status,
    limits,
    log,
    now: () => clock.now(),
    tick,
    stopping: stopping.signal,
  }

  const app: FastifyInstance = Fastify({
    ...(access.tls === null ? {} : { https: access.tls.options() }),
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    // Unknown parameters are refused, not dropped: a misspelt filter must not answer another question.
    ajv: { customOptions: { removeAdditional: false, coerceTypes: 'array', allErrors: false } },
    clientErrorHandler: refuseConnection,
    frameworkErrors: (error, _request, reply) => sendProblem(reply, new Problem('bad_parameter', error.message)),
  })
  app.server.headersTimeout = HEADERS_TIMEOUT_MS
  app.server.maxConnections = limits.connectionsMax
  // Answers are sent as they were made. Tests hold every one of them against the schema.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data))
  guardConnections(app.server, access, () => {})
  app.addHook('onRequest', setSecurityHeaders)
  app.addHook('onRequest', createTokenGuard(access.tokens))
  app.addHook('onRequest', createSenderGuard(access.senders))
  app.addHook('onRequest', createWriteGuard({ host: listen.host, names: options.hostNames ?? [] }))
  handleErrors(app, log)
  app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Sidecast',
        version: VERSION,
        description: 'Latency, errors and single requests of an Envoy mesh, each figure with its doubt.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [
        { name: 'api', description: 'Questions about requests' },
        { name: 'process', description: 'The process itself' },
      ],
    },
  })
  app.register(async (scope) => {
    latencyRoute(scope, context)
    phasesRoute(scope, context)
    trafficRoutes(scope, context)
    requestsRoute(scope, context)
    tracesRoute(scope, context)
    const slos = options.slos ?? { slos: () => [] }
    slosRoutes(scope, context, slos)
    if (options.alerts !== undefined) alertsRoutes(scope, context, options.alerts)
    metaRoutes(scope, context)
    healthRoutes(scope, context)
    if (options.reload !== undefined) reloadRoute(scope, options.reload)
    const { documents } = slos
    if (documents !== undefined) scope.register(async (own) => sloDocumentsRoutes(own, context, documents))
    const { logs, remoteWrite } = options
    if (logs !== undefined) scope.register(async (own) => logsRoute(own, logs))
    if (remoteWrite !== undefined) scope.register(async (own) => remoteWriteRoute(own, remoteWrite))
    scope.register(async (own) => prometheusRoutes(own, context))
    pageRoutes(scope, { metrics: options.metrics, mesh: options.mesh, web: options.web })
  })

  let address = options.listen
  let closing: Promise<void> | undefined
  return {
    name: 'query',
    app,
    get address() {
      return address
    },
    setLimits(changed) {
      Object.assign(limits, changed)
    },
    async start() {
      await app.listen({ host: listen.host, port: listen.port }).catch((error: NodeJS.ErrnoException) => {
        throw error.syscall === undefined ? error : cannotListen('http.listen', options.listen, error)
      })
      const bound = app.server.address() as AddressInfo
      address = formatAddress(bound.address, bound.port)
    },
    async stop(deadline) {
      const giveUp = () => {
        stopping.abort(new Error('the server stops'))
        app.server.closeAllConnections()
      }
      if (deadline.aborted) giveUp()
      else deadline.addEventListener('abort', giveUp, { once: true })
      access.tls?.stop()
      closing ??= app.close()
      await closing
      stopping.abort(new Error('the server stops'))
      deadline.removeEventListener('abort', giveUp)
    },
  }
}
