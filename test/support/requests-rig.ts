import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { request } from '../../bench/support/made-request.ts'
import type { AccessEntry } from '../../src/ingest/entry/entry.ts'
import type { SecondaryRows } from '../../src/model/secondary-rows.ts'
import type { JournalOptions } from '../../src/pipeline/journal.ts'
import type { Lane, SideSource } from '../../src/pipeline/lane.ts'
import type { Segment } from '../../src/pipeline/segment.ts'
import { type LinesRig, openLinesRig } from './lines-rig.ts'

export { request } from '../../bench/support/made-request.ts'

/** A real journal and lane that requests are put into one by one, for tests of what reads segments. */
export interface RequestsRig extends LinesRig {
  readonly dir: string
  /** Adds so many requests, each with an id, a trace and a path of its own, and seals them as one segment. */
  seal(count: number, fill?: (entry: AccessEntry, k: number) => void): Promise<Segment>
  /** Requests added so far. */
  readonly added: number
}

export async function openRequestsRig(
  options: {
    dir?: string
    journal?: Partial<JournalOptions>
    secondary?: SecondaryRows
    sides?: (lane: () => Lane) => readonly SideSource[]
    /** Called with what has to be done in the end; by default the end of the test. */
    onEnd?: (work: () => unknown) => void
  } = {},
): Promise<RequestsRig> {
  const { onEnd = onTestFinished } = options
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'sidecast-requests-'))
  if (options.dir === undefined) onEnd(() => rmSync(dir, { recursive: true, force: true }))
  // Sealed by the test alone: a lane whose clock has come to the end finds every segment old.
  let sealing = false
  const rig = await openLinesRig(dir, {
    clock: () => (sealing ? Number.MAX_SAFE_INTEGER : Date.now()),
    journal: { limits: LIMITS, ...options.journal },
    ...(options.secondary === undefined ? {} : { secondary: options.secondary }),
    ...(options.sides === undefined ? {} : { sides: options.sides }),
  })
  const origin = rig.origins.of({ source: 'als', nodeId: NODE, precisionNs: 1 })
  let added = 0
  const whole: RequestsRig = {
    ...rig,
    dir,
    get added() {
      return added
    },
    async seal(count, fill = () => {}) {
      const nowMs = Date.now()
      for (let k = 0; k < count; k++) {
        const { entry } = rig.writer
        request(entry, added + k, nowMs)
        fill(entry, added + k)
        if (!rig.writer.add(origin)) throw new Error('the journal has no room')
      }
      added += count
      const { segmentId } = rig.journal
      rig.writer.commit()
      sealing = true
      await rig.lane.synced()
      sealing = false
      await rig.journal.settled()
      for (const segment of rig.journal.segments()) if (segment.id === segmentId) return segment
      throw new Error('the segment is gone')
    },
  }
  onEnd(() => rig.stop())
  return whole
}

const LIMITS = { segmentBytesMax: 64 << 20, segmentRowsMax: 1 << 20, segmentAgeMsMax: 3_600_000, diskBytesMax: 1 << 30 }
const NODE = 'sidecar~10.0.0.7~web-1.shop~shop.svc.cluster.local'
