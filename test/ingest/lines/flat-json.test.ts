import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it, test } from 'vitest'
import { AccessEntry } from '../../../src/ingest/entry/entry.ts'
import { FlatJson } from '../../../src/ingest/lines/flat-json.ts'
import {
  compileFormat,
  type FormatError,
  type FormatParser,
  isFormatError,
} from '../../../src/ingest/lines/format/compile.ts'
import { compileFieldMap } from '../../../src/ingest/lines/format/fields.ts'
import type { LineParser } from '../../../src/ingest/lines/parser.ts'
import { createPreset } from '../../../src/ingest/lines/presets/index.ts'
import { createUnwrapper } from '../../../src/ingest/lines/unwrap/index.ts'
import { seededRandom } from '../../../src/lib/random.ts'

const FIXTURES = new URL('../../fixtures/lines/', import.meta.url)

function compiled(result: FormatParser | FormatError): LineParser {
  if (isFormatError(result)) throw new Error(result.error)
  return result
}

function valuesOf(line: string, like: string): (string | undefined)[] | null {
  const flat = new FlatJson((keys) => keys)
  flat.learn(like)
  const values = flat.read(line)
  return values === null ? null : [...values.slice(1)]
}

describe('a line like an earlier one', () => {
  const like = '{"a":"x","b.c":12,"d":null}'

  it.each([
    ['{"a":"y","b.c":-3.5,"d":"z"}', ['y', undefined, undefined, '-3.5', 'z', undefined]],
    ['{"a":null,"b.c":true,"d":"-"}', [undefined, undefined, undefined, 'true', '-', undefined]],
    ['{"a":"","b.c":"1","d":0}', ['', undefined, '1', undefined, undefined, '0']],
    ['{"a":"ä€","b.c":false,"d":null}', ['ä€', undefined, undefined, 'false', undefined, undefined]],
  ])('gives the values of %s', (line, values) => {
    expect(valuesOf(line, like)).toEqual(values)
  })

  it.each([
    ['another order', '{"b.c":12,"a":"x","d":null}'],
    ['a key that the dot of another would match', '{"a":"x","bxc":12,"d":null}'],
    ['a key more', '{"a":"x","b.c":12,"d":null,"e":1}'],
    ['a key less', '{"a":"x","b.c":12}'],
    ['an escape', '{"a":"x\\"","b.c":12,"d":null}'],
    ['a control character', '{"a":"x\t","b.c":12,"d":null}'],
    ['an object', '{"a":{},"b.c":12,"d":null}'],
    ['an exponent', '{"a":"x","b.c":1e3,"d":null}'],
    ['a leading zero', '{"a":"x","b.c":01,"d":null}'],
    ['a point and no digit', '{"a":"x","b.c":1.,"d":null}'],
    ['a blank', '{"a": "x","b.c":12,"d":null}'],
    ['something behind it', '{"a":"x","b.c":12,"d":null} '],
    ['something before it', ' {"a":"x","b.c":12,"d":null}'],
    ['no end', '{"a":"x","b.c":12,"d":null'],
  ])('is none with %s', (_, line) => {
    expect(valuesOf(line, like)).toBeNull()
  })

  it('may have a blank behind colons and commas, as the earlier one', () => {
    const line = '{"a": "y", "b": 1}'
    expect(valuesOf(line, '{"a": "x", "b": null}')).toEqual(['y', undefined, undefined, '1'])
    expect(valuesOf(line, '{"a": "x","b": null}')).toBeNull()
  })

  it.each(['{"a":1,"a":2}', '{"a":1,"7":2}', '{"__proto__":1}', '{"a":[1]}', '{"a":1', '{}', '[1]'])(
    'is none of %s, which an object would tell otherwise',
    (line) => {
      expect(valuesOf(line, line)).toBeNull()
    },
  )
})

test('the last four layouts are known, and hostile ones are hardly looked at', () => {
  const asked: string[] = []
  const flat = new FlatJson((keys) => {
    asked.push(keys.join())
    return keys
  })
  for (let k = 0; k < 10_000; k++) flat.learn(`{"k${k}":1}`)
  expect(asked.length).toBeLessThan(25)
  expect(asked.slice(-4).map((key) => flat.read(`{"${key}":2}`)?.[2])).toEqual(['2', '2', '2', '2'])
  expect(flat.read(`{"${asked.at(-5)}":2}`)).toBeNull()
})

describe('a parser that has seen lines', () => {
  const lines = readdirSync(FIXTURES)
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) => readFileSync(new URL(name, FIXTURES), 'utf8').trimEnd().split('\n'))
    .map((row) => (JSON.parse(row) as { line: string }).line)
    .filter((line, k) => line.startsWith('{') && k % 3 === 0)
  const PARSERS: Readonly<Record<string, () => LineParser>> = {
    auto: () => createPreset('auto')!,
    'istio-json': () => createPreset('istio-json')!,
    'envoy-gateway': () => createPreset('envoy-gateway')!,
    'any fields': () => compiled(compileFieldMap({ fields: { duration: 'duration_us', level: '%REQ(X-LEVEL)%' } })),
    'a format': () =>
      compiled(
        compileFormat({
          json_format: {
            start_time: '%START_TIME%',
            method: '%REQ(:METHOD)%',
            path: '%REQ(:PATH)% %PROTOCOL%',
            response_code: '%RESPONSE_CODE%',
            duration: '%DURATION%',
            bytes_sent: { x: '%BYTES_SENT%' },
            upstream_host: '%DYNAMIC_METADATA(a:b)%',
            authority: 'fixed',
          },
        }),
      ),
  }
  const PIECES = ['"', '\\', '-', ' ', '{', ',', ':', '\t', '\n', '0', 'null', 'ä', '\0', '[]', 'true', '1e9']

  it.each(Object.keys(PARSERS))('reads them as %s like one that has not', (name) => {
    const random = seededRandom(11)
    const below = (limit: number): number => Math.floor(random() * limit)
    let bare = 0
    for (const line of lines) {
      const seen = PARSERS[name]!()
      for (let k = 0; k < 2; k++) seen.parse(line, new AccessEntry())
      const variants = [line]
      for (let k = 0; k < 5; k++) {
        const at = below(line.length + 1)
        variants.push(line.slice(0, at) + PIECES[below(PIECES.length)]! + line.slice(at + below(3)))
      }
      for (const variant of variants) {
        const fresh = PARSERS[name]!()
        const expected = new AccessEntry()
        const found = new AccessEntry()
        const fault = fresh.parse(variant, expected)
        expect(seen.parse(variant, found), variant).toBe(fault)
        if (fault !== null) continue
        expect(found, variant).toEqual(expected)
        expect([seen.precisionNs, seen.source]).toEqual([fresh.precisionNs, fresh.source])
        const whole = new AccessEntry()
        if (!seen.parseBare!(variant, whole)) continue
        bare++
        expect(whole).toEqual(expected)
        // Nothing stands around it for the unwrapper either.
        const unwrapper = createUnwrapper()
        expect(unwrapper.unwrap(variant)).toEqual({ text: variant, hints: unwrapper.bare, seconds: -1, nanos: 0 })
      }
    }
    expect(bare).toBeGreaterThan(0)
  })
})
