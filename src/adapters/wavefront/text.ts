import { type Limits, STRICT_LIMITS, TAG_MAX } from './limits.ts'

/**
 * Texts of the line protocol: what they may be, how anything is made into that, and how they are quoted.
 *
 * The tokeniser of a proxy knows one escape inside quotes, a backslash before the same quote, and nothing else: no escaped
 * backslash, no `\n`. So a value that ends in a backslash would take the closing quote with it, and a line feed would end
 * the line. Both are replaced before anything is quoted.
 */

/** Of a tag, in order: of a repeated key the last one counts. */
export type Tags = readonly (readonly [key: string, value: string])[]

/** What stands for a character that cannot be sent, as in all SDKs. */
const REPLACEMENT = '-'
/** U+2206 INCREMENT or U+0394 GREEK CAPITAL LETTER DELTA before a name make a delta counter of it. */
export const DELTA = '\u2206'
const OTHER_DELTA = '\u0394'

/** Names and keys: `,-./0-9A-Za-z_`, and at the front `~` or a delta sign or both. */
const LEGAL_NAME = /^(?:[\u2206\u0394]~?|~)?[,-9A-Z_a-z]*$/
const ILLEGAL_CHARACTER = /[^,-9A-Z_a-z]/g
/** `Character.isWhitespace` of Java: not the same as `\s`. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: Java counts four of them as white space.
const JAVA_BLANK = /^[\t-\r\u001c-\u0020\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]*$/
/** Characters that no value needs, U+0004 among them, for which a proxy throws the line away. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what has to be found.
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\ud800-\udfff]|\\$/
/** Keys that a proxy takes for something else than a tag. */
const RESERVED = new Set(['source', 'host', 'tag'])
const RESERVED_OF_SPANS = new Set([...RESERVED, 'spanId', 'traceId', 'parent', 'followsFrom', '_spanLogs'])

export function isDeltaName(name: string): boolean {
  return name.startsWith(DELTA) || name.startsWith(OTHER_DELTA)
}

/** `Validation.charactersAreValid` of the proxy, which falls over a delta sign with nothing behind it. */
export function isLegalName(name: string): boolean {
  return name !== '' && name !== DELTA && name !== OTHER_DELTA && LEGAL_NAME.test(name)
}

/** Whether Java's `StringUtils.isBlank` holds: empty, or white space alone. */
export function isBlank(text: string): boolean {
  return JAVA_BLANK.test(text)
}

/** Any text as a metric name without a sign in front: legal, not empty, not longer than `max`. */
export function sanitiseName(text: string, max: number = STRICT_LIMITS.metricName): string {
  const name = text.replace(ILLEGAL_CHARACTER, REPLACEMENT).slice(0, max)
  return name === '' ? REPLACEMENT : name
}

/** Any text as the key of a point tag. */
export function sanitiseKey(text: string, limits: Limits = STRICT_LIMITS): string {
  const key = sanitiseName(text, limits.tagKey)
  return RESERVED.has(key) ? `_${key}`.slice(0, limits.tagKey) : key
}

/** Any text as the key of a span tag. A key of digits alone would be read as the start of the span. */
export function sanitiseSpanKey(text: string, limits: Limits = STRICT_LIMITS): string {
  const key = sanitiseName(text, limits.spanTagKey)
  return RESERVED_OF_SPANS.has(key) || /^\d+$/.test(key) ? `_${key}`.slice(0, limits.spanTagKey) : key
}

/** Any text as a value of at most `max` units; '' when nothing is left of it. */
export function sanitiseValue(text: string, max: number): string {
  let value = text.trim()
  if (UNSAFE.test(value)) {
    value = value
      .replaceAll('\n', '\\n')
      .replaceAll('\r', '\\r')
      .replaceAll('\t', '\\t')
      .replace(CONTROL, REPLACEMENT)
      .toWellFormed()
  }
  if (value.length > max) value = cut(value, max).trimEnd()
  return value.endsWith('\\') ? value.slice(0, -1) + REPLACEMENT : value
}

export function sanitiseSource(text: string, limits: Limits = STRICT_LIMITS): string {
  return sanitiseValue(text, limits.source)
}

/** Name of a span: anything but `*`. */
export function sanitiseSpanName(text: string, limits: Limits = STRICT_LIMITS): string {
  return sanitiseValue(text.replaceAll('*', REPLACEMENT), limits.spanName) || REPLACEMENT
}

/** Tags that a proxy takes, without those whose value is blank, and without those past the limit. */
export function sanitiseTags(tags: Tags, limits: Limits = STRICT_LIMITS): Tags {
  const clean = new Map<string, string>()
  for (const [rawKey, rawValue] of tags) {
    const key = sanitiseKey(rawKey, limits)
    const value = sanitiseValue(rawValue, Math.min(limits.tagValue, TAG_MAX - key.length))
    if (value !== '' && (clean.has(key) || clean.size < limits.tags)) clean.set(key, value)
  }
  return [...clean]
}

/** The same for a span, whose tags may repeat. */
export function sanitiseSpanTags(tags: Tags, limits: Limits = STRICT_LIMITS): Tags {
  const clean: [string, string][] = []
  for (const [rawKey, rawValue] of tags) {
    if (clean.length === limits.spanTags) break
    const value = sanitiseValue(rawValue, limits.spanTagValue)
    if (value !== '') clean.push([sanitiseSpanKey(rawKey, limits), value])
  }
  return clean
}

export function quote(text: string): string {
  return `"${text.includes('"') ? text.replaceAll('"', '\\"') : text}"`
}

/** At most `max` units, and no half of a pair of surrogates at the end. */
function cut(text: string, max: number): string {
  const last = text.charCodeAt(max - 1)
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? max - 1 : max)
}
