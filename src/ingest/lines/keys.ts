import { createHash } from 'node:crypto'
import type { Note } from '../../pipeline/journal-format.ts'
import { Prefix, readPrefixRecord } from './prefix.ts'
import type { LineReader } from './read-line.ts'
import type { LineSource } from './source.ts'

/** What became of one line or value of a request. */
export interface LineError {
  /** From 1. */
  readonly line: number
  readonly reason: string
}

/** How far the body of a key is stored. It is noted with the rows, so a repeated request goes on behind the last of them. */
export interface KeyState {
  readonly note: string
  /** When it was used last, wall clock, ms. */
  atMs: number
  /** Sent in parts, as the content of a file: remembered for longer. */
  parts: boolean
  prefix: Prefix
  replayFrom: number
  accepted: number
  rejected: number
  errors: LineError[]
  /** The request that is under way. */
  source: LineSource | null
  /** Of parts: lines that have begun in one go on in the next. */
  reader: LineReader | null
}

export interface Keys {
  /** The state of a key, a new one if need be. */
  of(key: string): KeyState
  find(key: string): KeyState | null
}

export interface KeysOptions {
  readonly notes: (prefix: string) => Iterable<Note>
  readonly forget: (key: string) => void
  /** Wall clock, ms. */
  readonly now: () => number
  /** Of whole requests, and of files sent in parts. */
  readonly keysMax?: number
  readonly filesMax?: number
  readonly keepMs?: number
}

export const KEY_NOTES = 'http/'
const KEYS_MAX = 10_000
const FILES_MAX = 20_000
const KEEP_MS = 86_400_000
export const ERRORS_MAX = 20

export function createKeys(options: KeysOptions): Keys {
  const { notes, forget, now, keepMs = KEEP_MS } = options
  const bounds = { whole: options.keysMax ?? KEYS_MAX, parts: options.filesMax ?? FILES_MAX }
  /** The one used longest ago first. */
  const states = new Map<string, KeyState>()
  for (const [note, value] of notes(KEY_NOTES)) {
    const state = readState(note, value)
    if (state === null) forget(note)
    else states.set(note, state)
  }
  const counts = { whole: 0, parts: 0 }
  for (const state of states.values()) counts[state.parts ? 'parts' : 'whole']++

  const trim = (): void => {
    const oldestMs = now() - keepMs
    for (const state of states.values()) {
      const kind = state.parts ? 'parts' : 'whole'
      const old = !state.parts && state.atMs < oldestMs
      if (!old && counts.whole <= bounds.whole && counts.parts <= bounds.parts) return
      if (state.source !== null || (!old && counts[kind] <= bounds[kind])) continue
      states.delete(state.note)
      counts[kind]--
      forget(state.note)
    }
  }
  return {
    of(key) {
      const note = noteOf(key)
      const known = states.get(note)
      if (known !== undefined) {
        states.delete(note)
        states.set(note, known)
        known.atMs = now()
        return known
      }
      const state = newState(note, now())
      states.set(note, state)
      counts.whole++
      trim()
      return state
    },
    find(key) {
      return states.get(noteOf(key)) ?? null
    },
  }
}

const noteOf = (key: string): string => KEY_NOTES + createHash('sha256').update(key).digest('base64url').slice(0, 32)

function newState(note: string, atMs: number): KeyState {
  return {
    note,
    atMs,
    parts: false,
    prefix: new Prefix(),
    replayFrom: -1,
    accepted: 0,
    rejected: 0,
    errors: [],
    source: null,
    reader: null,
  }
}

/** What the journal keeps of a state, at the moment that the rows in the builders are stored. */
export function keyNote(state: KeyState): Note {
  const { note, atMs, parts, source, errors } = state
  const at = source?.position()
  const accepted = state.accepted + (at?.added ?? 0)
  const rejected = at?.rejected ?? state.rejected
  const prefix = (at?.prefix ?? state.prefix).record()
  const replayFrom = at?.replayFrom ?? state.replayFrom
  return [note, { atMs, parts, prefix, replayFrom, accepted, rejected, errors: errors.slice(0, ERRORS_MAX) }]
}

function readState(note: string, value: unknown): KeyState | null {
  if (typeof value !== 'object' || value === null) return null
  const { atMs, parts, prefix, replayFrom, accepted, rejected, errors } = value as Record<string, unknown>
  const record = readPrefixRecord(prefix)
  if (record === null || typeof atMs !== 'number' || typeof replayFrom !== 'number') return null
  if (typeof accepted !== 'number' || typeof rejected !== 'number' || !Array.isArray(errors)) return null
  const state = newState(note, atMs)
  state.parts = parts === true
  state.prefix = Prefix.from(record)
  state.replayFrom = replayFrom
  state.accepted = accepted
  state.rejected = rejected
  state.errors = errors.filter(isLineError)
  return state
}

function isLineError(value: unknown): value is LineError {
  if (typeof value !== 'object' || value === null) return false
  const { line, reason } = value as Record<string, unknown>
  return typeof line === 'number' && typeof reason === 'string'
}
