/**
 * JSON lines that look alike: objects with no object in them, and with the keys of an earlier line in the same order. One
 * regular expression, made of those keys, takes such a line apart in half the time that an object of it would take to
 * make, and leaves less behind.
 *
 * It takes what is certain and common alone. A line with a backslash, a number with an exponent, other keys or another
 * order is not of a layout, and is for whoever reads JSON as it is.
 */
export class FlatJson<Meaning> {
  readonly #meaningOf: (keys: readonly string[]) => Meaning | null
  /** The one that matched last first. */
  readonly #layouts: Layout<Meaning>[] = []
  #meaning: Meaning | null = null
  /** Lines to pass before one is looked at again, and how many there were to pass the last time. */
  #left = 0
  #pause = 1

  /** What keys mean; null: lines with these keys are not to be read this way. */
  constructor(meaningOf: (keys: readonly string[]) => Meaning | null) {
    this.#meaningOf = meaningOf
  }

  /** Of the keys of the line that was read last. */
  get meaning(): Meaning {
    return this.#meaning!
  }

  /** The values of a line: key k has its text at 2k + 1, or its number, `true` or `false` at 2k + 2, or is null. Null: of no layout. */
  read(line: string): FlatValues | null {
    const layouts = this.#layouts
    for (let k = 0; k < layouts.length; k++) {
      const layout = layouts[k]!
      const values = layout.pattern.exec(line)
      if (values === null) continue
      if (k > 0) {
        layouts.splice(k, 1)
        layouts.unshift(layout)
      }
      this.#meaning = layout.meaning
      return values
    }
    return null
  }

  /** A sound line that was of no layout: those that follow may be like it. Looks at ever fewer of them. */
  learn(line: string): void {
    if (this.#left-- > 0) return
    this.#left = this.#pause
    this.#pause = Math.min(2 * this.#pause, PAUSE_MAX)
    const found = keysOf(line)
    if (found === null) return
    const { keys, colon, comma } = found
    const source = `^\\{${keys.map((key) => `"${escaped(key)}"${colon}${VALUE}`).join(comma)}\\}$`
    if (this.#layouts.some(({ pattern }) => pattern.source === source)) return
    const meaning = this.#meaningOf(keys)
    if (meaning === null) return
    if (this.#layouts.length === LAYOUTS_MAX) this.#layouts.pop()
    this.#layouts.unshift({ pattern: new RegExp(source), meaning })
  }
}

export type FlatValues = readonly (string | undefined)[]

interface Layout<Meaning> {
  readonly pattern: RegExp
  readonly meaning: Meaning
}

/** Of requests and of connections, with and without what somebody left out. */
const LAYOUTS_MAX = 4
const KEYS_MAX = 96
const KEY_CHARS_MAX = 128
const LINE_CHARS_MAX = 64 << 10
/** A line in so many is looked at, of a source that has another layout each time. */
const PAUSE_MAX = 1024

/** A character of a text that is not escaped. */
const PLAIN = '[^"\\\\\\x00-\\x1f]'
/** No value can be taken apart in two ways, so that a line which does not match costs no more than one which does. */
const VALUE = `(?:"(${PLAIN}*)"|null|(-?(?:0|[1-9]\\d{0,14})(?:\\.\\d{1,15})?|true|false))`
/** A key with its value, whatever that is but an object or a list. */
const MEMBER = new RegExp(
  `"(${PLAIN}+)"(: ?)(?:"(?:${PLAIN}|\\\\.)*"|-?\\d[\\d.eE+-]*|true|false|null)(?:(, ?)(?=")|\\}$)`,
  'y',
)

function keysOf(line: string): { readonly keys: string[]; readonly colon: string; readonly comma: string } | null {
  if (!line.startsWith('{"') || line.length > LINE_CHARS_MAX) return null
  const keys = new Set<string>()
  let colon = ''
  let comma = ''
  MEMBER.lastIndex = 1
  for (let at = 1; at < line.length; at = MEMBER.lastIndex) {
    const member = MEMBER.exec(line)
    if (member === null) return null
    const [, key = '', colonHere = '', commaHere] = member
    if (colon !== '' && colonHere !== colon) return null
    colon = colonHere
    if (commaHere !== undefined) {
      if (comma !== '' && commaHere !== comma) return null
      comma = commaHere
    }
    // What an object would put elsewhere, once, or not at all.
    if (/^\d+$/.test(key) || key === '__proto__' || keys.has(key)) return null
    if (key.length > KEY_CHARS_MAX || keys.size === KEYS_MAX) return null
    keys.add(key)
  }
  return keys.size === 0 ? null : { keys: [...keys], colon, comma }
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
