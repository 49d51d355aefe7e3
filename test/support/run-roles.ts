import { type Sidecast, type SidecastOptions, startSidecast } from './sidecast.ts'

/** Processes of one program that Kafka joins: edges on one side, writers on the other. */
export interface RolesOptions {
  /** `host:port` of a broker. */
  readonly broker: string
  /** Of topics, and of the writers' group. */
  readonly prefix: string
  readonly set?: readonly string[]
}

export function startAs(
  role: 'edge' | 'writer' | 'query',
  { broker, prefix, set = [] }: RolesOptions,
  options: SidecastOptions = {},
): Promise<Sidecast> {
  const kafka = [
    `adapters.kafka.brokers=["${broker}"]`,
    `adapters.kafka.topicPrefix=${prefix}`,
    `writer.group=${prefix}writers`,
  ]
  return startSidecast({
    ...options,
    args: ['--role', role, ...(options.args ?? [])],
    set: [...kafka, ...set, ...(options.set ?? [])],
  })
}
