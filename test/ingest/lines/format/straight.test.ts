import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it, test } from 'vitest'
import { AccessEntry } from '../../../../src/ingest/entry/entry.ts'
import { Filling } from '../../../../src/ingest/lines/format/filling.ts'
import { isFormatError } from '../../../../src/ingest/lines/format/grammar.ts'
import { compileStraight } from '../../../../src/ingest/lines/format/straight.ts'
import { compileMatcher, type Matcher } from '../../../../src/ingest/lines/format/text.ts'
import {
  EMISSARY_FORMATS,
  ENVOY_FORMATS,
  ISTIO_FORMATS,
  KUMA_FORMATS,
} from '../../../../src/ingest/lines/presets/formats.ts'
import { seededRandom } from '../../../../src/lib/random.ts'

function compiled(format: string, straight: boolean): Matcher {
  const matcher = compileMatcher(format, { straight })
  if (isFormatError(matcher)) throw new Error(matcher.error)
  return matcher
}

function read(matcher: Matcher, line: string): unknown {
  const entry = new AccessEntry()
  const filling = new Filling()
  filling.begin(entry)
  const fault = matcher.read(line, filling)
  if (fault === null) filling.finish()
  return { fault, entry: fault === null ? entry : null }
}

const FIXTURES = new URL('../../../fixtures/lines/', import.meta.url)
const lines = readdirSync(FIXTURES)
  .filter((name) => name.endsWith('.jsonl'))
  .flatMap((name) => readFileSync(new URL(name, FIXTURES), 'utf8').trimEnd().split('\n'))
  .map((row) => (JSON.parse(row) as { line: string }).line)
  .filter((line) => line.startsWith('[') || line.startsWith('ACCESS ['))
const PIECES = [
  '"',
  '" "',
  '" - "',
  ' ',
  '-',
  '- ',
  '{',
  '{a b}',
  '}',
  '[',
  ']',
  '(',
  '0',
  '.',
  ':',
  '\t',
  '\n',
  'ä',
  '',
]

const FORMATS = [
  ...[...ISTIO_FORMATS, ...ENVOY_FORMATS, ...EMISSARY_FORMATS, ...KUMA_FORMATS].map(({ format }) => format),
  '[%START_TIME%] %RESPONSE_CODE_DETAILS% %DYNAMIC_METADATA(a:b)% %CONNECTION_TERMINATION_DETAILS%',
  '%REQ(A)% | %REQ(B)% || %RESPONSE_FLAGS% %REQ(C)%]]',
  '%REQ(A)%^%REQ(B)%-%REQ(C)%\\%REQ(D)%',
  '%RESPONSE_CODE% %DURATION%',
]

describe('the straight way', () => {
  it.each(FORMATS)('reads as the search does: %s', (format) => {
    const straight = compiled(format, true)
    const search = compiled(format, false)
    const random = seededRandom(5)
    const below = (limit: number): number => Math.floor(random() * limit)
    const made = [
      '[2026-01-01T00:00:00.250Z] via{a b} {"x":1} -',
      'a | b c || UF,URX d]]',
      '- | |b || - a]] ]]',
      'a^b-c-d\\e\\f',
      '200 3',
    ]
    for (let k = 0; k < 400; k++) {
      let line = k < lines.length ? lines[k]! : [...lines, ...made][below(lines.length + made.length)]!
      for (let change = k < lines.length ? 0 : 1 + below(3); change > 0; change--) {
        const at = below(line.length + 1)
        line = line.slice(0, at) + PIECES[below(PIECES.length)]! + line.slice(at + below(4))
      }
      expect(read(straight, line), line).toEqual(read(search, line))
    }
  })

  it('is there for what is usual, and takes its lines', () => {
    const value = (shape: 'time' | 'text' | 'number') => ({
      shape,
      lengthMax: 0,
      ...(shape === 'time' && { timeFormat: '%Y-%m-%dT%H:%M:%E3SZ' }),
    })
    const pattern = compileStraight([value('time'), value('text'), value('number')], ['[', '] "', '" ', ''])!
    expect(pattern.exec('[2026-01-01T00:00:00.250Z] "GET /a b" 200')?.slice(1)).toEqual([
      '2026-01-01T00:00:00.250Z',
      'GET /a b',
      '200',
    ])
    expect(pattern.exec('[2026-01-01T00:00:00.250Z] "GET /a"b" 200')).toBeNull()
    expect(pattern.exec('[2026-13-01T00:00:00.250Z] "GET /a" 200')).toBeNull()
  })

  it.each([
    ['a length', [{ shape: 'text', lengthMax: 10 }], ['', '']],
    [
      'nothing between two values',
      [
        { shape: 'text', lengthMax: 0 },
        { shape: 'text', lengthMax: 0 },
      ],
      ['', '', ''],
    ],
    ['another format of times', [{ shape: 'time', timeFormat: '%s', lengthMax: 0 }], ['', '']],
    [
      'a token before a letter',
      [
        { shape: 'token', lengthMax: 0 },
        { shape: 'text', lengthMax: 0 },
      ],
      ['', 'ms', ''],
    ],
  ] as const)('is not there for %s', (_, values, literals) => {
    expect(compileStraight(values, literals)).toBeNull()
  })
})

test('a line that fits nowhere costs little', () => {
  const matcher = compiled(ISTIO_FORMATS[0]!.format, true)
  const line = `[2026-01-01T00:00:00.250Z] "GET /${'a'.repeat(50_000)} HTTP/1.1" 200 - ${'{'.repeat(50_000)}`
  expect(read(matcher, line)).toEqual({ fault: 'unmatched', entry: null })
})
