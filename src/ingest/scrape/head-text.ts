import type { Label } from '../../metrics/store.ts'
import type { PageLimits, Rejection } from './page.ts'

/** Name and labels of a line, read once for each distinct head. */
export interface HeadText {
  readonly name: string
  readonly labels: Label[]
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/
const LABEL_NAME = /[a-zA-Z_][a-zA-Z0-9_]*/y
/** A quoted text: in it `\\`, `\"` and `\n` stand for one character, and any other backslash for itself. */
const QUOTED = /"((?:[^"\\]|\\[\s\S])*)"/y
const BLANKS = /[ \t]*/y

/**
 * Reads `name{label="value",…}`, `name`, or, with a name that has other characters, `{"name",label="value"}`
 * (prometheus.io/docs/instrumenting/exposition_formats, .../instrumenting/escaping_schemes).
 */
export function readHead(text: string, limits: PageLimits): HeadText | Rejection {
  let name = NAME.exec(text)?.[0] ?? ''
  let at = skipBlanks(text, name.length)
  const labels: Label[] = []
  if (at === text.length) return name === '' ? 'name' : { name, labels }
  if (text[at] !== '{') return name === '' ? 'name' : 'syntax'
  at = skipBlanks(text, at + 1)
  while (text[at] !== '}') {
    let label: string
    let isQuoted = false
    if (text[at] === '"') {
      const quoted = match(QUOTED, text, at)
      if (quoted === null) return 'syntax'
      label = unescaped(quoted[1]!)
      isQuoted = true
      at += quoted[0].length
    } else {
      const plain = match(LABEL_NAME, text, at)
      if (plain === null) return 'syntax'
      label = plain[0]
      at += label.length
    }
    at = skipBlanks(text, at)
    if (text[at] === '=') {
      at = skipBlanks(text, at + 1)
      const value = match(QUOTED, text, at)
      if (value === null) return 'syntax'
      at = skipBlanks(text, at + value[0].length)
      const problem = addLabel(labels, label, unescaped(value[1]!), limits)
      if (problem !== null) return problem
    } else {
      // A quoted text alone is the name of the metric.
      if (!isQuoted || name !== '' || label === '') return 'syntax'
      name = label
    }
    if (text[at] === ',') at = skipBlanks(text, at + 1)
    else if (text[at] !== '}') return 'syntax'
  }
  if (at !== text.length - 1) return 'syntax'
  if (name === '' || name.length > limits.labelValueBytesMax) return 'name'
  return { name, labels }
}

/** Adds a label with its checks; an empty value is no label. */
export function addLabel(labels: Label[], name: string, value: string, limits: PageLimits): Rejection | null {
  if (name === '' || name === '__name__') return 'name'
  if (name.length > limits.labelNameBytesMax || value.length > limits.labelValueBytesMax) return 'label_length'
  for (const [known] of labels) if (known === name) return 'duplicate_label'
  if (value === '') return null
  if (labels.length >= limits.labelsMax) return 'labels_limit'
  labels.push([name, value])
  return null
}

function skipBlanks(text: string, at: number): number {
  BLANKS.lastIndex = at
  return at + BLANKS.exec(text)![0].length
}

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at
  return pattern.exec(text)
}

export function unescaped(text: string): string {
  if (!text.includes('\\')) return text
  return text.replace(/\\([\\"n])/g, (_, character: string) => (character === 'n' ? '\n' : character))
}
