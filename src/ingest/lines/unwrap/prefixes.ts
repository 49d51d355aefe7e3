import { type Layer, layer } from './envelope.ts'
import { parseInstant } from './time.ts'

/** `[pod/<pod>/<container>] line`: `kubectl logs --prefix`. */
const KUBECTL = /^\[pod\/([^/\]\s]+)\/([^\]\s]+)\] ?/

export function kubectl(text: string): Layer | null {
  const match = KUBECTL.exec(text)
  return match === null ? null : layer(text.slice(match[0].length), { pod: match[1]!, container: match[2]! })
}

/**
 * `<name> | line`: docker compose. The name is that of the container without its project: `envoy-1`, with version 1 of
 * compose `envoy_1`; the service is what stands before the number.
 */
const COMPOSE = /^([A-Za-z0-9][A-Za-z0-9_.-]*) *\| ?/

export function compose(text: string): Layer | null {
  const match = COMPOSE.exec(text)
  if (match === null) return null
  const container = match[1]!
  return layer(text.slice(match[0].length), { container, app: container.replace(/[-_]\d+$/, '') })
}

/**
 * `<pod> <container> line`: stern. Only where a line of a known kind follows, since any two words look like it; the
 * container is a DNS label, which an address is not.
 */
const STERN = /^([a-z0-9][a-z0-9.-]*) ([a-z][a-z0-9-]{0,62}) (?=\[\d{4}-|\[pod\/|\{"|ACCESS \[|\d{4}-\d\d-\d\dT)/

export function stern(text: string): Layer | null {
  const match = STERN.exec(text)
  return match === null ? null : layer(text.slice(match[0].length), { pod: match[1]!, container: match[2]! })
}

/**
 * `<RFC 3339> line`: `kubectl logs --timestamps`, `docker logs -t`, collectors. Where a level follows, the time is the
 * line's own (ztunnel, Istio's agent, Envoy in Istio's form) and stays.
 */
const TIMESTAMP =
  /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (?!\s*(?:trace|debug|info|warn|warning|error|critical|fatal)\s)/i

export function timestamp(text: string): Layer | null {
  const match = TIMESTAMP.exec(text)
  if (match === null) return null
  const at = parseInstant(match[1]!)
  return at === null ? null : layer(text.slice(match[0].length), null, at.seconds, at.nanos)
}

/** `ESC[…m`: colours, as terminals get them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: this is the character to be found.
const COLOURS = /\x1b\[[0-9;]*m/g

/**
 * Only lines that begin with a colour: a proxy does not write any, whoever printed the line did. One that merely
 * contains the bytes, in a header's value, is kept as it is.
 */
export function uncolour(text: string): string {
  return text.startsWith('\x1b[') ? text.replace(COLOURS, '') : text
}
