import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createWavefrontAggregate } from '../src/adapters/wavefront/aggregate.ts'
import { metricLines } from '../src/adapters/wavefront/metric-lines.ts'
import { fitOptions } from '../src/adapters/wavefront/names.ts'
import { spanLines } from '../src/adapters/wavefront/span-lines.ts'
import { seededRandom } from '../src/lib/random.ts'
import { createRowFilter, isFilterFault } from '../src/pipeline/row-filter.ts'
import { readSegment } from '../src/pipeline/segment-reader.ts'
import { openLinesRig } from '../test/support/lines-rig.ts'
import { request } from '../test/support/requests-rig.ts'

/**
 * What the Wavefront adapter costs without its target: reading a segment into the aggregate of an interval, its lines, and
 * the lines of all its requests as spans. CPU of this process, µs per request; JSON.
 *
 *   node bench/wavefront.ts [--rows 200000] [--services 50] [--routes 20]
 */
const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '200000' },
    services: { type: 'string', default: '50' },
    routes: { type: 'string', default: '20' },
  },
})
const [rows, services, routes] = [Number(values.rows), Number(values.services), Number(values.routes)]
const dir = mkdtempSync(join(tmpdir(), 'sidecast-bench-wavefront-'))
const rig = await openLinesRig(join(dir, 'journal'), {
  rowsMax: 16_384,
  flushMs: 3_600_000,
  journal: {
    limits: { segmentBytesMax: 2 ** 31, segmentRowsMax: 1 << 20, segmentAgeMsMax: 200, diskBytesMax: 2 ** 33 },
  },
})
try {
  const random = seededRandom(1)
  const origin = rig.origins.of({ source: 'als', nodeId: 'sidecar~10.0.0.7~web-1.shop~shop.svc', precisionNs: 1 })
  const now = Date.now()
  for (let k = 0; k < rows; k++) {
    const { entry } = rig.writer
    request(entry, k, now)
    entry.destination.set('service', `svc-${Math.floor(random() * services)}`)
    entry.route = `route-${Math.floor(random() * routes)}`
    entry.code = random() < 0.02 ? 503 : 200
    entry.durationNs = Math.floor(Math.exp(13 + 4 * random()))
    if (!rig.writer.add(origin)) throw new Error('the journal has no room')
  }
  rig.writer.commit()
  await rig.stored()
  await rig.journal.settled()
  const segments = [...rig.journal.segments()]

  const names = fitOptions({
    prefix: 'istio',
    source: 'gw',
    application: 'shop',
    cluster: 'none',
    shard: 'none',
    tags: [],
  })
  const where = createRowFilter([])
  if (isFilterFault(where)) throw new Error(where.detail)
  const never = new AbortController().signal
  const cpu = (since?: NodeJS.CpuUsage): number => {
    const { user, system } = process.cpuUsage(since)
    return user + system
  }
  const figures: Record<string, number> = {}
  // The first round is to warm up.
  for (let round = 0; round < 3; round++) {
    const aggregate = createWavefrontAggregate({ names, where, red: true, seriesMax: 5000 })
    let began = process.cpuUsage()
    for (const segment of segments) await aggregate.add(segment, never)
    figures.addUs = cpu(began) / rows
    began = process.cpuUsage()
    const options = {
      prefix: 'istio',
      source: 'gw',
      points: true,
      distributions: ['minute'] as const,
      timestampMs: now,
      nowMs: now,
      onRefused: ({ reason }: { reason: string }) => {
        throw new Error(reason)
      },
    }
    let lines = 0
    let bytes = 0
    for (const portion of metricLines(aggregate, options)) {
      lines += portion.length
      for (const { text } of portion) bytes += text.length
    }
    figures.linesUs = cpu(began) / lines
    figures.lines = lines
    figures.linesBytes = bytes
    began = process.cpuUsage()
    let spans = 0
    for (const segment of segments) {
      for await (const block of readSegment(segment, 'requests')) {
        const keep = new Uint8Array(block.rows).fill(1)
        const spanOptions = { names, logs: true, onRefused: options.onRefused }
        for (const portion of spanLines(block, keep, spanOptions)) spans += portion.length
      }
    }
    figures.spansUs = cpu(began) / rows
    figures.spanLines = spans
  }
  console.log(
    JSON.stringify({ rows, services, routes, ...figures, rssMb: Math.round(process.memoryUsage.rss() / 1e6) }),
  )
} finally {
  await rig.stop()
  rmSync(dir, { recursive: true, force: true })
}
