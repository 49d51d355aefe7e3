/**
 * Seven phases of one request: where its time went. They are ≥ 0 and add up to the duration exactly, because they are
 * differences of cuts that are taken in order and clamped into [previous cut, duration].
 *
 * Points are nanoseconds after the start, on one clock; a missing point means the thing never happened, so the time
 * belongs to what was being waited for. The rule stands twice, here and as SQL, and a test holds them against each other.
 */

export const PHASES = [
  'client_send',
  'proxy_request',
  'upstream_send',
  'upstream_wait',
  'proxy_response',
  'upstream_receive',
  'client_receive',
] as const
export type Phase = (typeof PHASES)[number]

/** Columns of the seven time points, in the order Envoy's `AccessLogCommon` has them (fields 6 to 12). */
export const POINTS = [
  't_rx_end',
  't_up_tx_begin',
  't_up_tx_end',
  't_up_rx_begin',
  't_up_rx_end',
  't_down_tx_begin',
  't_down_tx_end',
] as const
export type Point = (typeof POINTS)[number]

/** Bit of the response flag OM (overload manager): the answer was buffered towards a client that did not read. */
export const FLAG_OM_BIT = 25

/**
 * Writes the seven phases of one row, in ns, to `out[at … at + 6]`.
 *
 * Points are ns after start, −1 when missing; `duration` is ≥ 0; `buffered` is the flag OM.
 * Returns false, and writes zeros, when no point is known: such a row has no phases.
 */
export function phasesInto(
  out: Float64Array,
  at: number,
  rxEnd: number,
  upTxBegin: number,
  upTxEnd: number,
  upRxBegin: number,
  upRxEnd: number,
  downTxBegin: number,
  downTxEnd: number,
  duration: number,
  buffered: boolean,
): boolean {
  if (rxEnd < 0 && upTxBegin < 0 && upTxEnd < 0 && upRxBegin < 0 && upRxEnd < 0 && downTxBegin < 0 && downTxEnd < 0) {
    for (let k = 0; k < 7; k++) out[at + k] = 0
    return false
  }
  const end = downTxBegin < 0 ? duration : downTxBegin
  let cut: number
  if (rxEnd >= 0) cut = upTxBegin >= 0 && upTxBegin < rxEnd ? upTxBegin : rxEnd
  else if (upTxEnd < 0 && upRxBegin < 0) cut = end
  else cut = Math.max(upTxBegin, 0)
  if (cut > duration) cut = duration
  out[at] = cut

  let next = upTxBegin < 0 ? end : upTxBegin
  if (next > duration) next = duration
  if (next < cut) next = cut
  out[at + 1] = next - cut
  cut = next

  next = upTxEnd >= 0 ? upTxEnd : upRxBegin >= 0 ? 0 : end
  if (next > duration) next = duration
  if (next < cut) next = cut
  out[at + 2] = next - cut
  cut = next

  next = upRxBegin < 0 ? end : upRxBegin
  if (next > duration) next = duration
  if (next < cut) next = cut
  out[at + 3] = next - cut
  cut = next

  next = downTxBegin >= 0 ? downTxBegin : upRxBegin < 0 ? 0 : upRxEnd < 0 ? duration : upRxEnd
  if (next > duration) next = duration
  if (next < cut) next = cut
  out[at + 4] = next - cut
  cut = next

  next = upRxEnd >= 0 ? upRxEnd : upRxBegin < 0 || buffered ? 0 : duration
  if (next > duration) next = duration
  if (next < cut) next = cut
  out[at + 5] = next - cut
  out[at + 6] = duration - next
  return true
}

const D = 'duration_ns'
const END = `ifNull(t_down_tx_begin, ${D})`
const BUFFERED = `bitTest(response_flags, ${FLAG_OM_BIT})`
/** "No such cut": any value at or below the previous cut is clamped up to it, so zero serves. */
const NONE = 'toUInt64(0)'
const clamp = (previous: string, value: string): string => `least(${D}, greatest(${previous}, ${value}))`

/** Cuts as SQL over the stored columns; each names the one before it once, so that the expansion stays linear. */
export const CUT_SQL: Readonly<Record<string, string>> = {
  cut_1: `least(${D}, multiIf(isNotNull(t_rx_end), least(assumeNotNull(t_rx_end), ifNull(t_up_tx_begin, assumeNotNull(t_rx_end))), isNull(t_up_tx_end) AND isNull(t_up_rx_begin), ${END}, ifNull(t_up_tx_begin, ${NONE})))`,
  cut_2: clamp('cut_1', `ifNull(t_up_tx_begin, ${END})`),
  cut_3: clamp('cut_2', `ifNull(t_up_tx_end, if(isNotNull(t_up_rx_begin), ${NONE}, ${END}))`),
  cut_4: clamp('cut_3', `ifNull(t_up_rx_begin, ${END})`),
  cut_5: clamp('cut_4', `ifNull(t_down_tx_begin, if(isNull(t_up_rx_begin), ${NONE}, ifNull(t_up_rx_end, ${D})))`),
  cut_6: clamp('cut_5', `ifNull(t_up_rx_end, if(isNull(t_up_rx_begin) OR ${BUFFERED}, ${NONE}, ${D}))`),
}

/** True when a row has at least one point, and so has phases. */
export const PHASES_KNOWN_SQL = `NOT (${POINTS.map((point) => `isNull(${point})`).join(' AND ')})`

const difference = (low: string, high: string): string => (low === '' ? high : `${high} - ${low}`)

/** The seven phases as SQL over `CUT_SQL`'s columns; NULL where the row has no points. */
export const PHASE_SQL: Readonly<Record<Phase, string>> = Object.fromEntries(
  PHASES.map((phase, k) => {
    const low = k === 0 ? '' : `cut_${k}`
    const high = k === 6 ? D : `cut_${k + 1}`
    return [phase, `if(phases_known, ${difference(low, high)}, NULL)`]
  }),
) as Record<Phase, string>
