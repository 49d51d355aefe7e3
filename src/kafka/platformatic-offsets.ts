import {
  type Admin,
  type API,
  type Broker,
  type Callback,
  type Connection,
  findErrorBy,
  kGetApi,
  kGetBootstrapConnection,
  kGetConnection,
} from '@platformatic/kafka'
import type { CommittedPosition } from './driver.ts'

/**
 * OffsetCommit and OffsetFetch with metadata, which the consumer of the library leaves out, on connections of its own: a
 * JoinGroup blocks everything behind it on its connection, and these must get through during a rebalance.
 */
export interface Membership {
  readonly generation: number
  readonly member: string
}

/** The messages, as far as they are used here: the library exports no types of them. */
interface FindCoordinatorResponse {
  readonly coordinators: readonly { readonly nodeId: number; readonly host: string; readonly port: number }[]
}

interface OffsetCommitRequestTopic {
  readonly name: string
  readonly partitions: {
    readonly partitionIndex: number
    readonly committedOffset: bigint
    readonly committedLeaderEpoch: number
    readonly committedMetadata: string
  }[]
}

interface OffsetFetchRequestGroup {
  readonly groupId: string
  readonly memberId: null
  readonly memberEpoch: number
  readonly topics: readonly { readonly name: string; readonly partitionIndexes: number[] }[]
}

interface OffsetFetchResponseGroup {
  readonly topics: readonly {
    readonly name: string
    readonly partitions: readonly {
      readonly partitionIndex: number
      readonly committedOffset: bigint
      readonly metadata: string | null
    }[]
  }[]
}

interface OffsetFetchResponse {
  readonly groups: readonly OffsetFetchResponseGroup[]
}

/** Who is in no group. The broker takes it for groups without members. */
export const NOBODY: Membership = { generation: -1, member: '' }

/** The generation is over, or never was: the broker took nothing. */
const FENCED = ['ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID', 'REBALANCE_IN_PROGRESS', 'FENCED_INSTANCE_ID']
/** The coordinator is elsewhere, or not ready yet. */
const MOVED = ['NOT_COORDINATOR', 'COORDINATOR_NOT_AVAILABLE', 'COORDINATOR_LOAD_IN_PROGRESS']
const ATTEMPTS = 5
const RETRY_MS = 200
const KEY_TYPE_GROUP = 0

export class PlatformaticOffsets {
  readonly #client: Admin
  readonly #coordinators = new Map<string, Broker>()

  constructor(client: Admin) {
    this.#client = client
  }

  async commit(
    group: string,
    { generation, member }: Membership,
    positions: readonly CommittedPosition[],
  ): Promise<'ok' | 'fenced'> {
    const topics = new Map<string, OffsetCommitRequestTopic>()
    for (const { topic, partition, offset, metadata } of positions) {
      const request = topics.get(topic) ?? { name: topic, partitions: [] }
      topics.set(topic, request)
      request.partitions.push({
        partitionIndex: partition,
        committedOffset: offset,
        committedLeaderEpoch: -1,
        committedMetadata: metadata,
      })
    }
    try {
      await this.#atCoordinator(group, async (connection) => {
        const api = await this.#api<[string, number, string, string | null, OffsetCommitRequestTopic[]], unknown>(
          'OffsetCommit',
        )
        return api.async(connection, group, generation, member, null, [...topics.values()])
      })
      return 'ok'
    } catch (error) {
      if (FENCED.some((id) => hasCode(error, id))) return 'fenced'
      throw error
    }
  }

  async fetch(
    group: string,
    topics: readonly { readonly name: string; readonly partitionIndexes: number[] }[],
  ): Promise<CommittedPosition[]> {
    const answer = await this.#atCoordinator(group, async (connection) => {
      const api = await this.#api<[OffsetFetchRequestGroup[], boolean], OffsetFetchResponse | OffsetFetchResponseGroup>(
        'OffsetFetch',
      )
      return api.async(connection, [{ groupId: group, memberId: null, memberEpoch: -1, topics: [...topics] }], true)
    })
    // Before version 8 a request is about one group.
    const groups = 'groups' in answer ? answer.groups : [answer]
    const positions: CommittedPosition[] = []
    for (const { topics } of groups) {
      for (const { name, partitions } of topics) {
        for (const { partitionIndex, committedOffset, metadata } of partitions) {
          if (committedOffset < 0n) continue
          positions.push({ topic: name, partition: partitionIndex, offset: committedOffset, metadata: metadata ?? '' })
        }
      }
    }
    return positions
  }

  async #atCoordinator<T>(group: string, work: (connection: Connection) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        const broker = this.#coordinators.get(group) ?? (await this.#find(group))
        this.#coordinators.set(group, broker)
        return await work(await call<Connection>((done) => this.#client[kGetConnection](broker, done)))
      } catch (error) {
        this.#coordinators.delete(group)
        const passing =
          MOVED.some((id) => hasCode(error, id)) || isNetwork(error) || hasCode(error, 'UNSTABLE_OFFSET_COMMIT')
        if (attempt >= ATTEMPTS || !passing) throw error
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS * attempt))
      }
    }
  }

  async #find(group: string): Promise<Broker> {
    const connection = await call<Connection>((done) => this.#client[kGetBootstrapConnection](done))
    const api = await this.#api<[number, string[]], FindCoordinatorResponse>('FindCoordinator')
    const { coordinators } = await api.async(connection, KEY_TYPE_GROUP, [group])
    const found = coordinators[0]
    if (found === undefined || found.nodeId < 0) throw new Error(`no coordinator for the group ${group}`)
    return { host: found.host, port: found.port }
  }

  #api<Arguments extends unknown[], Response>(name: string): Promise<API<Arguments, Response>> {
    return call<API<Arguments, Response>>((done) => this.#client[kGetApi]<Arguments, Response>(name, done))
  }
}

function call<T>(work: (done: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    work((error, value) => (error === null || error === undefined ? resolve(value as T) : reject(error)))
  })
}

export const hasCode = (error: unknown, id: string): boolean =>
  error instanceof Error && findErrorBy(error, 'apiId', id) !== null

const isNetwork = (error: unknown): boolean =>
  error instanceof Error &&
  (findErrorBy(error, 'code', 'PLT_KFK_NETWORK') !== null || findErrorBy(error, 'code', 'PLT_KFK_TIMEOUT') !== null)
