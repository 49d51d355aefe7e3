import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import kafkajs from 'kafkajs'
import { registerCodecs } from '../../src/kafka/kafkajs-driver.ts'
import { java, kafka } from './programs.ts'

/** One real Kafka broker (KRaft: broker and controller in one JVM) on free ports of loopback, and clients to fill it. */
export interface KafkaBroker {
  /** `127.0.0.1:port`. */
  readonly address: string
  /** With `secure`: TLS that asks for certificates, and TLS where a user has to say who it is. */
  readonly tls: string
  readonly sasl: string
  createTopic(topic: string, partitions: number): Promise<void>
  topics(): Promise<string[]>
  send(topic: string, messages: readonly KafkaMessage[], compression?: kafkajs.CompressionTypes): Promise<void>
  /** Records that the group has not committed. */
  lag(group: string, topic: string): Promise<number>
  /** Ends the JVM and starts it again with the same data and port. */
  restart(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
  stop(): Promise<void>
}

export interface KafkaMessage {
  readonly value: Buffer | string | null
  readonly partition?: number
  readonly key?: string
}

const START_MS = 180_000
/** Any 16 bytes as base64url: names the cluster. */
const CLUSTER_ID = 'c2lkZWNhc3QtdGVzdC0wMQ'

/** A second listener, whose clients are told to come back by another port: that of what stands in between. */
export interface Detour {
  readonly listen: number
  readonly advertise: number
}

/** Listeners for clients that have to show who they are. */
export interface SecureListeners {
  /** A PEM file with certificate and key, and one with the authority of clients. */
  readonly keystore: string
  readonly truststore: string
  /** Known by this password, for every mechanism. */
  readonly user: string
  readonly password: string
}

export interface KafkaBrokerOptions {
  readonly detour?: Detour
  readonly secure?: SecureListeners
}

export async function startKafka(options: KafkaBrokerOptions = {}): Promise<KafkaBroker> {
  registerCodecs()
  const libs = await kafka()
  const jvm = await java()
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-kafka-'))
  const [port, controller] = [await freePort(), await freePort()]
  const [address, tls, sasl] = [port, await freePort(), await freePort()].map((one) => `127.0.0.1:${one}`) as [
    string,
    string,
    string,
  ]
  const { detour, secure } = options
  const properties = join(dir, 'server.properties')
  const security = secure === undefined ? '' : securityOf(secure)
  const more = [
    ...(detour === undefined
      ? []
      : [{ name: 'DETOUR', listen: `127.0.0.1:${detour.listen}`, advertise: `127.0.0.1:${detour.advertise}` }]),
    ...(secure === undefined
      ? []
      : [
          { name: 'SSL', listen: tls },
          { name: 'SASL_SSL', listen: sasl },
        ]),
  ]
  writeFileSync(properties, propertiesOf({ dir, address, controller, more }) + security)
  const common = ['-XX:+UseSerialGC', '-Xshare:auto', '-Dorg.slf4j.simpleLogger.defaultLogLevel=error']
  const classPath = ['-cp', join(libs, '*')]
  const format = ['-Xmx128m', ...common, ...classPath, 'kafka.tools.StorageTool']
  const users = SCRAM.flatMap((mechanism) =>
    secure === undefined
      ? []
      : ['--add-scram', `${mechanism}=[name=${secure.user},password=${secure.password},iterations=4096]`],
  )
  await ended(spawn(jvm, [...format, 'format', '-t', CLUSTER_ID, '-c', properties, ...users], { stdio: 'ignore' }))
  const launch = () =>
    spawn(jvm, ['-Xms128m', '-Xmx512m', ...common, ...classPath, 'kafka.Kafka', properties], { stdio: 'ignore' })

  let broker: ChildProcess = launch()
  const client = new kafkajs.Kafka({ brokers: [address], logLevel: kafkajs.logLevel.NOTHING, retry: { retries: 10 } })
  const admin = client.admin()
  let producer = client.producer({ idempotent: true, maxInFlightRequests: 1 })
  const connect = async () => {
    const until = Date.now() + START_MS
    for (;;) {
      if (broker.exitCode !== null) throw new Error(`the Kafka broker ended with code ${broker.exitCode}`)
      try {
        await admin.connect()
        await admin.listTopics()
        await producer.connect()
        return
      } catch (error) {
        if (Date.now() > until) throw new Error('the Kafka broker does not answer', { cause: error })
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
    }
  }
  await connect()
  return {
    address,
    tls,
    sasl,
    async createTopic(topic, numPartitions) {
      await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }], waitForLeaders: false })
      // A moment passes before the broker knows what its controller has made.
      for (const until = Date.now() + START_MS; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
        const known = await admin.fetchTopicMetadata({ topics: [topic] }).catch(() => null)
        const partitions = known?.topics[0]?.partitions ?? []
        if (partitions.length === numPartitions && partitions.every(({ leader }) => leader >= 0)) return
        if (Date.now() > until) throw new Error(`the topic ${topic} has no leaders`)
      }
    },
    topics: () => admin.listTopics(),
    async send(topic, messages, compression) {
      await producer.send({ topic, messages: [...messages], ...(compression === undefined ? {} : { compression }) })
    },
    async lag(groupId, topic) {
      const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] })
      const ends = await admin.fetchTopicOffsets(topic)
      return ends.reduce((sum, { partition, high }) => {
        const offset = Number(committed?.partitions.find((one) => one.partition === partition)?.offset ?? -1)
        return sum + Number(high) - Math.max(0, offset)
      }, 0)
    },
    async restart(signal = 'SIGTERM') {
      await producer.disconnect()
      await admin.disconnect()
      broker.kill(signal)
      await ended(broker)
      broker = launch()
      producer = client.producer({ idempotent: true, maxInFlightRequests: 1 })
      await connect()
    },
    async stop() {
      await producer.disconnect().catch(() => {})
      await admin.disconnect().catch(() => {})
      broker.kill('SIGKILL')
      await ended(broker)
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

interface Listener {
  readonly name: string
  readonly listen: string
  readonly advertise?: string
}

interface BrokerProperties {
  readonly dir: string
  readonly address: string
  readonly controller: number
  readonly more: readonly Listener[]
}

const SCRAM = ['SCRAM-SHA-256', 'SCRAM-SHA-512'] as const

/** PEM files as they are: https://cwiki.apache.org/confluence/display/KAFKA/KIP-651 */
const securityOf = ({ keystore, truststore, user, password }: SecureListeners): string => `
ssl.keystore.type=PEM
ssl.keystore.location=${keystore}
ssl.truststore.type=PEM
ssl.truststore.location=${truststore}
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.ssl.client.auth=none
sasl.enabled.mechanisms=PLAIN,${SCRAM.join(',')}
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_${user}="${password}";
${SCRAM.map((name) => `listener.name.sasl_ssl.${name.toLowerCase()}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;`).join('\n')}
`

const propertiesOf = ({ dir, address, controller, more }: BrokerProperties): string => `
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controller}
listeners=PLAINTEXT://${address},CONTROLLER://127.0.0.1:${controller}${more.map(({ name, listen }) => `,${name}://${listen}`).join('')}
advertised.listeners=PLAINTEXT://${address}${more.map(({ name, listen, advertise = listen }) => `,${name}://${advertise}`).join('')}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,DETOUR:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs=${join(dir, 'logs')}
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=8388608
`

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', () => resolve())
  })
}
