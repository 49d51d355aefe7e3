import { parseArgs } from 'node:util'
import { runHostileLines } from '../support/wavefront/hostile.ts'
import { startWavefrontParser } from '../support/wavefront/parser.ts'

/**
 * Lines with hostile names and tags through Wavefront's own parsers: all that we send is accepted and understood as it was
 * meant, all that we refuse would have been refused.
 *
 *     node test/campaign/wavefront.ts [--seed 1] [--count 1000000]
 */
const { values } = parseArgs({
  options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '1000000' } },
})
const parser = await startWavefrontParser()
const began = performance.now()
try {
  const report = await runHostileLines({ parser, seed: Number(values.seed), count: Number(values.count) })
  console.log(JSON.stringify({ ...report, seconds: Math.round((performance.now() - began) / 100) / 10 }, null, 2))
  if (report.wrongs > 0) process.exitCode = 1
} finally {
  await parser.stop()
}
