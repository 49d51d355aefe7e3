import { HEADER_ADDRESS, HEADER_SECRET, HEADER_URL, PATH_RULE_ROOM, type Redaction } from '../../pipeline/redact.ts'

/** Attributes of spans without what must not reach a disk: the rules are those of requests, the names those of OTLP. */
export type AttributeRedaction = (name: string, value: string) => string

const ADDRESSES = new Set([
  'client.address',
  'http.client_ip',
  'net.peer.ip',
  'net.sock.peer.addr',
  'network.peer.address',
  'peer.address',
  'source.address',
])
const HEADER_PREFIX = /^(?:http\.)?(?:request|response)[._](?:headers?|trailers?)\./

export function createAttributeRedaction(redaction: Redaction): AttributeRedaction {
  let input = Buffer.alloc(0)
  let output = Buffer.alloc(0)
  const rewritten = (value: string, rewrite: 'url' | 'addresses'): string => {
    const length = Buffer.byteLength(value)
    if (input.length < length) {
      input = Buffer.allocUnsafeSlow(2 * length)
      output = Buffer.allocUnsafeSlow(4 * length + PATH_RULE_ROOM)
    }
    input.write(value, 0, 'utf8')
    return output.toString('utf8', 0, redaction[rewrite](input, 0, length, output))
  }
  return (name, value) => {
    if (value === '') return value
    const kind = redaction.header(name.replace(HEADER_PREFIX, ''))
    if (kind === HEADER_SECRET) return '*'
    if (name === 'url.query') return rewritten(`?${value.replace(/^\?/, '')}`, 'url').slice(1)
    if (kind === HEADER_URL || isUrl(value, redaction.plainUrlsPass)) return rewritten(value, 'url')
    if (kind === HEADER_ADDRESS || (redaction.maskAddresses && ADDRESSES.has(name)))
      return rewritten(value, 'addresses')
    return value
  }
}

/** Whether it may hold a query: whatever the attribute is called, what looks like one is treated as one. */
function isUrl(value: string, plainPass: boolean): boolean {
  if (value.startsWith('/') || /^[a-z][a-z0-9+.-]*:\/\//i.test(value)) return !plainPass || /[?#]/.test(value)
  return /\?[^ ]*=/.test(value)
}
