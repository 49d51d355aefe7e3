import {
  appendFileSync,
  copyFileSync,
  cpSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { expect, onTestFinished, test } from 'vitest'
import { createFilesReceiver, type FilesReceiver } from '../../../src/ingest/lines/files.ts'
import type { FilesGroup, FilesLimits } from '../../../src/ingest/lines/tail/types.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { FaultyFiles, unsyncedFiles } from '../../support/journal.ts'
import { type LinesRig, openLinesRig, testParser } from '../../support/lines-rig.ts'

const NEVER = new AbortController().signal

/** A folder of logs, and a receiver on it that can be stopped, killed and started again. */
class Bench {
  readonly dir = mkdtempSync(join(tmpdir(), 'sidecast-tail-'))
  readonly logs = join(this.dir, 'logs')
  readonly log = join(this.logs, 'access.log')
  data = join(this.dir, 'data')
  rig: LinesRig | null = null
  files: FilesReceiver | null = null
  readonly disk = Object.assign(new FaultyFiles(), {
    sync: unsyncedFiles.sync,
    syncDirectory: unsyncedFiles.syncDirectory,
  })
  #written = 0

  constructor() {
    mkdirSync(this.logs)
    onTestFinished(async () => {
      await this.stop()
      rmSync(this.dir, { recursive: true, force: true })
    })
  }

  async start(group: Partial<FilesGroup> = {}, limits: Partial<FilesLimits> = {}, rowsMax = 1000): Promise<void> {
    this.rig = await openLinesRig(this.data, { rowsMax, journal: { files: this.disk } })
    const { lane, journal, writer, origins } = this.rig
    this.files = createFilesReceiver({
      groups: [
        {
          paths: [this.log],
          exclude: [],
          rotated: true,
          start: 'beginning',
          parser: () => testParser,
          sender: { nodeId: 'node' },
          ...group,
        },
      ],
      writer,
      origins,
      gate: lane.gate,
      addNoteSource: (source) => lane.addNoteSource(source),
      notes: (prefix) => journal.notes(prefix),
      forget: (key) => journal.forget(key),
      clock: systemClock,
      log: silentLog,
      limits: { pollMs: 5, scanMs: 5, ...limits },
    })
    await this.files.start()
  }

  async stop(): Promise<void> {
    await this.files?.stop(NEVER)
    await this.rig?.stop()
    this.files = null
    this.rig = null
  }

  /** What a kill -9 at this moment leaves, as the data of the next start. */
  async kill(): Promise<void> {
    const copy = join(this.dir, `killed-${Math.random()}`)
    cpSync(this.data, copy, { recursive: true, filter: (path) => !path.endsWith('lock') })
    await this.stop()
    this.data = copy
  }

  lines(n: number, pad = ''): string {
    let text = ''
    for (let k = 0; k < n; k++)
      text += `{"p":"/${this.#written++}"${this.#written % 7 === 0 ? ',"k":"attempt"' : ''}${pad}}\n`
    return text
  }

  write(n: number, path = this.log): void {
    appendFileSync(path, this.lines(n))
  }

  /** Every line that was written is stored, once. */
  async expectAll(): Promise<void> {
    await this.files!.idle()
    const stored = (await this.rig!.stored()).map((path) => Number(path.slice(1))).sort((a, b) => a - b)
    expect(stored).toEqual(Array.from({ length: this.#written }, (_, k) => k))
  }
}

test('lines are stored as they are written; a last line waits for its end', async () => {
  const bench = new Bench()
  bench.write(10)
  await bench.start()
  await bench.expectAll()
  const line = bench.lines(1)
  appendFileSync(bench.log, line.slice(0, 8))
  await bench.files!.idle()
  expect((await bench.rig!.stored()).length).toBe(10)
  appendFileSync(bench.log, line.slice(8))
  await bench.expectAll()
  expect(bench.files!.logs()).toEqual([{ path: bench.log, position: readFileSync(bench.log).length, behind: 0 }])
})

test('a restart goes on where it was, after a stop and after a kill', async () => {
  const bench = new Bench()
  for (let round = 0; round < 4; round++) {
    bench.write(20)
    await bench.start()
    bench.write(20)
    await bench.expectAll()
    bench.write(5)
    await (round % 2 === 0 ? bench.stop() : bench.kill())
  }
  await bench.start()
  await bench.expectAll()
})

test('a builder that is full in the middle of a chunk leaves a position in the middle of it', async () => {
  const bench = new Bench()
  bench.write(1234)
  await bench.start({}, {}, 100)
  await bench.files!.idle()
  // Rows that wait in memory are lost with the process, and so is their position.
  await bench.kill()
  bench.write(10)
  await bench.start({}, {}, 64)
  await bench.expectAll()
})

test('rotation by rename, with lines written to the old file afterwards', async () => {
  const bench = new Bench()
  await bench.start()
  for (let n = 3; n > 0; n--) {
    bench.write(10)
    renameSync(bench.log, `${bench.log}.${n}`)
    bench.write(3, `${bench.log}.${n}`)
    bench.write(10)
    await bench.expectAll()
    bench.write(2, `${bench.log}.${n}`)
  }
  await bench.expectAll()
})

test('rotation by copy and truncate: the copy is not read again, but what was not read before is', async () => {
  const bench = new Bench()
  bench.write(50)
  await bench.start()
  await bench.expectAll()
  await bench.stop()
  bench.write(50)
  copyFileSync(bench.log, `${bench.log}.1`)
  truncateSync(bench.log)
  bench.write(30)
  await bench.start()
  await bench.expectAll()
  // While it runs, and the copy is there for a while before the file is emptied.
  copyFileSync(bench.log, `${bench.log}.0`)
  await bench.files!.idle()
  expect(bench.files!.counters.copies).toBe(1)
  truncateSync(bench.log)
  bench.write(30)
  await bench.expectAll()
  expect(bench.files!.counters.truncated).toBe(1)
})

test('a file emptied and filled to more than it had is found out', async () => {
  const bench = new Bench()
  bench.write(20)
  await bench.start()
  await bench.expectAll()
  await bench.stop()
  writeFileSync(bench.log, bench.lines(40))
  await bench.start()
  await bench.expectAll()
  writeFileSync(bench.log, bench.lines(80))
  await bench.expectAll()
})

test('a log is read on where it was compressed, and what was read before is not read again', async () => {
  for (const [ending, compress] of [
    ['gz', gzipSync],
    ['zst', zstdCompressSync],
  ] as const) {
    const bench = new Bench()
    bench.write(500)
    await bench.start()
    await bench.expectAll()
    await bench.kill()
    bench.write(500)
    writeFileSync(`${bench.log}.1.${ending}`, compress(readFileSync(bench.log)))
    unlinkSync(bench.log)
    bench.write(20)
    // An older one that was never seen.
    writeFileSync(`${bench.log}.2.${ending}`, compress(bench.lines(300)))
    await bench.start()
    await bench.expectAll()
    await bench.kill()
    renameSync(`${bench.log}.2.${ending}`, `${bench.log}.3.${ending}`)
    await bench.start()
    await bench.expectAll()
  }
})

test('a compressed file that is still being written, or is damaged, costs what is missing of it', async () => {
  const bench = new Bench()
  const whole = gzipSync(bench.lines(5000, `,"x":"${'abc'.repeat(20)}"`))
  writeFileSync(`${bench.log}.1.gz`, whole.subarray(0, whole.length / 2))
  await bench.start()
  await bench.files!.idle()
  expect(bench.files!.counters.damaged).toBe(1)
  const half = (await bench.rig!.stored()).length
  expect(half).toBeGreaterThan(100)
  expect(half).toBeLessThan(5000)
  writeFileSync(`${bench.log}.1.gz`, whole)
  await bench.expectAll()
})

test('two files of one glob that begin alike are two logs; a second name of a file is the same log', async () => {
  const bench = new Bench()
  const head = '{"p":"/same"}\n'.repeat(3)
  writeFileSync(join(bench.logs, 'a.log'), `${head}{"p":"/a-1"}\n{"p":"/a-2"}\n`)
  writeFileSync(join(bench.logs, 'b.log'), `${head}{"p":"/b-1"}\n{"p":"/b-2"}\n`)
  linkSync(join(bench.logs, 'a.log'), join(bench.logs, 'c.log'))
  await bench.start({ paths: [join(bench.logs, '*.log')], exclude: ['**/z*'] })
  writeFileSync(join(bench.logs, 'z.log'), head)
  await bench.files!.idle()
  const stored = (await bench.rig!.stored()).sort()
  expect(stored).toEqual([...Array(6).fill('/same'), '/a-1', '/a-2', '/b-1', '/b-2'].sort())
})

test('a deleted file is read to its end, and its last line needs no end', async () => {
  const bench = new Bench()
  bench.write(10)
  await bench.start()
  await bench.files!.idle()
  bench.write(10)
  unlinkSync(bench.log)
  bench.write(5)
  await bench.expectAll()
})

test('lines that are too long, not text, or not of the form are counted, and cost themselves alone', async () => {
  const bench = new Bench()
  await bench.start({}, { lineBytesMax: 1000 })
  bench.write(3)
  appendFileSync(bench.log, `{"p":"${'x'.repeat(400_000)}`)
  await bench.files!.idle()
  appendFileSync(bench.log, `${'y'.repeat(300_000)}"}\n`)
  bench.write(3)
  appendFileSync(
    bench.log,
    Buffer.concat([Buffer.from([0xff, 0xfe, 0x80, 1, 2]), Buffer.from('a\0b\n{"p":\nhello\n\n')]),
  )
  // A writer that kept its place in a file that was emptied.
  appendFileSync(bench.log, Buffer.concat([Buffer.alloc(5000), Buffer.from(bench.lines(1))]))
  bench.write(3)
  await bench.expectAll()
  const { rejected } = bench.files!.counters
  expect(Object.fromEntries(rejected)).toEqual({ too_large: 1, binary: 1, bad_json: 1, unmatched: 1, not_an_entry: 1 })
})

test('lines that a container runtime has cut are joined, across a kill between their parts too', async () => {
  const bench = new Bench()
  const cri = (stream: string, tag: 'P' | 'F', text: string) =>
    `2024-01-31T10:00:00.000000001Z ${stream} ${tag} ${text}\n`
  const add = (...lines: string[]) => appendFileSync(bench.log, lines.join(''))
  await bench.start()
  add(cri('stdout', 'F', '{"p":"/a"}'), cri('stdout', 'P', '{"p":"/b"'), cri('stderr', 'F', '{"p":"/c"}'))
  add(cri('stderr', 'P', '{"p":'), cri('stderr', 'F', '"/d"}'))
  await bench.files!.idle()
  expect((await bench.rig!.stored()).sort()).toEqual(['/a', '/c', '/d'])
  await bench.kill()
  add(cri('stdout', 'P', ',"x":'), cri('stderr', 'P', '{"p":"/e"'))
  await bench.start()
  await bench.files!.idle()
  await bench.kill()
  add(cri('stdout', 'F', '1}'), cri('stderr', 'F', '}'), cri('stdout', 'F', '{"p":"/f"}'))
  await bench.start()
  await bench.files!.idle()
  expect((await bench.rig!.stored()).sort()).toEqual(['/a', '/b', '/c', '/d', '/e', '/f'])
})

test('while the journal has no room files wait, and then every line is stored once', async () => {
  const bench = new Bench()
  bench.write(500)
  await bench.start({}, {}, 50)
  await bench.files!.idle()
  bench.disk.room = 0
  bench.write(2000)
  await expect.poll(() => bench.rig!.lane.gate.closed).toBe(true)
  await new Promise((resolve) => setTimeout(resolve, 50))
  bench.write(100)
  bench.disk.room = Number.POSITIVE_INFINITY
  await expect.poll(() => bench.rig!.lane.gate.closed, { timeout: 60_000 }).toBe(false)
  await bench.expectAll()
  await bench.kill()
  await bench.start()
  await bench.expectAll()
})
