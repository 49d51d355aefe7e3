import { expect, test } from 'vitest'
import { readNumber, StatsdLine } from '../../../src/ingest/statsd/line.ts'

/** What a line says, as an object. */
function read(text: string | Buffer): Record<string, unknown> {
  const bytes = Buffer.from(text)
  const line = new StatsdLine()
  if (!line.parse(bytes, 0, bytes.length)) return { problem: line.problem }
  if (line.kind !== 'metric') return { kind: line.kind }
  const { key, nameEnd, tagsEnd, keyLength } = line
  return {
    name: key.toString('utf8', 1, nameEnd),
    type: line.type,
    values:
      line.type === 's'
        ? bytes.toString('utf8', line.valuesFrom, line.valuesTo).split(':')
        : [...line.values.subarray(0, line.count)],
    ...(tagsEnd > nameEnd + 1 && { tags: key.toString('utf8', nameEnd + 1, tagsEnd) }),
    ...(keyLength > tagsEnd && { container: key.toString('utf8', tagsEnd + 1, keyLength) }),
    ...(line.rate !== 1 && { rate: line.rate }),
    ...(line.timeMs !== 0 && { timeMs: line.timeMs }),
    ...(line.signed && { signed: true }),
    ...(line.graphite && { graphite: true }),
  }
}

test.each([
  ['a.b:4|c', { name: 'a.b', type: 'c', values: [4] }],
  ['a:1|g', { name: 'a', type: 'g', values: [1] }],
  ['a:+3|g', { name: 'a', type: 'g', values: [3], signed: true }],
  ['a:-3.5|g', { name: 'a', type: 'g', values: [-3.5], signed: true }],
  ['a:41|ms', { name: 'a', type: 't', values: [41] }],
  ['a:0.25|h', { name: 'a', type: 'h', values: [0.25] }],
  ['a:1e3|d', { name: 'a', type: 'd', values: [1000] }],
  ['a:1|c|@0.1', { name: 'a', type: 'c', values: [1], rate: 0.1 }],
  ['a:1:2:3|ms|@0.5|#x:y', { name: 'a', type: 't', values: [1, 2, 3], rate: 0.5, tags: 'x:y' }],
  ['a:1|c|#x:y,z,u:v:w', { name: 'a', type: 'c', values: [1], tags: 'x:y,z,u:v:w' }],
  ['a:1|c|#x:y|@0.5', { name: 'a', type: 'c', values: [1], tags: 'x:y', rate: 0.5 }],
  ['a:1|c|#x:y|c:ci-83c0a99c0a54', { name: 'a', type: 'c', values: [1], tags: 'x:y', container: 'ci-83c0a99c0a54' }],
  ['a:1|c|c:in-42', { name: 'a', type: 'c', values: [1], container: 'in-42' }],
  ['a:1|g|#x:y|T1656581400', { name: 'a', type: 'g', values: [1], tags: 'x:y', timeMs: 1_656_581_400_000 }],
  [
    'a:1|c|@0.5|#x:y|c:id|T1656581400|e:it-false,cn-web,pu-1|card:low',
    { name: 'a', type: 'c', values: [1], rate: 0.5, tags: 'x:y', container: 'id', timeMs: 1_656_581_400_000 },
  ],
  [
    'envoy.cluster.renamed|up;b.membership_change:1|c',
    { name: 'envoy.cluster.renamed|up;b.membership_change', type: 'c', values: [1] },
  ],
  [
    'a:1|c|#envoy.cluster_name:outbound|80||web;',
    { name: 'a', type: 'c', values: [1], tags: 'envoy.cluster_name:outbound|80||web;' },
  ],
  ['a:1|c|#n:x|80||w,b:c|T5', { name: 'a', type: 'c', values: [1], tags: 'n:x|80||w,b:c', timeMs: 5000 }],
  ['a;k=v;l=w:3|c', { name: 'a', type: 'c', values: [3], tags: 'k=v;l=w', graphite: true }],
  [
    'a;k=x:y|80||z;l=w:3|ms|@0.5',
    { name: 'a', type: 't', values: [3], tags: 'k=x:y|80||z;l=w', graphite: true, rate: 0.5 },
  ],
  ['a;b=c', { problem: 'no_value' }],
  ['a;b:1|c', { name: 'a;b', type: 'c', values: [1] }],
  ['a;=b:1|c', { name: 'a;=b', type: 'c', values: [1] }],
  ['_e{5,4}:title|text|#a:b', { kind: 'event' }],
  ['_sc|name|0|m:all well', { kind: 'service_check' }],
  ['_private:1|c', { name: '_private', type: 'c', values: [1] }],
  ['_e:1|c', { name: '_e', type: 'c', values: [1] }],
  ['', { problem: 'no_value' }],
  [':1|c', { problem: 'no_value' }],
  ['nothing', { problem: 'no_value' }],
  ['a:', { problem: 'bad_value' }],
  ['a:1', { problem: 'bad_type' }],
  ['a:1|', { problem: 'bad_type' }],
  ['a:1|x', { problem: 'bad_type' }],
  ['a:1|cc', { problem: 'bad_type' }],
  ['a:1|s', { name: 'a', type: 's', values: ['1'] }],
  ['a:alice|s', { name: 'a', type: 's', values: ['alice'] }],
  [
    'a:alice:7:-|s|@0.5|#x:y|c:id',
    { name: 'a', type: 's', values: ['alice', '7', '-'], rate: 0.5, tags: 'x:y', container: 'id' },
  ],
  ['a;x=y:alice|s', { name: 'a', type: 's', values: ['alice'], tags: 'x=y', graphite: true }],
  ['a:1e999|s', { name: 'a', type: 's', values: ['1e999'] }],
  ['a:|s', { problem: 'bad_value' }],
  ['a:x::y|s', { problem: 'bad_value' }],
  ['a:x:|s', { problem: 'bad_value' }],
  ['a:x|ss', { problem: 'bad_value' }],
  ['a:x|', { problem: 'bad_value' }],
  ['a:x', { problem: 'bad_value' }],
  [`a:${'x:'.repeat(5000)}y|s`, { problem: 'oversized' }],
  ['a:x|c', { problem: 'bad_value' }],
  ['a:NaN|g', { problem: 'bad_value' }],
  ['a:inf|g', { problem: 'bad_value' }],
  ['a:0x10|g', { problem: 'bad_value' }],
  ['a:1::2|c', { problem: 'bad_value' }],
  ['a:1e999|g', { problem: 'bad_value' }],
  ['a:1|c|@0', { problem: 'bad_rate' }],
  ['a:1|c|@2', { problem: 'bad_rate' }],
  ['a:1|c|@x', { problem: 'bad_rate' }],
  ['a:1|c|', { problem: 'bad_field' }],
  ['a:1|c|what', { problem: 'bad_field' }],
  ['a:1|c|Tx', { problem: 'bad_field' }],
  [`${'n'.repeat(9000)}:1|c`, { problem: 'oversized' }],
  [`a:1|c|#${'t'.repeat(20_000)}`, { problem: 'oversized' }],
  [`a:${'1:'.repeat(5000)}1|c`, { problem: 'oversized' }],
])('%s', (text, expected) => {
  expect(read(text)).toEqual(expected)
})

test('bytes that are not UTF-8 are a name like any other', () => {
  expect(read(Buffer.from([0x61, 0xff, 0x3a, 0x31, 0x7c, 0x63]))).toMatchObject({ name: 'a\uFFFD', values: [1] })
})

test.each([
  '0',
  '-0',
  '+7',
  '123456789012345',
  '1234567890123456789',
  '0.1',
  '12345.678901',
  '-3.25',
  '.5',
  '5.',
  '1e-3',
  '0.30000000000000004',
  '99999999.999999',
])('the number %s is what JavaScript reads', (text) => {
  const bytes = Buffer.from(text)
  expect(readNumber(bytes, 0, bytes.length)).toBe(Number(text))
})

test.each(['', '+', '-', '.', '1e', '1_000', '1 ', ' 1', '--1', 'Infinity', '1'.repeat(65)])(
  '%j is no number',
  (text) => {
    const bytes = Buffer.from(text)
    expect(readNumber(bytes, 0, bytes.length)).toBeNaN()
  },
)
