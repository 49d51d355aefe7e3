import { describe, expect, it } from 'vitest'
import { asEngineError, engineError, httpStatusOf } from '../../src/store/engine-error.ts'

describe('exceptions of the engine', () => {
  it('keep their code and words', () => {
    const error = asEngineError(new Error('Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)'))
    expect([error.code, error.message]).toEqual([60, 'Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)'])
    expect(asEngineError(error)).toBe(error)
    expect(asEngineError(new TypeError('x')).code).toBe(1002)
    expect(asEngineError(Object.assign(new Error('ENOSPC: …'), { code: 'ENOSPC' })).code).toBe(243)
    expect(engineError('READONLY', 'No').message).toBe('Code: 164. DB::Exception: No. (READONLY)')
  })

  it.each([
    [62, 400],
    [60, 404],
    [516, 403],
    [159, 408],
    [307, 413],
    [202, 503],
    [241, 500],
    [999999, 500],
  ])('code %i is HTTP %i', (code, status) => {
    expect(httpStatusOf(code)).toBe(status)
  })
})
