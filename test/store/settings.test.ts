import { describe, expect, it } from 'vitest'
import { DEFAULT_LIMITS } from '../../src/store/limits.ts'
import { preamble, quoteName, quoteText, settingsOf, type User } from '../../src/store/settings.ts'

const limits = { ...DEFAULT_LIMITS, readMsMax: 30_000, writeMsMax: 600_000, threadsMax: 2 }
const settings = (user: User, ...parameters: [string, string][]) =>
  Object.fromEntries(settingsOf(parameters, user, limits).settings)

describe('settings of a request', () => {
  it('are bounded by the limits, whatever is asked', () => {
    const time = (user: User, asked?: string) =>
      settingsOf(asked === undefined ? [] : [['max_execution_time', asked]], user, limits).timeMsMax
    for (const asked of [undefined, '', '0', '999999', '1e300', 'Infinity']) {
      expect([time('reader', asked), time('writer', asked)]).toEqual([30_000, 600_000])
    }
    expect(time('reader', '2.5')).toBe(2500)
    expect(settings('reader', ['max_execution_time', '2.5']).max_execution_time).toBe('7.5')
    expect(settings('reader', ['max_memory_usage', '99999999999']).max_memory_usage).toBe(
      String(limits.statementMemoryBytesMax),
    )
    expect(settings('reader', ['max_threads', '64']).max_threads).toBe('2')
  })

  it.each(['-1', 'x', 'NaN'])('refuse %j as a limit', (asked) => {
    expect(() => settings('reader', ['max_execution_time', asked])).toThrow(/Code: 36\./)
  })

  it.each(['readonly2', 'max_memory_usage_for_user', 'log_comment', "max_threads' , readonly='0", 'profile', ''])(
    'refuse %j',
    (name) => {
      expect(() => settings('reader', [name, '1'])).toThrow(/Code: 452\..*SETTING_CONSTRAINT_VIOLATION/)
    },
  )

  it('are fewer for a reader than for a writer', () => {
    const token: [string, string] = ['insert_deduplication_token', 'a']
    expect(() => settings('reader', token)).toThrow(/cannot be set by a reader/)
    expect(settings('writer', token).insert_deduplication_token).toBe('a')
  })

  it('leave out what belongs to HTTP, and keep bound parameters apart', () => {
    const { settings: given, bound } = settingsOf(
      [
        ['query', 'SELECT 1'],
        ['query_id', 'x'],
        ['role', 'a'],
        ['wait_end_of_query', '1'],
        ['param_max_threads', '5'],
      ],
      'reader',
      limits,
    )
    expect(given.map(([name]) => name).sort()).toEqual([
      'max_execution_time',
      'max_memory_usage',
      'max_result_bytes',
      'max_threads',
    ])
    expect(bound).toEqual([['param_max_threads', '5']])
  })
})

describe('the preamble of a connection', () => {
  it('shuts the door last', () => {
    expect(preamble({ database: 'd`x', settings: [['max_threads', '2']], user: 'reader' })).toBe(
      "USE `d\\`x`; SET max_threads='2', readonly='1'",
    )
    expect(preamble({ database: 'default', settings: [['max_threads', '2']], user: 'writer' })).toBe(
      "SET max_threads='2'",
    )
  })

  it('quotes so that nothing gets out of its quotes', () => {
    expect(quoteText("a'b\\c\0")).toBe("'a\\'b\\\\c\\0'")
    expect(quoteName('a`b\\')).toBe('`a\\`b\\\\`')
  })
})
