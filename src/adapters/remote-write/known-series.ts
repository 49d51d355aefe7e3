import { createHash } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { OutLabel } from './series.ts'

/**
 * The labels of each series that rows name by its id. The journal tells them once a day, when a series is first written;
 * after a restart the sender may be further on than that. So they are in a file, on disk before a segment with rows of
 * them is acknowledged.
 *
 *   series.log   <first 8 hex digits of the SHA-256 of the JSON> <JSON>\n, the last line of an id counts
 *
 * Written anew at the start and once a day, without what was not told for two days: so neither the file nor memory grows
 * by series that come and go.
 */
export interface KnownSeries {
  readonly name: string
  /** Without `__name__`; sorted. */
  readonly labels: readonly OutLabel[]
  readonly type: string
  readonly unit: string
  readonly help: string
  /** Last day (since the epoch) that the journal told it on. */
  readonly day: number
  /** Of a classic histogram: its bounds, for the markers of its end, which have none. */
  readonly bounds?: readonly number[]
  /** It was sent as a native histogram, so its end is told as one. */
  readonly native?: boolean
}

export interface SeriesLog {
  get(id: string): KnownSeries | undefined
  /** On disk at the next `save`. */
  set(id: string, series: KnownSeries): void
  save(): Promise<void>
  /** A new day (since the epoch) has begun. */
  turn(day: number): Promise<void>
  readonly size: number
  /** Lines that were damaged when it was read. */
  readonly damaged: number
}

const DAYS_KEPT = 2

export async function openSeriesLog(path: string, today: number): Promise<SeriesLog> {
  const { known, damaged } = parse(await readFile(path, 'utf8').catch(() => ''))
  await mkdir(dirname(path), { recursive: true })
  await writeAnew(path, known, today)
  let unsaved = ''
  /** An append failed, perhaps in the middle of a line. */
  let torn = false
  return {
    damaged,
    get size() {
      return known.size
    },
    get: (id) => known.get(id),
    set(id, series) {
      known.set(id, series)
      unsaved += line(id, series)
    },
    async turn(day) {
      await writeAnew(path, known, day)
      unsaved = ''
      torn = false
    },
    async save() {
      if (unsaved === '') return
      const text = unsaved
      // New series are rare: no file is kept open for them.
      const file = await open(path, 'a')
      try {
        await file.appendFile(torn ? `\n${text}` : text)
        await file.datasync()
        torn = false
      } catch (error) {
        torn = true
        throw error
      } finally {
        await file.close()
      }
      unsaved = unsaved.slice(text.length)
    },
  }
}

/** Without series that were not told lately; the file is the old one or the new one, whole. */
async function writeAnew(path: string, known: Map<string, KnownSeries>, today: number): Promise<void> {
  for (const [id, series] of known) if (series.day < today - DAYS_KEPT) known.delete(id)
  const fresh = await open(`${path}.new`, 'w')
  try {
    await fresh.writeFile([...known].map(([id, series]) => line(id, series)).join(''))
    await fresh.datasync()
  } finally {
    await fresh.close()
  }
  await rename(`${path}.new`, path)
  const directory = await open(dirname(path), 'r')
  await directory.sync()
  await directory.close()
}

function line(id: string, series: KnownSeries): string {
  const json = JSON.stringify([id, series])
  return `${checksum(json)} ${json}\n`
}

const checksum = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8)

/** A torn last line is what a killed process left, and no damage; what failed half-way is written again whole. */
function parse(text: string): { known: Map<string, KnownSeries>; damaged: number } {
  const known = new Map<string, KnownSeries>()
  let damaged = 0
  const lines = text.split('\n')
  lines.forEach((one, k) => {
    if (one === '') return
    const json = one.slice(9)
    if (one.slice(0, 8) !== checksum(json)) {
      if (k < lines.length - 1) damaged++
      return
    }
    const [id, series] = JSON.parse(json) as [string, KnownSeries]
    known.set(id, series)
  })
  return { known, damaged }
}
