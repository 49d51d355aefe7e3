import { type Layer, layer } from './envelope.ts'
import { parseInstant } from './time.ts'

/**
 * The head that container runtimes put before each line (Kubernetes' Container Runtime Interface):
 * `2026-01-01T00:00:00.250000000Z stdout F line`. `P` instead of `F`: the line was longer than the runtime's buffer
 * (16 KiB) and goes on in the next entry of the same stream. Further tags may follow the first, after `:`.
 * https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
 */
const HEAD =
  /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])(?::[^ ]*)?(?: |$)/

export function cri(text: string): Layer | null {
  const match = HEAD.exec(text)
  if (match === null) return null
  const at = parseInstant(match[1]!)
  if (at === null) return null
  const found = layer(text.slice(match[0].length), null, at.seconds, at.nanos)
  found.part = match[3] === 'P' ? 'part' : 'end'
  found.stream = match[2]!
  return found
}
