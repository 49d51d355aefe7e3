import type { Origin } from '../../model/batch.ts'
import { workloadOfPod } from '../als/workload.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins, Sender } from '../entry/origins.ts'
import type { LineFault, LineParser } from './parser.ts'
import { type Hints, nodeTypeOf, type Unwrapper } from './unwrap/index.ts'

/** Reads the lines of one source: takes away what stands around them, parses, and gives what came of it to the writer. */
export interface LineReader {
  /**
   * 'added': the writer has an entry. 'held': part of a line that goes on. Anything else: why there is none. Never throws.
   */
  read(line: string): LineOutcome
  /** For lines that were read before: only what has to be remembered of them for the lines that follow. */
  replay(line: string): void
  /** Whether lines have begun and not ended. */
  readonly holds: boolean
}

export type LineOutcome = 'added' | 'held' | LineFault | 'binary' | 'no_room' | 'too_large_entry'

export interface LineReaderOptions {
  readonly parser: LineParser
  readonly unwrapper: Unwrapper
  readonly writer: EntryWriter
  readonly origins: Origins
  /** What is known of the sender without the line. */
  readonly sender: Omit<Sender, 'source' | 'precisionNs'>
}

export function createLineReader(options: LineReaderOptions): LineReader {
  const { parser, unwrapper, writer, origins } = options
  const { entry } = writer
  // A parser of several forms has the source and precision of its last entry.
  const forms = new Map<string, WeakMap<Hints, Origin>>()
  let source: LineParser['source'] = parser.source
  let precisionNs = 0
  let known = new WeakMap<Hints, Origin>()
  const originOf = (hints: Hints): Origin => {
    if (parser.source !== source || parser.precisionNs !== precisionNs) {
      source = parser.source
      precisionNs = parser.precisionNs
      const form = `${source} ${precisionNs}`
      known = forms.get(form) ?? new WeakMap()
      forms.set(form, known)
    }
    let origin = known.get(hints)
    if (origin === undefined) {
      origin = origins.of({ source, precisionNs, ...senderOf(hints, options.sender) })
      known.set(hints, origin)
    }
    return origin
  }
  const add = (hints: Hints): LineOutcome => {
    const before = writer.added
    if (!writer.add(originOf(hints))) return 'no_room'
    return writer.added > before ? 'added' : 'too_large_entry'
  }
  return {
    read(line) {
      if (parser.parseBare?.(line, entry) === true) return add(unwrapper.bare)
      if (line.includes('\0')) return 'binary'
      const unwrapped = unwrapper.unwrap(line)
      if (unwrapped === null) return 'held'
      if (unwrapped.text === '') return 'not_an_entry'
      const fault = parser.parse(unwrapped.text, entry)
      if (fault !== null) {
        entry.reset()
        return fault
      }
      if (entry.startSeconds === 0 && entry.endSeconds === 0 && unwrapped.seconds > 0) {
        entry.endSeconds = unwrapped.seconds
        entry.endNanos = unwrapped.nanos
      }
      return add(unwrapped.hints)
    },
    replay(line) {
      unwrapper.unwrap(line)
    },
    get holds() {
      return unwrapper.held > 0
    },
  }
}

/** What the receiver was told goes before what stands around the line. */
function senderOf(hints: Hints, given: LineReaderOptions['sender']): LineReaderOptions['sender'] {
  const pod = hints.pod === '' ? '' : hints.namespace === '' ? hints.pod : `${hints.pod}.${hints.namespace}`
  const told = given.self ?? {}
  const type = nodeTypeOf(hints)
  return {
    ...given,
    nodeId: given.nodeId || pod || hints.node,
    ...(type !== 'unknown' && { nodeType: given.nodeType ?? type }),
    self: {
      workload: told.workload || workloadOfPod(hints.pod),
      namespace: told.namespace || hints.namespace,
      service: told.service || hints.service || hints.app,
      version: told.version || hints.version,
      cluster: told.cluster || hints.cluster,
      app: told.app || hints.app,
    },
  }
}
