import { compileFieldMap } from './fields.ts'
import { type FormatError, isFormatError } from './grammar.ts'
import { compileJsonFormat, type JsonFormat } from './json.ts'
import { compileTextFormat, type FormatParser, type TextFormatOptions } from './text.ts'

/**
 * A parser from whatever a format is configured with: a format string; Envoy's `SubstitutionFormatString`
 * (`text_format_source`, `text_format`, `json_format`) and the older fields of its file logger (`format`, `json_format`,
 * `typed_json_format`, `log_format`); Istio's `accessLogFormat` with `accessLogEncoding`, where the format of JSON is
 * itself the text of a JSON object. Keys are read in snake and in camel case. `{ field_map: { key: meaning } }`, also as
 * text, is for JSON lines that no format of Envoy's made.
 */
export function compileFormat(given: unknown, options: TextFormatOptions = {}): FormatParser | FormatError {
  if (typeof given === 'string') return compileString(given, options)
  if (!isObject(given)) return { error: 'a format is a text or an object' }
  const fields = pick(given, ['field_map', 'fieldMap'])
  if (fields !== undefined) return compileFields(fields, options)
  const inner = pick(given, ['log_format', 'logFormat'])
  if (inner !== undefined) return compileFormat(inner, options)
  const json = pick(given, ['json_format', 'jsonFormat', 'typed_json_format', 'typedJsonFormat'])
  if (json !== undefined) {
    return isObject(json) ? compileJsonFormat(json as JsonFormat, options) : { error: 'json_format is not an object' }
  }
  const source = pick(given, ['text_format_source', 'textFormatSource'])
  if (isObject(source)) {
    const inline = pick(source, ['inline_string', 'inlineString'])
    if (typeof inline === 'string') return compileTextFormat(inline, options)
    return { error: 'text_format_source has no inline_string' }
  }
  const text = pick(given, ['text_format', 'textFormat', 'format'])
  if (typeof text === 'string') return compileTextFormat(text, options)
  const istio = pick(given, ['accessLogFormat', 'access_log_format'])
  if (typeof istio === 'string') {
    const encoding = pick(given, ['accessLogEncoding', 'access_log_encoding'])
    return encoding === 'TEXT' ? compileTextFormat(istio, options) : compileString(istio, options)
  }
  return { error: 'no text_format_source, text_format, json_format, format or accessLogFormat in the format' }
}

/** A text that is a JSON object is the format of JSON lines, as in Istio's configuration. */
function compileString(format: string, options: TextFormatOptions): FormatParser | FormatError {
  if (!format.trimStart().startsWith('{')) return compileTextFormat(format, options)
  let parsed: unknown
  try {
    parsed = JSON.parse(format)
  } catch {
    return compileTextFormat(format, options)
  }
  if (!isObject(parsed)) return compileTextFormat(format, options)
  if (isObject(parsed.field_map) && Object.keys(parsed).length === 1) return compileFields(parsed.field_map, options)
  return compileJsonFormat(parsed as JsonFormat, options)
}

function compileFields(fields: unknown, options: TextFormatOptions): FormatParser | FormatError {
  if (!isObject(fields)) return { error: 'field_map is not an object' }
  const texts: Record<string, string> = {}
  for (const [key, meaning] of Object.entries(fields)) {
    if (typeof meaning !== 'string') return { error: `field_map: ${key} is not a text` }
    texts[key] = meaning
  }
  return compileFieldMap({ ...options, fields: texts })
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function pick(object: Readonly<Record<string, unknown>>, names: readonly string[]): unknown {
  for (const name of names) if (object[name] !== undefined && object[name] !== null) return object[name]
  return undefined
}

export { type FormatError, type FormatParser, isFormatError }
