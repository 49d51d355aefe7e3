import type { LiveRedaction } from '../../pipeline/live-redaction.ts'
import type { Redaction } from '../../pipeline/redact.ts'
import type { AlsDecoder } from './decode.ts'

/**
 * A decoder that is made anew when other redaction rules count: it has them compiled in, which is what makes it fast.
 * One more call for each message. A message that was left half-way is gone on with by the new one, at the same entry.
 */
export function createLiveDecoder(redaction: LiveRedaction, make: (redaction: Redaction) => AlsDecoder): AlsDecoder {
  let current = make(redaction.current)
  redaction.onReplaced(() => {
    current = make(redaction.current)
  })
  return {
    decode: (bytes, start, end, stream, receivedMs, from) =>
      current.decode(bytes, start, end, stream, receivedMs, from),
  }
}
