import type { RowColumns } from './row-columns.ts'

/**
 * gRPC messages of each row, from what Envoy's filter `grpc_stats` leaves in the filter state with `emit_filter_state` (as
 * Istio has it): `envoy.extensions.filters.http.grpc_stats.v3.FilterObject`. Null where no row of the batch has it; −1 in
 * rows that have not.
 */
export interface GrpcMessages {
  readonly requests: Float64Array
  readonly responses: Float64Array
}

const KEY = 'envoy.filters.http.grpc_stats'

export function grpcMessages(columns: RowColumns): GrpcMessages | null {
  const { filterState, rows } = columns
  const { keys, values, offsets, codes, valueCodes } = filterState
  if (filterState.count === 0 || values === null) return null
  let key = -1
  for (let code = 0; code < keys.count; code++) if (keys.text(code) === KEY) key = code
  if (key < 0) return null
  const counts = new Map<number, readonly [number, number] | null>()
  const requests = new Float64Array(rows).fill(-1)
  const responses = new Float64Array(rows).fill(-1)
  for (let row = 0; row < rows; row++) {
    for (let k = row === 0 ? 0 : offsets[2 * row - 2]!; k < offsets[2 * row]!; k++) {
      if (codes[k] !== key) continue
      const code = valueCodes[k]!
      let read = counts.get(code)
      if (read === undefined) {
        read = countsOf(values.text(code))
        counts.set(code, read)
      }
      if (read === null) continue
      requests[row] = read[0]
      responses[row] = read[1]
    }
  }
  return { requests, responses }
}

const NAMES = [
  ['request_message_count', 'requestMessageCount'],
  ['response_message_count', 'responseMessageCount'],
] as const

/** Of the JSON text of the object: its fields, or the serialized message where its type was not known. */
export function countsOf(json: string): readonly [requests: number, responses: number] | null {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    return null
  }
  // Its text, as `%FILTER_STATE(…:PLAIN)%` has it: both counts with a comma between them.
  const plain = typeof value === 'string' ? /^(\d{1,15}),(\d{1,15})$/.exec(value) : null
  if (plain !== null) return [Number(plain[1]), Number(plain[2])]
  if (typeof value !== 'object' || value === null) return null
  const fields = value as Readonly<Record<string, unknown>>
  const { value: bytes, '@type': type } = fields
  if (typeof bytes === 'string' && typeof type === 'string' && type.endsWith('.FilterObject')) {
    return messageCounts(Buffer.from(bytes, 'base64'))
  }
  const [requests, responses] = NAMES.map(([snake, camel]) => Number(fields[snake] ?? fields[camel] ?? 0))
  return isCount(requests!) && isCount(responses!) ? [requests!, responses!] : null
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

/** Fields 1 and 2, varints; null for anything that is not just these. */
function messageCounts(bytes: Uint8Array): readonly [number, number] | null {
  const counts: [number, number] = [0, 0]
  for (let at = 0; at < bytes.length; ) {
    const field = bytes[at++]
    let value = 0
    let scale = 1
    for (;;) {
      const byte = bytes[at++]
      if (byte === undefined || scale > 2 ** 49) return null
      value += (byte & 127) * scale
      if (byte < 128) break
      scale *= 128
    }
    if (field === 0x08) counts[0] = value
    else if (field === 0x10) counts[1] = value
    else return null
  }
  return counts.every(isCount) ? counts : null
}
