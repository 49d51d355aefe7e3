import { type Layer, layer } from './envelope.ts'
import { parseInstant } from './time.ts'

/**
 * The head that container runtimes put before each line (Kubernetes' Container Runtime Interface):
 * `2026-01-01T00:00:00.250000000Z stdout F line`. `P` instead of `F`: the line was longer than the runtime's buffer
 * (16 KiB) and goes on in the next entry of the same stream. Further tags may follow the first, after `:`.
 * https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
 */
export function cri(text: string): Layer | null {
  const space = text.indexOf(' ')
  // From `2026-01-01T00:00:00Z` to nine digits and a zone.
  if (space < 20 || space > 35 || text.charCodeAt(space + 7) !== SPACE) return null
  const stream = text.startsWith('stdout', space + 1) ? 'stdout' : text.startsWith('stderr', space + 1) ? 'stderr' : ''
  const tag = text.charCodeAt(space + 8)
  if (stream === '' || (tag !== FULL && tag !== PARTIAL)) return null
  let end = space + 9
  if (text.charCodeAt(end) === COLON) {
    end = text.indexOf(' ', end)
    if (end < 0) end = text.length
  } else if (end < text.length && text.charCodeAt(end) !== SPACE) return null
  const at = parseInstant(text.slice(0, space))
  if (at === null) return null
  const found = layer(text.slice(end + 1), null, at.seconds, at.nanos)
  found.part = tag === PARTIAL ? 'part' : 'end'
  found.stream = stream
  return found
}

const SPACE = 0x20
const COLON = 0x3a
const FULL = 0x46
const PARTIAL = 0x50
