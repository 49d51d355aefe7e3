import { type App, type AppOptions, startApp } from './app.ts'
import type { Config } from './config.ts'
import { SidecastError } from './errors.ts'
import type { ReceiverAddresses } from './receivers.ts'

/**
 * One program, four parts to play. Past one machine the distributed parts are Kafka and ClickHouse, never our own.
 *
 *             receivers, journal   store        Kafka          questions
 *   all       yes                  writes       also, if set   yes
 *   edge      yes                  none         writes         of itself alone
 *   writer    no                   writes       reads          yes
 *   query     no                   reads        no             yes
 */
export const ROLES = ['all', 'edge', 'writer', 'query'] as const
export type Role = (typeof ROLES)[number]

export const isRole = (name: string): name is Role => (ROLES as readonly string[]).includes(name)

/** A started process. */
export interface Running extends Pick<App, 'reload' | 'stop'> {
  readonly addresses: { readonly http: string } & Partial<ReceiverAddresses>
}

export interface RoleOptions extends Omit<AppOptions, 'role'> {
  readonly role: Role
}

/** Throws SC1205 where the configuration lacks what the role lives on. */
export async function startRole({ role, ...options }: RoleOptions): Promise<Running> {
  checkRole(role, options.config)
  if (role === 'all' || role === 'edge') return startApp({ ...options, role })
  const { startCentral } = await import('./roles/central.ts')
  return startCentral({ ...options, role })
}

export function checkRole(role: Role, { adapters: { kafka }, store }: Config): void {
  if (role === 'edge' || role === 'writer') {
    if (kafka.brokers.length === 0) {
      throw new SidecastError('SC1205', `adapters.kafka.brokers is empty, and --role ${role} needs Kafka`, {
        help: 'for example --set adapters.kafka.brokers=[10.0.0.1:9092]',
      })
    }
  }
  if (role === 'writer' && kafka.encoding !== 'native') {
    throw new SidecastError('SC1205', `adapters.kafka.encoding is ${kafka.encoding}, and writers read native alone`, {
      help: 'set it to native here and at the edges that write for writers',
    })
  }
  if (role === 'query' && store.clickhouse.url === '') {
    throw new SidecastError('SC1205', 'store.clickhouse.url is empty, and --role query needs a server', {
      help: 'for example --set store.clickhouse.url=https://clickhouse:8443',
    })
  }
}
