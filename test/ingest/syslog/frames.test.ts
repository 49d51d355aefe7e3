import { describe, expect, test } from 'vitest'
import { SyslogFrames } from '../../../src/ingest/syslog/frames.ts'
import { seededRandom } from '../../../src/lib/random.ts'

function read(chunks: readonly (Buffer | string)[], messageBytesMax = 1000) {
  const messages: string[] = []
  const faults: string[] = []
  const frames = new SyslogFrames({
    messageBytesMax,
    onMessage: (bytes, start, end) => messages.push(bytes.toString('utf8', start, end)),
    onFault: (fault) => faults.push(fault),
  })
  for (const chunk of chunks) frames.push(Buffer.from(chunk))
  const { holds } = frames
  frames.end()
  return { messages, faults, holds }
}

const counted = (text: string): string => `${Buffer.byteLength(text)} ${text}`

describe('syslog frames', () => {
  test.each([
    ['octet counting', `${counted('<34>a\nb')}${counted('<34>ü')}`, ['<34>a\nb', '<34>ü']],
    ['line ends', '<34>a\n<34>b\r\n', ['<34>a', '<34>b']],
    ['NUL', '<34>a\0<34>b\0', ['<34>a', '<34>b']],
    [
      'one after the other',
      `<34>a\n${counted('<34>b')}<34>c\n${counted('<34>d\n')}`,
      ['<34>a', '<34>b', '<34>c', '<34>d'],
    ],
    [
      'lines that begin with digits',
      '2026-11-21T00:00:00Z x\n12 monkeys\n0 <1>\n',
      ['2026-11-21T00:00:00Z x', '12 monkeys', '0 <1>'],
    ],
    ['empty lines', '\n\r\n<34>a\n\n', ['<34>a']],
    ['a last line without an end', '<34>a\n<34>b', ['<34>a', '<34>b']],
    ['digits at the end', '<34>a\n12', ['<34>a', '12']],
  ])('%s, in pieces of any size', (_, text, expected) => {
    const bytes = Buffer.from(text)
    expect(read([bytes])).toMatchObject({ messages: expected, faults: [] })
    expect(read([...bytes].map((byte) => Buffer.of(byte)))).toMatchObject({ messages: expected, faults: [] })
    const random = seededRandom(1)
    for (let round = 0; round < 20; round++) {
      const chunks: Buffer[] = []
      for (let at = 0; at < bytes.length; ) {
        const length = 1 + Math.floor(random() * 5)
        chunks.push(bytes.subarray(at, at + length))
        at += length
      }
      expect(read(chunks)).toMatchObject({ messages: expected, faults: [] })
    }
  })

  test('what is larger than allowed is passed over, and nothing behind it', () => {
    const large = `<34>${'x'.repeat(50)}`
    const text = `<34>a\n${large}\n<34>b\n${counted(large)}${counted('<34>c')}`
    for (const chunks of [[text], [...text]]) {
      expect(read(chunks, 20)).toEqual({
        messages: ['<34>a', '<34>b', '<34>c'],
        faults: ['too_large', 'too_large'],
        holds: false,
      })
    }
  })

  test('a stream without any line end takes no memory', () => {
    const { faults, messages, holds } = read(Array(1000).fill('x'.repeat(1000)))
    expect(faults).toEqual(['too_large'])
    expect(messages).toEqual([])
    expect(holds).toBe(true)
  })

  test('a counted message that is cut off is none', () => {
    expect(read(['20 <34>abc'])).toMatchObject({ messages: [], faults: ['cut_off'], holds: true })
  })
})
