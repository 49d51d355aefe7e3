import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { retryAfterMs } from '../../src/lib/retry-after.ts'
import type { AdapterShared } from '../../src/pipeline/adapter.ts'
import { createDelivery } from '../../src/pipeline/delivery.ts'
import { createIntervalDelivery } from '../../src/pipeline/interval-delivery.ts'
import { createRollupAggregate } from '../../src/pipeline/rollup-aggregate.ts'
import { readSegment } from '../../src/pipeline/segment-reader.ts'
import type { Outcome } from '../../src/pipeline/sink.ts'
import { type Behaviour, type ContractTarget, sinkContract } from '../support/sink-contract.ts'

/** The suite itself, with the plainest adapters there can be: one that sends rows, one that sends an aggregate. */

interface Target extends ContractTarget {
  readonly url: string
}

/** Takes `{"id":…,"requests":…}`; the same id counts once. */
async function start(): Promise<Target> {
  let how: Behaviour = 'accept'
  const taken = new Map<string, number>()
  let server: Server | null = null
  let port = 0
  const listen = async () => {
    if (server !== null) return
    const created = createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      if (how === 'hang') return
      if (how === 'slow') await new Promise((resolve) => setTimeout(resolve, 200))
      if (how === 'retry') return void response.writeHead(503, { 'retry-after': '0' }).end()
      if (how === 'reject') return void response.writeHead(400).end()
      const { id, requests } = JSON.parse(Buffer.concat(chunks).toString()) as { id: string; requests: number }
      taken.set(id, requests)
      response.writeHead(204).end()
    })
    await new Promise<void>((resolve) => created.listen(port, '127.0.0.1', resolve))
    port = (created.address() as AddressInfo).port
    server = created
  }
  const close = async () => {
    const closing = server
    server = null
    if (closing === null) return
    closing.closeAllConnections()
    await new Promise((resolve) => closing.close(resolve))
  }
  await listen()
  return {
    url: `http://127.0.0.1:${port}`,
    async behave(next) {
      how = next
      await (next === 'away' ? close() : listen())
    },
    taken: () => [...taken.values()].reduce((sum, requests) => sum + requests, 0),
    close,
  }
}

async function post(url: string, body: object, signal: AbortSignal): Promise<Outcome> {
  try {
    const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body), signal })
    await answer.body?.cancel()
    if (answer.ok) return { status: 'accepted' }
    const error = new Error(`the target answered ${answer.status}`)
    if (answer.status < 500) return { status: 'rejected', error }
    const afterMs = retryAfterMs(answer.headers.get('retry-after'), Date.now())
    return { status: 'retry', error, ...(afterMs === undefined ? {} : { afterMs }) }
  } catch (error) {
    return { status: 'retry', error: error as Error }
  }
}

const idle = { async start() {}, async stop() {} }
const quick = { retryFirstMs: 10, retryMaxMs: 100 }

async function openRows(shared: AdapterShared, target: Target) {
  const sink = {
    ...idle,
    name: 'rows',
    async send(segment: Parameters<Parameters<typeof createDelivery>[0]['sink']['send']>[0], signal: AbortSignal) {
      let requests = 0
      for await (const block of readSegment(segment, 'requests', { signal })) requests += block.rows
      return post(target.url, { id: segment.id, requests }, signal)
    },
  }
  const delivery = createDelivery({ sink, ...shared, ...quick })
  return { name: 'rows', endpoint: target.url, stages: [sink, delivery], deliveries: [delivery] }
}

async function openAggregates(shared: AdapterShared, target: Target) {
  const sink = {
    ...idle,
    name: 'aggregates',
    async flush(
      aggregate: ReturnType<typeof createRollupAggregate>,
      { segments }: { readonly segments: readonly string[] },
      signal: AbortSignal,
    ) {
      let requests = 0
      for (const group of aggregate.groups()) requests += group.n
      return post(target.url, { id: segments.join(), requests }, signal)
    },
  }
  const create = () => createRollupAggregate({ keys: ['destination_service'] })
  const delivery = createIntervalDelivery({ sink, create, intervalMs: 50, ...shared, ...quick })
  return { name: 'aggregates', endpoint: target.url, stages: [sink, delivery], deliveries: [delivery] }
}

sinkContract('a sink of rows', { start, open: openRows })
sinkContract('a sink of aggregates', { start, open: openAggregates })
