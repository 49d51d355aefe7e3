import { describe, expect, it } from 'vitest'
import { jsonToProtobuf } from '../../../src/ingest/otlp/json.ts'
import { REQUESTS, type Signal } from '../../../src/ingest/otlp/messages.ts'

const hex = (signal: Signal, request: unknown): string => {
  const made = jsonToProtobuf(signal, typeof request === 'string' ? request : JSON.stringify(request))
  return made.ok ? made.bytes.toString('hex') : `${made.reason}: ${made.message}`
}
const record = (fields: object) => ({ resourceLogs: [{ scopeLogs: [{ logRecords: [fields] }] }] })
/** Bytes of one log record inside its request, whose lengths are all below 128. */
const recordBytes = (fields: object): string => hex('logs', record(fields)).slice(12)
const value = (any: object) => recordBytes({ body: any }).slice(4)

describe('OTLP in JSON becomes OTLP in protobuf', () => {
  it.each([
    ['times are texts', { timeUnixNano: '1795231455406514000' }, '0950df1c457ff1e918'],
    ['or numbers', { timeUnixNano: 4096 }, '090010000000000000'],
    [
      'ids are hexadecimal, either case',
      { traceId: '5B8EFFF798038103D269B633813FC60C' },
      '4a105b8efff798038103d269b633813fc60c',
    ],
    ['enumerations are numbers', { severityNumber: 9 }, '1009'],
    ['or names', { severityNumber: 'SEVERITY_NUMBER_WARN2' }, '100e'],
    ['fixed 32 bits', { flags: 257 }, '4501010000'],
    ['null is absent', { severityText: null, spanId: '0102030405060708' }, '52080102030405060708'],
    ['unknown names are ignored', { whatever: { deep: [1] }, severityText: 'I' }, '1a0149'],
    ['names are lowerCamelCase alone', { severity_text: 'I' }, ''],
    ['fields keep their order', { severityText: 'I', timeUnixNano: '1' }, '1a0149090100000000000000'],
  ])('%s', (_name, fields, expected) => {
    expect(recordBytes(fields)).toBe(expected)
  })

  it.each([
    [{ stringValue: 'é' }, '0a02c3a9'],
    [{ boolValue: true }, '1001'],
    [{ intValue: '-1' }, '18ffffffffffffffffff01'],
    [{ intValue: 300 }, '18ac02'],
    [{ doubleValue: 'NaN' }, '21000000000000f87f'],
    [{ doubleValue: '-Infinity' }, '21000000000000f0ff'],
    [{ doubleValue: 1.5 }, '21000000000000f83f'],
    [{ bytesValue: '_-8=' }, '3a02ffef'],
    [{ arrayValue: { values: [{ intValue: 1 }, { intValue: 2 }] } }, '2a080a0218010a021802'],
    [{ kvlistValue: { values: [{ key: 'k', value: { boolValue: false } }] } }, '32090a070a016b12021000'],
  ])('the value %o', (any, expected) => {
    expect(value(any)).toBe(expected)
  })

  it('numbers of a list are packed', () => {
    const point = { bucketCounts: ['1', 2], explicitBounds: [0.5] }
    const request = { resourceMetrics: [{ scopeMetrics: [{ metrics: [{ histogram: { dataPoints: [point] } }] }] }] }
    expect(hex('metrics', request)).toContain('3210010000000000000002000000000000003a08000000000000e03f')
    const buckets = { positive: { offset: -3, bucketCounts: ['300', '1'] } }
    const exponential = {
      resourceMetrics: [{ scopeMetrics: [{ metrics: [{ exponentialHistogram: { dataPoints: [buckets] } }] }] }],
    }
    expect(hex('metrics', exponential)).toContain('420708051203ac0201')
  })

  it.each([
    ['not JSON', '{"resourceLogs":[', 'malformed: the body is not JSON'],
    ['not an object', '[]', 'wrong_type: $ must be an object'],
    ['no list', { resourceLogs: {} }, 'wrong_type: $.resourceLogs must be an array'],
    [
      'a time that is a fraction',
      record({ timeUnixNano: 1.5 }),
      'wrong_type: $.resourceLogs[0].scopeLogs[0].logRecords[0].timeUnixNano must be an integer',
    ],
    [
      'a time that does not fit',
      record({ timeUnixNano: '18446744073709551616' }),
      'wrong_type: $.resourceLogs[0].scopeLogs[0].logRecords[0].timeUnixNano must be an integer from 0 to 18446744073709551615',
    ],
    [
      'an id in base64',
      record({ traceId: 'W47/95gDgQPSabYzgT/GDA==' }),
      'wrong_type: $.resourceLogs[0].scopeLogs[0].logRecords[0].traceId must be hexadecimal',
    ],
    [
      'a number for a text',
      record({ severityText: 4 }),
      'wrong_type: $.resourceLogs[0].scopeLogs[0].logRecords[0].severityText must be a string',
    ],
  ])('%s is refused, and told', (_name, request, expected) => {
    expect(hex('logs', request)).toBe(expected)
  })

  it('nesting is bounded', () => {
    const nested = (depth: number): object =>
      depth === 0 ? { intValue: 1 } : { arrayValue: { values: [nested(depth - 1)] } }
    expect(jsonToProtobuf('logs', JSON.stringify(record({ body: nested(20) }))).ok).toBe(true)
    expect(hex('logs', record({ body: nested(100) }))).toMatch(/^too_deep: /)
    const hostile = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":${'{"arrayValue":{"values":['.repeat(50_000)}${']}}'.repeat(50_000)}}]}]}]}`
    expect(hex('logs', hostile)).toMatch(/^(too_deep|malformed): /)
  })

  it('names of the prototype are unknown names', () => {
    expect(hex('logs', '{"__proto__":{"resourceLogs":1},"constructor":3,"resourceLogs":[]}')).toBe('')
    expect(Object.keys(REQUESTS)).toEqual(['logs', 'metrics', 'traces'])
  })
})
