import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { KAFKA_DRIVERS, type KafkaDriverName } from '../src/kafka/driver.ts'
import { startKafka } from '../test/support/kafka.ts'
import { startAs } from '../test/support/run-roles.ts'
import type { Sidecast } from '../test/support/sidecast.ts'
import { childrenOf, processFigures } from './support/process-figures.ts'

/**
 * What a million access log entries cost an edge and a writer, by driver and compression:
 *
 *   node bench/kafka-out.ts [--count 1000000] [--compression zstd,lz4,none] [--driver platformatic,kafkajs]
 *
 * Edge: gRPC to the broker's answer, receivers and journal included. Writer: Kafka to the store's answer, without its
 * engine, which is told apart. The edge has everything in Kafka before the writer starts, so neither waits for the other.
 * CPU seconds are the operating system's, per process, after a warm-up. JSON.
 */
const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000000' },
    warm: { type: 'string', default: '200000' },
    compression: { type: 'string', default: 'zstd' },
    driver: { type: 'string', default: KAFKA_DRIVERS.join(',') },
  },
})
const LOAD = new URL('support/load.ts', import.meta.url).pathname
const round = (value: number) => Number(value.toFixed(3))

async function load(to: string, count: string, seed: number): Promise<number> {
  const child = spawn(process.execPath, [LOAD, '--to', to, '--count', count, '--seed', String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  const [code] = (await once(child, 'close')) as [number]
  if (code !== 0) throw new Error(`the load generator ended with ${code}`)
  return (JSON.parse(text) as { sent: number }).sent
}

async function figure(sidecast: Sidecast, name: string): Promise<number> {
  const page = await (await fetch(`http://${sidecast.http}/metrics`)).text()
  const line = page.split('\n').find((one) => one.startsWith(`${name} `))
  return line === undefined ? 0 : Number(line.split(' ')[1])
}

async function until(sidecast: Sidecast, name: string, value: number): Promise<void> {
  for (const end = Date.now() + 300_000; (await figure(sidecast, name)) < value; await sleep(500)) {
    if (Date.now() > end) throw new Error(`${name} does not get to ${value}:\n${sidecast.log()}`)
  }
}

async function one(broker: string, driver: KafkaDriverName, compression: string, dir: string): Promise<object> {
  const prefix = `bench-${driver}-${compression}.`
  const set = [`adapters.kafka.driver=${driver}`, `adapters.kafka.compression=${compression}`]
  const roles = { broker, prefix, set: [...set, 'adapters.kafka.create.partitions=4', 'journal.keepAfterAck=5s'] }
  const edge = await startAs('edge', roles, { data: join(dir, 'edge') })
  const DELIVERED = 'sidecast_sink_rows_total{sink="kafka",result="delivered"}'
  const warm = await load(edge.grpc, values.warm, 2)
  await until(edge, DELIVERED, warm)
  const [edgeBefore, batchesBefore] = [processFigures(edge.pid), await figure(edge, FIGURES('bytes_total'))]
  const began = performance.now()
  const rows = await load(edge.grpc, values.count, 3)
  await until(edge, DELIVERED, warm + rows)
  const edgeSeconds = (performance.now() - began) / 1000
  const edgeAfter = processFigures(edge.pid)
  const sent = (await figure(edge, FIGURES('bytes_total'))) - batchesBefore
  await edge.stop()

  const writer = await startAs('writer', roles, { data: join(dir, 'writer') })
  const [engine] = childrenOf(writer.pid)
  const STORED = 'sidecast_writer_rows_total{result="stored"}'
  await until(writer, STORED, warm)
  const already = await figure(writer, STORED)
  const before = { writer: processFigures(writer.pid), engine: processFigures(engine!) }
  const writerBegan = performance.now()
  await until(writer, STORED, warm + rows)
  const after = { writer: processFigures(writer.pid), engine: processFigures(engine!) }
  const writerSeconds = (performance.now() - writerBegan) / 1000
  const left = warm + rows - already
  await writer.stop()
  const per = (seconds: number, n: number) => round((seconds / n) * 1e6)
  return {
    driver,
    compression,
    rows,
    bytesPerRow: Math.round(sent / rows),
    edge: {
      cpuSecondsPerMillion: per(edgeAfter.cpuSeconds - edgeBefore.cpuSeconds, rows),
      rowsPerSecond: Math.round(rows / edgeSeconds),
      rssMostMb: Math.round(edgeAfter.rssMostMb),
    },
    writer: {
      rows: left,
      cpuSecondsPerMillion: per(after.writer.cpuSeconds - before.writer.cpuSeconds, left),
      engineSecondsPerMillion: per(after.engine.cpuSeconds - before.engine.cpuSeconds, left),
      rowsPerSecond: Math.round(left / writerSeconds),
      rssMostMb: Math.round(after.writer.rssMostMb),
    },
  }
}

const FIGURES = (name: string): string => `sidecast_adapter_figures_total{adapter="kafka",figure="${name}"}`

const broker = await startKafka()
const results: object[] = []
try {
  for (const compression of values.compression.split(',')) {
    for (const driver of KAFKA_DRIVERS.filter((name) => values.driver.split(',').includes(name))) {
      const dir = await mkdtemp(join(tmpdir(), 'sidecast-bench-kafka-out-'))
      try {
        results.push(await one(broker.address, driver, compression, dir))
        process.stderr.write(`${JSON.stringify(results.at(-1))}\n`)
      } finally {
        await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 })
      }
    }
  }
  process.stdout.write(`${JSON.stringify({ bench: 'kafka-out', results })}\n`)
} finally {
  await broker.stop()
}
process.exit(0)
