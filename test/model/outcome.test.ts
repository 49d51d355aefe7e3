import { expect, test } from 'vitest'
import {
  classify,
  classText,
  DETAILS_CUT,
  DETAILS_FLAGS,
  DETAILS_LOCAL,
  DETAILS_NONE,
  DETAILS_UPSTREAM,
  detailsKind,
  flagBit,
  outcomeText,
} from '../../src/model/outcome.ts'
import { FLAGS, type Flag } from '../../src/model/schema.ts'

interface Case {
  code?: number
  flags?: Flag[]
  details?: string
  grpc?: number
  answered?: boolean
  finished?: boolean
  http?: boolean
}

function judge({
  code = -1,
  flags = [],
  details = '',
  grpc = -1,
  answered,
  finished = true,
  http = true,
}: Case): string {
  const kind = detailsKind(details)
  const set = flags.reduce((bits, flag) => bits | flagBit(flag), 0) | (kind & DETAILS_FLAGS)
  const by = classify(code, set, grpc, kind, finished, http, answered ?? details === 'via_upstream')
  return `${outcomeText(by)} ${classText(by)}`
}

const AFTER = 'upstream_reset_after_response_started'
const BEFORE = 'upstream_reset_before_response_started'

const CASES: readonly [string, Case][] = [
  ['upstream success', { code: 200, details: 'via_upstream' }],
  ['upstream success', { code: 304, details: 'via_upstream' }],
  ['upstream success', { code: 101, details: 'via_upstream' }],
  ['upstream client_error', { code: 404, details: 'via_upstream' }],
  ['upstream server_error', { code: 503, details: 'via_upstream' }],
  // A flag may come with the service's own answer.
  ['upstream server_error', { code: 503, flags: ['URX'], details: 'via_upstream' }],
  ['upstream success', { code: 200, flags: ['URX'], details: 'via_upstream' }],
  ['upstream success', { code: 200, flags: ['DI'], details: 'via_upstream' }],
  // Old Envoys write no details: the upstream's bytes tell.
  ['upstream success', { code: 200, answered: true }],
  ['proxy success', { code: 301, answered: false }],
  ['upstream server_error', { code: 503, answered: true }],
  // The proxy's own answers.
  ['proxy success', { code: 301, details: 'direct_response' }],
  ['proxy success', { code: 200, details: 'health_check_ok' }],
  ['proxy success', { code: 200, flags: ['RFCF'], details: 'cache.response_from_cache_filter' }],
  ['proxy client_error', { code: 404, flags: ['NR'], details: 'route_not_found' }],
  ['proxy client_error', { code: 403, details: 'rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]' }],
  ['proxy client_error', { code: 403, flags: ['UAEX'], details: 'ext_authz_denied' }],
  ['proxy client_error', { code: 408, details: 'request_overall_timeout' }],
  ['proxy client_error', { code: 429, flags: ['RL'], details: 'local_rate_limited' }],
  ['proxy client_error', { code: 400, flags: ['DPE'], details: 'http1.codec_error' }],
  ['proxy server_error', { code: 503, flags: ['UF', 'URX'], details: `${BEFORE}{remote_connection_failure}` }],
  ['proxy server_error', { code: 503, flags: ['UH'], details: 'no_healthy_upstream' }],
  ['proxy server_error', { code: 504, flags: ['UT'], details: 'response_timeout' }],
  ['proxy server_error', { code: 500, flags: ['NFCF'] }],
  ['proxy server_error', { code: 503, details: 'drop_overload' }],
  // A refusal below 400 is still one.
  ['proxy client_error', { code: 302, flags: ['UAEX'], details: 'ext_authz_denied' }],
  ['proxy client_error', { code: 202, flags: ['UAEX'], details: 'ext_authz_denied' }],
  // Answers that broke after their headers.
  ['upstream server_error', { code: 200, flags: ['UPE'], details: `${AFTER}{protocol_error}` }],
  ['upstream server_error', { code: 200, flags: ['UR'], details: `${AFTER}{remote_reset}` }],
  ['upstream server_error', { code: 200, flags: ['UC'], details: `${AFTER}{connection_termination}` }],
  ['upstream server_error', { code: 200, flags: ['UC'], details: 'via_upstream' }],
  ['proxy server_error', { code: 200, flags: ['UT'], details: 'response_timeout', answered: true }],
  ['proxy server_error', { code: 200, flags: ['SI'], details: 'stream_idle_timeout', answered: true }],
  ['proxy server_error', { code: 200, flags: ['UMSDR'], details: 'upstream_max_stream_duration_reached' }],
  ['proxy server_error', { code: 200, details: 'max_duration_timeout', answered: true }],
  ['proxy server_error', { code: 200, flags: ['OM'], details: 'overload', answered: true }],
  ['client aborted', { code: 200, flags: ['DC'], details: 'downstream_remote_disconnect', answered: true }],
  ['client aborted', { code: 200, flags: ['DR'], details: 'http2.remote_reset', answered: true }],
  // No code: never a success.
  ['client aborted', { flags: ['DC'], details: 'downstream_remote_disconnect' }],
  ['client aborted', { flags: ['DR'], details: 'http2.remote_reset' }],
  ['client aborted', { code: 0 }],
  ['client aborted', {}],
  ['client aborted', { code: 499 }],
  ['proxy server_error', { flags: ['UF'] }],
  ['proxy client_error', { code: 0, flags: ['NR'], details: 'filter_chain_not_found' }],
  // gRPC: the status counts.
  ['upstream success', { code: 200, grpc: 0, details: 'via_upstream' }],
  ['upstream server_error', { code: 200, grpc: 14, details: 'via_upstream' }],
  ['upstream client_error', { code: 200, grpc: 5, details: 'via_upstream' }],
  ['upstream aborted', { code: 200, grpc: 1, details: 'via_upstream' }],
  ['upstream server_error', { code: 200, grpc: 99, details: 'via_upstream' }],
  ['proxy server_error', { code: 200, grpc: 14, flags: ['UH'], details: 'no_healthy_upstream' }],
  ['proxy server_error', { code: 200, flags: ['UH'], details: 'no_healthy_upstream' }],
  ['upstream server_error', { code: 200, grpc: 0, flags: ['UR'], details: `${AFTER}{remote_reset}` }],
  // Connections have no code.
  ['unknown unknown', { http: false }],
  ['proxy server_error', { http: false, flags: ['UF', 'URX'] }],
  ['proxy server_error', { http: false, flags: ['UH'] }],
  ['proxy client_error', { http: false, flags: ['NR'] }],
  ['proxy aborted', { http: false, flags: ['DT'] }],
  ['client aborted', { http: false, flags: ['DC'] }],
  // Starts and intervals are no answers.
  ['unfinished unknown', { finished: false, code: 200, details: 'via_upstream' }],
  ['unfinished unknown', { finished: false }],
]

test.each(CASES)('%s: %o', (expected, input) => {
  expect(judge(input)).toBe(expected)
})

test('a missing or 0 code is never a success, whatever else is said', () => {
  const details = ['', 'via_upstream', 'direct_response', 'response_timeout', `${AFTER}{x}`, 'http2.remote_reset']
  for (const code of [-1, 0]) {
    for (const flag of [undefined, ...FLAGS]) {
      for (const text of details) {
        for (const grpc of [-1, 0, 14]) {
          for (const http of [true, false]) {
            const input = { code, flags: flag === undefined ? [] : [flag], details: text, grpc, http }
            expect(judge(input), JSON.stringify(input)).not.toMatch(/ success$/)
          }
        }
      }
    }
  }
})

test('an answer that broke is never a success', () => {
  for (const flag of ['UPE', 'UR', 'UC', 'UF', 'UT', 'SI', 'UMSDR', 'DC', 'DR'] as const) {
    for (const details of ['', 'via_upstream', `${AFTER}{x}`]) {
      for (const grpc of [-1, 0]) {
        expect(judge({ code: 200, flags: [flag], details, grpc, answered: true }), `${flag} ${details}`).toMatch(
          /(server_error|aborted)$/,
        )
      }
    }
  }
})

test('details are told by their name; the particulars in braces and brackets do not count', () => {
  expect(detailsKind('')).toBe(DETAILS_NONE)
  expect(detailsKind('via_upstream')).toBe(DETAILS_UPSTREAM)
  expect(detailsKind('downstream_local_disconnect(idle_timeout)')).toBe(DETAILS_CUT)
  expect(detailsKind('via_upstream_or_so')).toBe(DETAILS_LOCAL)
  expect(detailsKind('constructor')).toBe(DETAILS_LOCAL)
  expect(detailsKind('drop_overload') & DETAILS_FLAGS).toBe(flagBit('DO'))
  expect(detailsKind('unconditional_drop_overload') & DETAILS_FLAGS).toBe(flagBit('UDO'))
})
