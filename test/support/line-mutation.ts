import { readFileSync } from 'node:fs'
import { createAlsDecoder } from '../../src/ingest/als/decode.ts'
import { AccessEntry } from '../../src/ingest/entry/entry.ts'
import { createEntryWriter } from '../../src/ingest/entry/writer.ts'
import { compileFormat } from '../../src/ingest/lines/format/compile.ts'
import { compileFieldMap } from '../../src/ingest/lines/format/fields.ts'
import type { LineParser } from '../../src/ingest/lines/parser.ts'
import { type Random, seededRandom } from '../../src/lib/random.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../../src/model/schema.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import { echoResolver } from './als-decoding.ts'
import { TEXT_ORIGIN } from './entry-writing.ts'
import { parserOf } from './line-rows.ts'
import type { MutationRound, MutationRoundReport } from './mutation-campaign.ts'

const ENVOY =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
const KEYS = {
  start_time: '%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%',
  access_log_type: '%ACCESS_LOG_TYPE%',
  method: '%REQ(:METHOD)%',
  path: '%REQ(:PATH)%',
  response_code: '%RESPONSE_CODE%',
  duration: '%DURATION%',
  upstream_host: '%UPSTREAM_HOST%',
  downstream: '%DOWNSTREAM_REMOTE_ADDRESS%',
  t_ds_tx_end_us: '%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%',
}

const lines = (name: string): string[] =>
  readFileSync(new URL(`../fixtures/lines/${name}`, import.meta.url), 'utf8')
    .trim()
    .split('\n')

/**
 * Damaged lines through parser, writer and decoder: nothing throws, every entry that a parser gives is a row or is
 * refused with a reason, and the sound line that follows each damaged one says what it said before.
 */
export function createLineMutationRun(): (options: MutationRound) => MutationRoundReport {
  const text = lines('access-text.log')
  const json = lines('access-json.log')
  const forms: readonly { readonly parser: LineParser; readonly lines: readonly string[] }[] = [
    { parser: parserOf(compileFormat(ENVOY)), lines: text },
    { parser: parserOf(compileFormat({ json_format: KEYS })), lines: json },
    { parser: parserOf(compileFieldMap()), lines: json },
  ]
  const resolver = echoResolver()
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax: 1024, resolver })]),
  ) as Record<RowTable, ReturnType<typeof createBatchBuilder>>
  const writer = createEntryWriter({
    decoder: createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => TEXT_ORIGIN }),
    flush(table) {
      builders[table].seal()
      builders[table].reset()
      return true
    },
  })
  const entry = new AccessEntry()

  return ({ seed, count, onMessage }) => {
    const random = seededRandom(seed)
    let rejected = 0
    let compared = 0
    let added = 0
    let failure: string | null = null
    for (let k = 0; k < count && failure === null; k++) {
      onMessage(k)
      const { parser, lines: sound } = forms[k % forms.length]!
      const line = sound[Math.floor(random() * sound.length)]!
      const damaged = damage(line, random)
      try {
        if (parser.parse(damaged, writer.entry) === null) {
          writer.add(TEXT_ORIGIN)
          added++
        } else {
          writer.entry.reset()
          rejected++
        }
        if (k % 16 !== 0) continue
        entry.reset()
        if (parser.parse(line, entry) !== null || !saysWhatItSays(entry, line)) failure = 'a sound line is read wrongly'
        compared++
      } catch (error) {
        failure = error instanceof Error ? String(error.stack) : String(error)
      }
      if (failure !== null) failure = `${parser.name}, seed ${seed}, line ${k}: ${failure}: ${JSON.stringify(damaged)}`
    }
    const result = writer.commit()
    if (failure === null && result.added + result.rejected !== added) {
      failure = `seed ${seed}: ${added} entries became ${result.added} rows and ${result.rejected} refusals`
    }
    return { rejected: rejected + result.rejected, compared, failure }
  }
}

/** The most telling values stand in the line as they are. */
function saysWhatItSays(entry: AccessEntry, line: string): boolean {
  const { method, path, upstreamHost, startSeconds } = entry
  return startSeconds > 1_700_000_000 && [method, path, upstreamHost].every((text) => line.includes(text))
}

/** One to four damages: bytes changed, left out, put in, parts doubled or moved, or the end cut off. */
function damage(line: string, random: Random): string {
  let text = line
  const place = (): number => Math.floor(random() * (text.length + 1))
  for (let n = Math.floor(random() * 4); n >= 0; n--) {
    const at = place()
    const to = Math.min(text.length, at + Math.floor(random() * 24))
    switch (Math.floor(random() * 7)) {
      case 0:
        text = text.slice(0, at) + String.fromCharCode(Math.floor(random() * 256)) + text.slice(at + 1)
        break
      case 1:
        text = text.slice(0, at) + text.slice(to)
        break
      case 2:
        text = text.slice(0, at) + text.slice(at, to) + text.slice(at)
        break
      case 3:
        text = text.slice(0, at)
        break
      case 4:
        text = text.slice(0, at) + SPLICES[Math.floor(random() * SPLICES.length)]! + text.slice(at)
        break
      case 5: {
        const other = place()
        text = text.slice(0, at) + text.slice(other, other + 16) + text.slice(at)
        break
      }
      default:
        text = text.slice(0, at) + String.fromCharCode(0xd800 + Math.floor(random() * 2048)) + text.slice(at)
    }
  }
  return text
}

const SPLICES = [
  '" "',
  '"',
  '\\',
  '\\u',
  '\\ud800',
  '{',
  '[[[[',
  '}',
  ',',
  ':',
  'null',
  '-',
  '1e999',
  '99999999999999999999',
  '-1',
  'NaN',
  '\0',
  ' ',
  '%',
  '[2026-01-01T00:00:00.000Z] ',
  '€'.repeat(50),
  'x'.repeat(9000),
  '{"a":'.repeat(70),
]
