import { spawn } from 'node:child_process'
import { expect, test } from 'vitest'
import { identity, party, type Row } from '../../support/batch.ts'
import { meshRows, openMeshPage } from '../../support/mesh-page.ts'
import { promtool } from '../../support/programs.ts'

/** Prometheus's own parser and linter of the text exposition, from the program that comes with the server. */
async function checkMetrics(page: Uint8Array): Promise<{ code: number | null; output: string }> {
  const child = spawn(await promtool(), ['check', 'metrics'], { stdio: ['pipe', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  child.stdin.on('error', () => {}) // promtool may end at the first mistake, with input left.
  child.stdin.end(page)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  return { code, output }
}

async function pageOf(rows: readonly Row[]): Promise<Buffer> {
  const { take, page } = openMeshPage()
  take([...rows, ...meshRows(200, 1)])
  return page('text/plain')
}

const rows = Array.from(
  { length: 200 },
  (_, k): Row => ({
    identity: identity({
      reporter: k % 2 ? 'source' : 'destination',
      source: party({ workload: `w"${k % 3}\\`, namespace: 'line\nbreak' }),
      destination: party({ workload: `ü${k % 7}`, service: 's' }),
    }),
    kind: k % 10 === 0 ? 1 : 0,
    duration: k ** 4,
    code: k % 5 ? 200 : -1,
    flags: k % 4 ? 0 : 36,
    received: k,
    sent: k * 1000,
  }),
)

test('promtool accepts the page', async () => {
  const { code, output } = await checkMetrics(await pageOf(rows))
  // Exit status 3 would be advice about names: Istio's own are in milliseconds, which is not a base unit.
  const advice = output
    .split('\n')
    .filter((line) => line !== '' && !/use base unit "seconds"|abbreviated units|metric type in name/.test(line))
  expect(advice).toEqual([])
  // Names of our own give no reason for any.
  expect(output).not.toContain('sidecast_')
  expect([0, 3]).toContain(code)
})

test('promtool refuses a page that is damaged, so the check means something', async () => {
  const page = await pageOf(rows)
  const { code, output } = await checkMetrics(Buffer.concat([page, Buffer.from('istio_requests_total{le="} 1\n')]))
  expect(code).toBe(1)
  expect(output).toContain('error while linting')
})
