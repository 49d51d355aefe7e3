import type { LineCounters } from './batches.ts'
import type { Refusal, RefusalCode } from './validate.ts'

/** What the adapter counts of lines: made = sent + refused by the target + waiting; what we refuse was never made. */
export interface WavefrontCounters {
  readonly lines: LineCounters
  /** Refused here, by the code that a proxy would have given. */
  readonly refusedHere: Map<RefusalCode, number>
  refuse(refusal: Refusal): void
  flat(): Record<string, number>
}

export function createCounters(): WavefrontCounters {
  const lines: LineCounters = { sent: 0, refused: 0, bodies: 0, bytes: 0 }
  const refusedHere = new Map<RefusalCode, number>()
  return {
    lines,
    refusedHere,
    refuse({ code }) {
      refusedHere.set(code, (refusedHere.get(code) ?? 0) + 1)
    },
    flat: () => ({
      lines_sent_total: lines.sent,
      lines_refused_total: lines.refused,
      bodies_sent_total: lines.bodies,
      bytes_sent_total: lines.bytes,
      ...Object.fromEntries(
        [...refusedHere].map(([code, count]) => [`lines_invalid_${code.toLowerCase().replace('-', '_')}_total`, count]),
      ),
    }),
  }
}
