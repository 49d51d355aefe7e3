import { spawn } from 'node:child_process'
import { StringDecoder } from 'node:string_decoder'
import { java, wavefrontParser } from '../programs.ts'

/** Wavefront's own parsers and validators, held open: one answer for each line. */
export interface WavefrontParser {
  parse(kind: ParsedKind, line: string, limits?: 'hosted' | 'proxy'): Promise<Parsed>
  stop(): Promise<void>
}

export type ParsedKind = 'metric' | 'histogram' | 'span' | 'spanLogs'

/** What was understood, or `error`; a key is there where its kind has it. */
export interface Parsed {
  readonly error?: string
  readonly type?: string
  readonly name?: string
  readonly value?: number | string
  readonly timestampMs?: number
  readonly binMs?: number
  readonly counts?: readonly number[]
  readonly means?: readonly number[]
  readonly source?: string
  readonly tags?: readonly (readonly [string, string])[]
  readonly traceId?: string
  readonly spanId?: string
  readonly startMs?: number
  readonly durationMs?: number
  readonly span?: string | null
  readonly logs?: readonly { readonly timeUs: number; readonly fields: Readonly<Record<string, string>> }[]
}

const LETTERS: Readonly<Record<ParsedKind, string>> = { metric: 'm', histogram: 'h', span: 't', spanLogs: 'l' }

export async function startWavefrontParser(): Promise<WavefrontParser> {
  const [jvm, classPath] = [await java(), await wavefrontParser()]
  const options = ['-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', classPath, 'Parse']
  const child = spawn(jvm, options, { stdio: ['pipe', 'pipe', 'inherit'] })
  const waiting: { resolve: (parsed: Parsed) => void; reject: (error: Error) => void }[] = []
  // Lines end at LF alone: `readline` would end them at U+2028 too.
  const decoder = new StringDecoder('utf8')
  let rest = ''
  child.stdout.on('data', (bytes: Buffer) => {
    const lines = (rest + decoder.write(bytes)).split('\n')
    rest = lines.pop()!
    for (const text of lines) waiting.shift()?.resolve(JSON.parse(text) as Parsed)
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  void ended.then(() => {
    for (const one of waiting.splice(0)) one.reject(new Error('the parser ended'))
  })
  return {
    parse(kind, line, limits = 'hosted') {
      const text = line.endsWith('\n') ? line.slice(0, -1) : line
      if (text.includes('\n')) throw new Error('two lines are not one')
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject })
        child.stdin.write(`${LETTERS[kind]}${limits === 'hosted' ? 'h' : 'p'}${text}\n`)
      })
    },
    async stop() {
      child.stdin.end()
      await ended
    },
  }
}
