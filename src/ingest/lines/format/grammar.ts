/**
 * Envoy's format strings: literal text and command operators, `%NAME%`, `%NAME(parameters)%`, `%NAME(parameters):max%`;
 * `%%` is a percent sign. Parameters run to the first `)` that ends an operator, so they may hold `)` themselves, as
 * CEL expressions do. (Envoy, `substitution_formatter.cc`; docs, "Substitution Formatter".)
 */
export interface Operator {
  readonly name: string
  /** What stands between the brackets; '' when there are none or nothing. */
  readonly parameters: string
  /** Characters that are left of the value; 0: all. */
  readonly lengthMax: number
  /** As it stands in the format, without the percent signs. */
  readonly text: string
}

export type FormatPart = string | Operator

export interface FormatError {
  readonly error: string
}

const OPERATOR = /%([A-Z][A-Z0-9_]*)(?:\((.*?)\))?(?::(\d{1,9}))?%/sy
/** Longer formats, or with more operators, are nobody's. */
const FORMAT_MAX = 64 << 10
const OPERATORS_MAX = 512

/** The parts of a format, no two literals in a row. */
export function parseFormat(format: string): readonly FormatPart[] | FormatError {
  if (format.length > FORMAT_MAX) return { error: `the format is longer than ${FORMAT_MAX} characters` }
  const parts: FormatPart[] = []
  let literal = ''
  let operators = 0
  for (let at = 0; at < format.length; ) {
    const percent = format.indexOf('%', at)
    if (percent < 0) {
      literal += format.slice(at)
      break
    }
    literal += format.slice(at, percent)
    if (format[percent + 1] === '%') {
      literal += '%'
      at = percent + 2
      continue
    }
    OPERATOR.lastIndex = percent
    const match = OPERATOR.exec(format)
    if (match === null) return { error: `no operator at character ${percent}: ${excerpt(format, percent)}` }
    if (++operators > OPERATORS_MAX) return { error: `more than ${OPERATORS_MAX} operators` }
    if (literal !== '') parts.push(literal)
    literal = ''
    const [text, name = '', parameters = '', length = ''] = match
    parts.push({ name, parameters, lengthMax: Number(length), text: text.slice(1, -1) })
    at = OPERATOR.lastIndex
  }
  if (literal !== '') parts.push(literal)
  return parts
}

export function isFormatError(value: object): value is FormatError {
  return 'error' in value
}

function excerpt(text: string, at: number): string {
  return JSON.stringify(text.slice(at, at + 24))
}
