import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openWavefront, type WavefrontConfig } from '../../../src/adapters/wavefront/open.ts'
import type { AdapterShared } from '../../../src/pipeline/adapter.ts'
import type { Journal } from '../../../src/pipeline/journal.ts'
import type { SegmentReader } from '../../../src/pipeline/journal-reader.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { temporaryFolder } from '../../support/journal.ts'
import { wavefrontConfig } from '../../support/wavefront/config.ts'

/** A journal that only says which readers were asked for. */
function sharedOf(readers: string[] = []): AdapterShared {
  const journal = {
    reader(sink: string) {
      readers.push(sink)
      return {} as SegmentReader
    },
  } as Journal
  const clock = { now: () => 0, sleep: async () => {} }
  return { journal, clock, log: silentLog, data: '/nowhere', host: 'host-1', version: '0.0.0' }
}
const open = (part: Partial<WavefrontConfig>, readers?: string[]) =>
  openWavefront(wavefrontConfig(part), sharedOf(readers))

describe('the adapter', () => {
  it('is off where neither a proxy nor a URL is configured', async () => {
    expect(await open({})).toBeNull()
  })

  it.each([
    ['a proxy without a port for spans', { proxy: 'wf:2878' }, 'tcp://wf:2878', ['wavefront']],
    ['a proxy with one', { proxy: 'wf:2878', tracePort: 30_000 }, 'tcp://wf:2878', ['wavefront', 'wavefront-traces']],
    [
      'a proxy by HTTP',
      { proxy: '[::1]:2878', transport: 'http', tracePort: 30_000 },
      'http://[::1]:2878/report',
      ['wavefront', 'wavefront-traces'],
    ],
    [
      'a service',
      { url: 'https://wf.example/x', token: 't' },
      'https://wf.example/x',
      ['wavefront', 'wavefront-traces'],
    ],
    [
      'a service without spans',
      { url: 'https://wf.example', traces: { ...wavefrontConfig({}).traces, enabled: false } },
      'https://wf.example/',
      ['wavefront'],
    ],
  ] satisfies [string, Partial<WavefrontConfig>, string, string[]][])(
    'has a cursor for metrics, and one for spans where they can be sent: %s',
    async (_, part, endpoint, sinks) => {
      const readers: string[] = []
      const adapter = (await open(part, readers))!
      expect(adapter).toMatchObject({ name: 'wavefront', endpoint })
      expect(readers).toEqual(sinks)
      expect(adapter.deliveries.map(({ sink }) => sink)).toEqual(sinks)
    },
  )

  it.each([
    ['both targets', { proxy: 'wf:1', url: 'http://wf' }, 'proxy and url are both set'],
    ['a proxy without a port', { proxy: 'wf' }, 'proxy is no HOST:PORT: wf'],
    ['a URL of another kind', { url: 'ftp://wf' }, 'url is no http:// or https:// URL'],
    ['a password in the URL', { url: 'http://me:secret@wf' }, 'url has a user or a password in it'],
    ['a tag with too many values', { proxy: 'wf:1', tags: ['path'] }, 'tags: path cannot be a tag'],
    ['a filter that is none', { proxy: 'wf:1', where: ['nonsense'] }, '"nonsense" is not COLUMN OP VALUE'],
  ] satisfies [string, Partial<WavefrontConfig>, string][])(
    'refuses, with what to do: %s',
    async (_, part, message) => {
      const error = await open(part).then(
        () => null,
        (reason: unknown) => reason as Error & { code: string; help: string },
      )
      expect(error).toMatchObject({ code: 'SC1205', help: expect.stringMatching(/./) })
      expect(error!.message).toMatch(/^adapters\.wavefront[.:]/)
      expect(error!.message).toContain(message)
      expect(error!.message).not.toContain('secret')
    },
  )

  it('tells nobody its token', async () => {
    const file = join(temporaryFolder(), 'token')
    writeFileSync(file, 'top-secret\n')
    const adapter = (await open({ url: 'http://127.0.0.1:1', token: 'also-secret', tokenFile: file }))!
    expect(JSON.stringify([adapter.endpoint, adapter.name, adapter.counters!()])).not.toContain('secret')
  })
})
