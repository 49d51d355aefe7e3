import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { type Document, isMap, isPair, isScalar, LineCounter, parseDocument, parse as parseYaml } from 'yaml'
import { otlpFaults } from './adapters/otlp/faults.ts'
import { checkSafety } from './config-safety.ts'
import { type Config, configSchema } from './config-schema.ts'
import { type ErrorCode, SidecastError } from './errors.ts'
import { nearest } from './lib/nearest.ts'
import { parseAddress, parseBytes, parseDuration } from './lib/units.ts'

export type { Config } from './config-schema.ts'

/** One thing wrong or worth a look, with the place a person can open in an editor. */
export interface Finding {
  readonly severity: 'error' | 'warning'
  readonly code: ErrorCode
  /** `file:line:column`, or the option that brought the value. */
  readonly place: string
  readonly path: string
  readonly message: string
  readonly help: string
  /** The source line and a caret under the place; absent for options. */
  readonly excerpt?: string
}

export interface ConfigInput {
  /** Path of a YAML file; without it the defaults are a working set-up. */
  readonly file?: string
  /** `a.b.c=value`, value as YAML; later ones win. */
  readonly set?: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface LoadedConfig {
  readonly config: Config
  readonly findings: readonly Finding[]
}

/**
 * Reads, checks and completes the configuration. Never throws for bad input: every error of one run is in `findings`,
 * and `config` is only to be used when none of them is an error.
 */
export function loadConfig(input: ConfigInput): LoadedConfig {
  const findings: Finding[] = []
  const source = input.file === undefined ? emptySource() : readSource(input.file, findings)
  const values = substitute(source.value, input, findings, source) as Record<string, unknown>
  const fromOption = new Map<string, string>()
  for (const option of input.set ?? []) applyOption(values, option, fromOption, findings)

  const place = (path: readonly string[], key: boolean): Pick<Finding, 'place' | 'excerpt'> => {
    for (let n = path.length; n > 0; n--) {
      const option = fromOption.get(path.slice(0, n).join('.'))
      if (option !== undefined) return { place: `--set ${option}` }
    }
    // A whole part that an option reached into: name the option rather than a nearby line of the file.
    for (const [target, option] of fromOption) {
      if (target.startsWith(`${path.join('.')}.`)) return { place: `--set ${option}` }
    }
    return source.place(path, key)
  }
  check(configSchema as unknown as Schema, values, [], place, findings)
  const config = complete(configSchema as unknown as Schema, values) as Config
  if (!findings.some((finding) => finding.severity === 'error')) checkTogether(config, place, findings)
  return { config: freeze(config), findings }
}

/** Findings as text for a terminal, errors and warnings in the order of the file, and a closing line. */
export function formatFindings(findings: readonly Finding[]): string {
  const blocks = findings.map((finding) =>
    [
      `${finding.place}  ${finding.severity} ${finding.code}  ${finding.message}`,
      ...(finding.excerpt === undefined ? [] : [finding.excerpt]),
      `  help: ${finding.help}`,
    ].join('\n'),
  )
  const errors = findings.filter((finding) => finding.severity === 'error').length
  const warnings = findings.length - errors
  const count = (n: number, word: string) => `${n} ${word}${n === 1 ? '' : 's'}`
  return `${blocks.join('\n')}\n${count(errors, 'error')}, ${count(warnings, 'warning')}.\n`
}

// ---- reading

interface Source {
  readonly value: Record<string, unknown>
  place(path: readonly string[], key: boolean): Pick<Finding, 'place' | 'excerpt'>
}

const emptySource = (): Source => ({ value: {}, place: () => ({ place: 'defaults' }) })

function readSource(file: string, findings: Finding[]): Source {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    findings.push({
      severity: 'error',
      code: 'SC1201',
      place: file,
      path: '',
      message: `cannot be read: ${(cause as NodeJS.ErrnoException).code ?? String(cause)}`,
      help: 'give the path of a readable YAML file to --config',
    })
    return emptySource()
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const textLines = text.split('\n')
  const at = (offset: number): Pick<Finding, 'place' | 'excerpt'> => {
    const { line, col } = lines.linePos(offset)
    const shown = textLines[line - 1] ?? ''
    const number = String(line).padStart(4)
    return {
      place: `${file}:${line}:${col}`,
      excerpt: `${number} │ ${shown}\n     │ ${' '.repeat(Math.max(0, col - 1))}^`,
    }
  }
  for (const error of document.errors) {
    findings.push({
      severity: 'error',
      code: 'SC1202',
      ...at(error.pos[0]),
      path: '',
      message: error.message.split('\n')[0]!,
      help: error.code === 'TAB_AS_INDENT' ? 'indent with spaces, not tabs' : 'correct the YAML at this place',
    })
  }
  const place = (path: readonly string[], key: boolean) => {
    const offset = offsetOf(document, path, key)
    return offset === undefined ? { place: file } : at(offset)
  }
  const value: unknown = document.errors.length > 0 ? {} : (document.toJS() ?? {})
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    findings.push({
      severity: 'error',
      code: 'SC1205',
      ...at(0),
      path: '',
      message: `the file holds ${describe(value)}, not a set of keys`,
      help: 'start with a key such as `data: ./sidecast-data`',
    })
    return { value: {}, place }
  }
  return { value: value as Record<string, unknown>, place }
}

/** Offset of a key, or of its value, in the document; of the nearest parent that is there when it is not. */
function offsetOf(document: Document, path: readonly string[], key: boolean): number | undefined {
  let node: unknown = document.contents
  let offset: number | undefined
  for (const [depth, name] of path.entries()) {
    if (!isMap(node)) {
      const item = (node as { get?(k: number, keep: true): unknown } | null)?.get?.(Number(name), true)
      if (item === undefined) break
      node = item
    } else {
      const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === name)
      if (pair === undefined) break
      const keyNode = pair.key as { range?: [number, number, number] }
      offset = keyNode.range?.[0] ?? offset
      node = pair.value
      if (depth === path.length - 1 && key) return offset
    }
    offset = (node as { range?: [number, number, number] } | null)?.range?.[0] ?? offset
  }
  return offset
}

/** Replaces `${NAME}`, `${NAME:-default}` and `${file:PATH}` in text values; PATH is relative to the file it stands in. */
function substitute(value: unknown, input: ConfigInput, findings: Finding[], source: Source): unknown {
  const walk = (value: unknown, path: readonly string[]): unknown => {
    if (typeof value === 'string') {
      return value.replace(/\$\{([^}]*)\}/g, (whole, inner: string) => {
        const fail = (message: string, help: string) => {
          findings.push({
            severity: 'error',
            code: 'SC1205',
            ...source.place(path, false),
            path: path.join('.'),
            message,
            help,
          })
          return whole
        }
        if (inner.startsWith('file:')) {
          const file = resolve(input.file === undefined ? '.' : dirname(input.file), inner.slice(5))
          try {
            return readFileSync(file, 'utf8').replace(/\r?\n$/, '')
          } catch (cause) {
            return fail(`${whole} cannot be read: ${(cause as NodeJS.ErrnoException).code}`, 'name a readable file')
          }
        }
        const [name, fallback] = splitOnce(inner, ':-')
        return (
          input.env[name] ??
          fallback ??
          fail(`${whole} is not set in the environment`, `set ${name}, or write \${${name}:-default}`)
        )
      })
    }
    if (Array.isArray(value)) return value.map((item, k) => walk(item, [...path, String(k)]))
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, walk(item, [...path, key])]))
    }
    return value
  }
  return walk(value, [])
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)]
}

function applyOption(
  values: Record<string, unknown>,
  option: string,
  fromOption: Map<string, string>,
  findings: Finding[],
): void {
  const [path, text] = splitOnce(option, '=')
  const keys = path.split('.')
  const fail = (message: string, help: string) =>
    findings.push({ severity: 'error', code: 'SC1206', place: `--set ${option}`, path, message, help })
  if (text === undefined || keys.some((key) => key === '' || key === '__proto__')) {
    fail('is not of the form path=value', 'write for example --set http.listen=127.0.0.1:8081')
    return
  }
  let value: unknown
  try {
    value = parseYaml(text)
  } catch (cause) {
    fail(`the value is not YAML: ${(cause as Error).message.split('\n')[0]}`, 'quote the value')
    return
  }
  let parent = values
  for (const key of keys.slice(0, -1)) {
    const child = parent[key]
    if (typeof child !== 'object' || child === null || Array.isArray(child)) parent[key] = {}
    parent = parent[key] as Record<string, unknown>
  }
  parent[keys.at(-1)!] = value
  fromOption.set(path, option)
}

// ---- completing

/** The value with every default that it lacks. What was found wrong stays as it is. */
function complete(schema: Schema, value: unknown): unknown {
  if (schema.properties !== undefined) {
    const given = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
    const completed = Object.entries(schema.properties).map(
      ([key, child]) => [key, complete(child, given[key])] as const,
    )
    return Object.fromEntries(completed.filter(([, item]) => item !== undefined))
  }
  if (schema.items !== undefined && Array.isArray(value)) return value.map((item) => complete(schema.items!, item))
  return value ?? structuredClone(schema.default)
}

// ---- checking

interface Schema {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  /** Of a map: any key, values of one schema. */
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly anyOf?: readonly { readonly const: unknown }[]
  readonly format?: string
  readonly pattern?: string
  readonly minLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly default?: unknown
  readonly secret?: boolean
}
type Place = (path: readonly string[], key: boolean) => Pick<Finding, 'place' | 'excerpt'>

const FORMATS: Readonly<Record<string, { parse(text: string): unknown; example: string }>> = {
  address: { parse: parseAddress, example: 'host:port, for example 127.0.0.1:8080 (port 0: any free port)' },
  listener: {
    parse: (text) => (text === '' ? OFF : parseAddress(text)),
    example: 'host:port, for example 127.0.0.1:8080 (port 0: any free port), or "" for none',
  },
  regex: { parse: parseRegex, example: 'a JavaScript regular expression' },
  duration: { parse: parseDuration, example: 'a duration, for example 30s, 5m, 1h30m, 7d' },
  size: { parse: parseBytes, example: 'a size, for example 64 MiB, 10GB' },
}

const OFF = {}

function parseRegex(text: string): RegExp | null {
  try {
    return new RegExp(text, 'u')
  } catch {
    return null
  }
}

function check(schema: Schema, value: unknown, path: readonly string[], place: Place, findings: Finding[]): void {
  const dotted = path.join('.')
  const wrong = (message: string, help: string) =>
    findings.push({ severity: 'error', code: 'SC1205', ...place(path, false), path: dotted, message, help })
  const shown = schema.secret === true ? 'the value' : describe(value)
  if (schema.properties !== undefined) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      if (value !== null) wrong(`\`${dotted}\` is ${shown}, not a set of keys`, `put its keys under \`${dotted}:\``)
      return
    }
    for (const [key, item] of Object.entries(value)) {
      const known = schema.properties[key]
      if (known !== undefined) check(known, item, [...path, key], place, findings)
      else findings.push(unknownKey([...path, key], schema, place))
    }
  } else if (schema.patternProperties !== undefined) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      if (value !== null) wrong(`\`${dotted}\` is ${shown}, not a set of keys`, `put its keys under \`${dotted}:\``)
      return
    }
    const [item] = Object.values(schema.patternProperties)
    for (const [key, child] of Object.entries(value)) check(item!, child, [...path, key], place, findings)
  } else if (schema.anyOf !== undefined) {
    const allowed = schema.anyOf.map((option) => option.const)
    if (!allowed.includes(value)) wrong(`\`${dotted}\` is ${shown}`, `use one of ${allowed.join(', ')}`)
  } else if (schema.type === 'string') {
    const format = schema.format === undefined ? undefined : FORMATS[schema.format]
    if (typeof value !== 'string' && !(format !== undefined && typeof value === 'number')) {
      wrong(`\`${dotted}\` is ${shown}, not text`, format === undefined ? 'quote the value' : `write ${format.example}`)
    } else if (format !== undefined && format.parse(String(value)) === null) {
      wrong(`\`${dotted}\` is ${shown}`, `write ${format.example}`)
    } else if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(String(value))) {
      wrong(`\`${dotted}\` is ${shown}`, `it must match ${schema.pattern}`)
    } else if (schema.minLength !== undefined && String(value).length < schema.minLength) {
      wrong(`\`${dotted}\` is empty`, 'give a value, or leave the key out for the default')
    }
  } else if (schema.type === 'integer') {
    const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = schema
    if (!Number.isInteger(value) || (value as number) < minimum || (value as number) > maximum) {
      wrong(
        `\`${dotted}\` is ${shown}`,
        minimum === maximum ? `it must be ${minimum}` : `write a whole number from ${minimum} to ${maximum}`,
      )
    }
  } else if (schema.type === 'number') {
    const { minimum = -Number.MAX_VALUE, maximum = Number.MAX_VALUE } = schema
    if (typeof value !== 'number' || !(value >= minimum && value <= maximum)) {
      wrong(`\`${dotted}\` is ${shown}`, `write a number from ${minimum} to ${maximum}`)
    }
  } else if (schema.type === 'boolean') {
    if (typeof value !== 'boolean') wrong(`\`${dotted}\` is ${shown}`, 'write true or false')
  } else if (schema.type === 'array') {
    if (!Array.isArray(value))
      wrong(`\`${dotted}\` is ${shown}, not a list`, `write [a, b], or lines that start with -`)
    else for (const [k, item] of value.entries()) check(schema.items!, item, [...path, String(k)], place, findings)
  }
}

function unknownKey(path: readonly string[], parent: Schema, place: Place): Finding {
  const key = path.at(-1)!
  const under = path.slice(0, -1).join('.')
  const guess = nearest(key, Object.keys(parent.properties!))
  const elsewhere = guess === undefined ? pathOfKey(configSchema as unknown as Schema, key, []) : undefined
  return {
    severity: 'error',
    code: 'SC1204',
    ...place(path, true),
    path: path.join('.'),
    message: `unknown key \`${path.join('.')}\``,
    help:
      guess !== undefined
        ? `did you mean \`${[under, guess].filter(Boolean).join('.')}\`?`
        : elsewhere !== undefined
          ? `it belongs to \`${elsewhere}\``
          : `keys here are ${Object.keys(parent.properties!).join(', ')}`,
  }
}

function pathOfKey(schema: Schema, key: string, path: readonly string[]): string | undefined {
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    if (name === key) return [...path, name].join('.')
    const found = pathOfKey(child, key, [...path, name])
    if (found !== undefined) return found
  }
  return undefined
}

/** Rules that look at several values. */
function checkTogether(config: Config, place: Place, findings: Finding[]): void {
  findings.push(...checkSafety(config, place))
  if (config.workers > 1) {
    findings.push({
      severity: 'warning',
      code: 'SC2101',
      ...place(['workers'], false),
      path: 'workers',
      message: `workers is ${config.workers}; this version ingests on one thread`,
      help: 'leave it at 1',
    })
  }
  for (const { path, message, help } of otlpFaults(config.adapters.otlp, config.ingest.grpc.listen)) {
    const at = ['adapters', 'otlp', ...path]
    findings.push({ severity: 'error', code: 'SC1205', ...place(at, false), path: at.join('.'), message, help })
  }
  const url = config.store.clickhouse.url
  if (url !== '' && !url.split(',').every((one) => /^https?:\/\/[^\s/]+/.test(one.trim()))) {
    findings.push({
      severity: 'error',
      code: 'SC1205',
      ...place(['store', 'clickhouse', 'url'], false),
      path: 'store.clickhouse.url',
      message: `\`store.clickhouse.url\` is ${JSON.stringify(url)}`,
      help: 'write http://host:8123 or https://host:8443, or leave it empty for the embedded engine',
    })
  }
}

/** The configuration as it may be shown: secrets that are set become `***`. */
export function withoutSecrets(config: Config): unknown {
  const walk = (schema: Schema | undefined, value: unknown): unknown => {
    if (schema?.secret === true && typeof value !== 'object') return value === '' ? '' : '***'
    // Headers have names that may be shown.
    if (schema?.secret === true) return Object.fromEntries(Object.keys(value ?? {}).map((key) => [key, '***']))
    if (Array.isArray(value)) return value.map((item) => walk(schema?.items, item))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, walk(schema?.properties?.[key], item)]))
  }
  return walk(configSchema as unknown as Schema, config)
}

/** Whether the value at a path must not be shown. */
export function isSecret(path: readonly string[]): boolean {
  let schema: Schema | undefined = configSchema as unknown as Schema
  for (const key of path) {
    schema = schema?.properties?.[key] ?? Object.values(schema?.patternProperties ?? {})[0]
    if (schema?.secret === true) return true
  }
  return false
}

function describe(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a set of keys'
  return JSON.stringify(value)
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const child of Object.values(value)) freeze(child)
  return Object.freeze(value)
}

/** The configuration of a command line or throws `SidecastError` with all findings as its message. */
export function requireConfig(input: ConfigInput): LoadedConfig {
  const loaded = loadConfig(input)
  const errors = loaded.findings.filter((finding) => finding.severity === 'error')
  if (errors.length > 0) {
    throw new SidecastError(errors[0]!.code, `${formatFindings(loaded.findings).trimEnd()} Not started.`)
  }
  return loaded
}
