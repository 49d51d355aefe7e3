import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it, test } from 'vitest'
import { AccessEntry, Pairs } from '../../../../src/ingest/entry/entry.ts'
import { createPreset, PRESET_NAMES, PRESETS } from '../../../../src/ingest/lines/presets/index.ts'
import { createPresetMutationRun } from '../../../support/preset-mutation.ts'

/** One line of a fixture: what it is read as, or why it is not. `entry` has the fields that the line is about. */
type Case =
  | { readonly line: string; readonly form: string; readonly entry: Readonly<Record<string, unknown>> }
  | { readonly line: string; readonly fault: string }

const FIXTURES = new URL('../../../fixtures/lines/', import.meta.url)

function casesOf(preset: string): Case[] {
  return readFileSync(new URL(`${preset}.jsonl`, FIXTURES), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Case)
}

/** Pairs as an object; everything else as it is. */
function plain(entry: AccessEntry): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(entry).map(([key, value]) => [
      key,
      value instanceof Pairs
        ? Object.fromEntries(value.names.slice(0, value.count).map((name, k) => [name, value.values[k]]))
        : value,
    ]),
  )
}

function read(preset: string, line: string): unknown {
  const parser = createPreset(preset)!
  const entry = new AccessEntry()
  const fault = parser.parse(line, entry)
  return fault === null ? { form: parser.form, entry: plain(entry) } : { fault }
}

test('every preset has a fixture, and every fixture a preset', () => {
  const fixtures = readdirSync(FIXTURES).filter((name) => name.endsWith('.jsonl'))
  expect(fixtures.map((name) => name.replace('.jsonl', '')).sort()).toEqual(PRESETS.map(({ name }) => name).sort())
})

describe.each(PRESETS.map(({ name }) => name))('%s', (preset) => {
  it.each(casesOf(preset))('reads $line', ({ line, ...expected }) => {
    expect(read(preset, line)).toMatchObject(expected)
  })

  it('reads every one of its forms without being told which', () => {
    const parser = createPreset('auto')!
    for (const expected of casesOf(preset)) {
      const entry = new AccessEntry()
      const fault = parser.parse(expected.line, entry)
      if ('fault' in expected) {
        expect(fault, expected.line).not.toBeNull()
        continue
      }
      // Which side wrote it is what a preset's name can say and a line cannot.
      const { reporter, ...rest } = expected.entry
      const found = plain(entry)
      expect({ fault, ...found }, expected.line).toMatchObject({ fault: null, ...rest })
      if (found.reporter !== '' && reporter !== undefined) expect(found.reporter, expected.line).toBe(reporter)
    }
  })
})

test('a preset that does not exist is none', () => {
  expect(createPreset('nonesuch')).toBeNull()
  expect(PRESET_NAMES).toContain('auto')
  for (const name of PRESET_NAMES) expect(createPreset(name)?.name).toBe(name)
})

test('the precision and the source are those of the last entry', () => {
  const parser = createPreset('auto')!
  const entry = new AccessEntry()
  const lineOf = (preset: string): string => casesOf(preset)[0]!.line
  const seen = ['istio-text', 'linkerd', 'kmesh', 'istio-json'].map((preset) => {
    entry.reset()
    expect(parser.parse(lineOf(preset), entry)).toBeNull()
    return [parser.form, parser.source, parser.precisionNs]
  })
  expect(seen).toEqual([
    ['istio-1.9', 'text', 1_000_000],
    ['linkerd-json', 'json', 1],
    ['kmesh', 'text', 1],
    ['envoy-json', 'json', 1_000_000],
  ])
})

test('nothing of a line is left in the entry of the next one', () => {
  const parser = createPreset('auto')!
  const entry = new AccessEntry()
  for (const { line } of [...casesOf('ztunnel'), ...casesOf('istio-text')]) {
    if (parser.parse(line, entry) === null) entry.reset()
  }
  entry.reset()
  expect(plain(entry)).toEqual(plain(new AccessEntry()))
})

test('no damaged line makes a parser throw, takes long, or changes how the next one is read', () => {
  const report = createPresetMutationRun()({ seed: 7, count: 2000, onMessage() {} })
  expect(report).toMatchObject({ failure: null, compared: 32 })
  expect(report.rejected).toBeGreaterThan(1000)
})
