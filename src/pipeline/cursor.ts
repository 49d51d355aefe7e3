import { readFileSync } from 'node:fs'
import { type JournalFiles, replaceFile } from './journal-files.ts'
import { comparePositions, type Position, parseSegmentName, segmentName } from './journal-format.ts'

/**
 * How far one sink is: everything up to `through` is acknowledged but `except`, and of what comes after it exactly
 * `beyond`. In order, as sinks acknowledge, `beyond` is empty; `except` has what was refused and is to be sent again.
 */
export class Cursor {
  #through: Position | null
  #beyond: Position[]
  #except: Position[]

  constructor(through: Position | null = null, beyond: readonly Position[] = [], except: readonly Position[] = []) {
    this.#through = through
    this.#beyond = [...beyond].sort(comparePositions)
    this.#except = [...except]
  }

  get through(): Position | null {
    return this.#through
  }

  /** How many are acknowledged out of order. */
  get beyond(): number {
    return this.#beyond.length
  }

  covers(position: Position): boolean {
    if (this.#through !== null && comparePositions(position, this.#through) <= 0) {
      return !this.#except.some((other) => comparePositions(position, other) === 0)
    }
    return this.#beyond.some((other) => comparePositions(position, other) === 0)
  }

  /**
   * Adds one position. `oldestOpen` is the first that is known and not acknowledged, null when there is none: `through`
   * never passes it.
   */
  add(position: Position, oldestOpen: Position | null): void {
    if (this.covers(position)) return
    const hole = this.#except.findIndex((other) => comparePositions(position, other) === 0)
    if (hole >= 0) {
      this.#except.splice(hole, 1)
      return
    }
    this.#beyond.push(position)
    this.#beyond.sort(comparePositions)
    while (this.#beyond.length > 0) {
      const first = this.#beyond[0]!
      if (oldestOpen !== null && comparePositions(first, oldestOpen) > 0) return
      this.#through = first
      this.#beyond.shift()
    }
  }

  /** It is to be sent again. */
  remove(position: Position): void {
    if (!this.covers(position)) return
    const at = this.#beyond.findIndex((other) => comparePositions(position, other) === 0)
    if (at >= 0) this.#beyond.splice(at, 1)
    else this.#except.push(position)
  }

  encode(): string {
    const through = this.#through === null ? null : segmentName(this.#through)
    const except = this.#except.length === 0 ? {} : { except: this.#except.map(segmentName) }
    return `${JSON.stringify({ through, beyond: this.#beyond.map(segmentName), ...except })}\n`
  }

  /** Null when the text is no cursor. */
  static decode(text: string): Cursor | null {
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      return null
    }
    if (typeof value !== 'object' || value === null) return null
    const { through, beyond, except = [] } = value as Record<string, unknown>
    const position = through === null ? null : parse(through)
    if (position === undefined || !Array.isArray(beyond) || !Array.isArray(except)) return null
    const others = beyond.map(parse)
    const holes = except.map(parse)
    const whole = others.every((other) => other !== undefined) && holes.every((hole) => hole !== undefined)
    return whole ? new Cursor(position, others, holes) : null
  }
}

const parse = (name: unknown): Position | undefined =>
  typeof name === 'string' ? (parseSegmentName(name) ?? undefined) : undefined

/** Reads a cursor. A damaged one counts as none: its sink sees segments again, and finds that it has them. */
export function readCursor(path: string): { readonly cursor: Cursor; readonly damaged: boolean } {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return { cursor: new Cursor(), damaged: false }
  }
  const cursor = Cursor.decode(text)
  return { cursor: cursor ?? new Cursor(), damaged: cursor === null }
}

/** Writes a cursor's file, one write at a time; changes during a write go out together in the next one. */
export class CursorFile {
  readonly #path: string
  readonly #files: JournalFiles
  #wanted: string | null = null
  #running: Promise<void> | null = null

  constructor(path: string, files: JournalFiles) {
    this.#path = path
    this.#files = files
  }

  /** A write failed and was not made up for: call `save` again when there is room. */
  get unsaved(): boolean {
    return this.#wanted !== null && this.#running === null
  }

  /** Resolves when this cursor, or a later one, is on disk. Rejects when the disk refuses; the cursor is kept. */
  async save(cursor: Cursor): Promise<void> {
    this.#wanted = cursor.encode()
    while (this.#running !== null) await this.#running.catch(() => {})
    if (this.#wanted === null) return
    const content = this.#wanted
    this.#wanted = null
    this.#running = replaceFile(this.#files, this.#path, content)
    try {
      await this.#running
    } catch (error) {
      this.#wanted ??= content
      throw error
    } finally {
      this.#running = null
    }
  }
}
